//! What a path asks for (distribution-spec, "Endpoints").

/// The resource that a path names; names are as they came, unchecked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Route<'a> {
    /// `/v2/`
    Base,
    /// `/v2/_catalog`
    Catalog,
    /// `/v2/<name>/blobs/<digest>`
    Blob { name: &'a str, digest: &'a str },
    /// `/v2/<name>/blobs/uploads/`
    Uploads { name: &'a str },
    /// `/v2/<name>/blobs/uploads/<id>`
    Upload { name: &'a str, id: &'a str },
    /// `/v2/<name>/manifests/<reference>`
    Manifest { name: &'a str, reference: &'a str },
    /// `/v2/<name>/tags/list`
    Tags { name: &'a str },
    /// `/v2/<name>/referrers/<digest>`
    Referrers { name: &'a str, digest: &'a str },
    /// `/v2/<name>/_oras/artifacts/referrers` (ORAS artifacts-spec)
    ArtifactReferrers { name: &'a str },
    /// `/v2/_oci/ext/discover`, `/v2/<name>/_oci/ext/discover`
    Extensions { name: Option<&'a str> },
}

impl<'a> Route<'a> {
    /// Reads a path from its end, since every component of an endpoint may be one of a repository's name too.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/v2")?;
        if rest.is_empty() || rest == "/" {
            return Some(Self::Base);
        }
        let rest = rest.strip_prefix('/')?;
        match rest {
            "_catalog" => return Some(Self::Catalog),
            "_oci/ext/discover" => return Some(Self::Extensions { name: None }),
            _ => {}
        }
        for (suffix, route) in [
            ("/tags/list", (|name| Self::Tags { name }) as fn(&'a str) -> Self),
            ("/blobs/uploads/", |name| Self::Uploads { name }),
            ("/blobs/uploads", |name| Self::Uploads { name }),
            ("/_oras/artifacts/referrers", |name| Self::ArtifactReferrers { name }),
            ("/_oci/ext/discover", |name| Self::Extensions { name: Some(name) }),
        ] {
            if let Some(name) = rest.strip_suffix(suffix) {
                return Some(route(name));
            }
        }
        let (head, last) = rest.rsplit_once('/')?;
        let (name, kind) = head.rsplit_once('/')?;
        match kind {
            "uploads" => name.strip_suffix("/blobs").map(|name| Self::Upload { name, id: last }),
            "blobs" => Some(Self::Blob { name, digest: last }),
            "manifests" => Some(Self::Manifest { name, reference: last }),
            "referrers" => Some(Self::Referrers { name, digest: last }),
            _ => None,
        }
    }

    /// The repository's name in it.
    pub(super) fn name(&self) -> Option<&'a str> {
        match *self {
            Self::Base | Self::Catalog => None,
            Self::Extensions { name } => name,
            Self::Blob { name, .. }
            | Self::Uploads { name }
            | Self::Upload { name, .. }
            | Self::Manifest { name, .. }
            | Self::Tags { name }
            | Self::Referrers { name, .. }
            | Self::ArtifactReferrers { name } => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_from_their_end() {
        for (path, expected) in [
            ("/v2/", Some(Route::Base)),
            ("/v2", Some(Route::Base)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/blobs/sha256:1", Some(Route::Blob { name: "a", digest: "sha256:1" })),
            ("/v2/a/b/blobs/c/blobs/d", Some(Route::Blob { name: "a/b/blobs/c", digest: "d" })),
            ("/v2/a/blobs/uploads/", Some(Route::Uploads { name: "a" })),
            ("/v2/a/blobs/uploads", Some(Route::Uploads { name: "a" })),
            ("/v2/a/blobs/uploads/x", Some(Route::Upload { name: "a", id: "x" })),
            ("/v2/uploads/blobs/uploads/x", Some(Route::Upload { name: "uploads", id: "x" })),
            ("/v2/a/manifests/v1", Some(Route::Manifest { name: "a", reference: "v1" })),
            ("/v2/a/manifests/manifests/v1", Some(Route::Manifest { name: "a/manifests", reference: "v1" })),
            ("/v2/a/tags/list", Some(Route::Tags { name: "a" })),
            ("/v2/tags/list/tags/list", Some(Route::Tags { name: "tags/list" })),
            ("/v2/a/referrers/sha256:1", Some(Route::Referrers { name: "a", digest: "sha256:1" })),
            ("/v2/a/_oras/artifacts/referrers", Some(Route::ArtifactReferrers { name: "a" })),
            ("/v2/_oci/ext/discover", Some(Route::Extensions { name: None })),
            ("/v2/a/b/_oci/ext/discover", Some(Route::Extensions { name: Some("a/b") })),
            ("/v2/a", None),
            ("/v2x/a/tags/list", None),
            ("/v2/a/uploads/x", None),
            ("/v1/", None),
            ("", None),
        ] {
            assert_eq!(Route::of(path), expected, "{path}");
        }
    }
}
