//! Descriptors: what points to content (image-spec, `descriptor.md`).

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeserializeDerive, Serialize};

use super::Annotations;
use crate::digest::Digest;

/// Points to content: its media type, digest and size, and what is said about it.
///
/// Written with the names of the image-spec; empty fields are left out, unknown ones ignored on input, and `null` is
/// taken for an empty field, as programs in Go write it. A missing media type reads as an empty one.
#[non_exhaustive]
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is, as `type/subtype`.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes; at most `i64::MAX`, as the image-spec has it.
    pub size: u64,
    /// What the artifact is that the content, a manifest, describes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Facts about the content, by name.
    #[serde(skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    /// What the content, an image, runs on. Boxed because it is rare, and lists of descriptors are long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Box<Platform>>,
    /// Where else the content can be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// The content itself in base64, as it was written: see [`inlined`](Self::inlined).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}

impl Descriptor {
    /// A descriptor with nothing but what every descriptor has.
    #[must_use]
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.into(),
            digest,
            size,
            artifact_type: None,
            annotations: Annotations::new(),
            platform: None,
            urls: Vec::new(),
            data: None,
        }
    }

    /// The content that the descriptor carries itself in `data`, if it does and if that is what digest and size say.
    #[must_use]
    pub fn inlined(&self) -> Option<Vec<u8>> {
        let bytes = super::base64::decode(self.data.as_deref()?)?;
        let is_it = bytes.len() as u64 == self.size && self.digest.algorithm().digest(&bytes) == self.digest;
        is_it.then_some(bytes)
    }

    /// The same with one more annotation, or another value of it.
    #[must_use]
    pub fn with_annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// The same with an artifact type.
    #[must_use]
    pub fn with_artifact_type(mut self, artifact_type: impl Into<String>) -> Self {
        self.artifact_type = Some(artifact_type.into());
        self
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Object(fields) = Object::<Fields<Digest>>::deserialize(deserializer)?;
        let digest = fields.digest;
        Ok(fields.with_digest(digest))
    }
}

/// A descriptor as it is read, where the digest may be one that content cannot be stored under.
#[derive(DeserializeDerive)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fields<D> {
    #[serde(default, deserialize_with = "or_default")]
    pub(super) media_type: String,
    pub(super) digest: D,
    #[serde(deserialize_with = "size")]
    pub(super) size: u64,
    pub(super) artifact_type: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) annotations: Annotations,
    pub(super) platform: Option<Object<Platform>>,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) urls: Vec<String>,
    pub(super) data: Option<String>,
}

impl<D> Fields<D> {
    /// The descriptor, once it is known that the digest is one of ours.
    pub(super) fn with_digest(self, digest: Digest) -> Descriptor {
        Descriptor {
            media_type: self.media_type,
            digest,
            size: self.size,
            artifact_type: self.artifact_type,
            annotations: self.annotations,
            platform: self.platform.map(|Object(platform)| Box::new(platform)),
            urls: self.urls,
            data: self.data,
        }
    }
}

/// A JSON object, and nothing else: what serde derives also takes an array for a struct, member by member, which would
/// be a second spelling of every document that no other reader knows.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// What an image runs on (image-spec, `image-index.md`).
#[non_exhaustive]
#[derive(Clone, Debug, Default, DeserializeDerive, Eq, PartialEq, Serialize)]
pub struct Platform {
    /// The processor, as in `GOARCH`.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// The operating system, as in `GOOS`.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// The version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// What the operating system must be able to do.
    #[serde(
        rename = "os.features",
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub os_features: Vec<String>,
    /// The variant of the processor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// As it is asked for: `OS/ARCH[/VARIANT][:OS_VERSION]`.
impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.iter().try_for_each(|variant| write!(f, "/{variant}"))?;
        self.os_version.iter().try_for_each(|version| write!(f, ":{version}"))
    }
}

impl Platform {
    /// A platform with nothing but what every platform has.
    #[must_use]
    pub fn new(os: impl Into<String>, architecture: impl Into<String>) -> Self {
        Self { architecture: architecture.into(), os: os.into(), ..Self::default() }
    }
}

/// Takes `null` for the default.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A size that every reader can hold: the image-spec's is an int64, and never negative.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    if i64::try_from(size).is_err() {
        return Err(de::Error::custom(format!("size does not fit an int64, size={size}")));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use super::*;

    fn read(json: &str) -> Result<Descriptor, String> {
        let json = json.replace('D', &Digest::of(b"").to_string());
        serde_json::from_str(&json).map_err(|error| error.to_string())
    }

    #[test]
    fn written_as_the_spec_says() {
        let plain = Descriptor::new("a/b", Digest::of(b""), 0);
        let head = format!(r#"{{"mediaType":"a/b","digest":"{}","size":0"#, Digest::of(b""));
        assert_eq!(serde_json::to_string(&plain).unwrap(), format!("{head}}}"));

        let mut full = plain.with_annotation("k", "1").with_annotation("k", "2").with_artifact_type("c/d");
        full.platform = Some(Box::new(Platform {
            os_version: Some("10".into()),
            os_features: vec!["f".into()],
            variant: Some("v8".into()),
            ..Platform::new("linux", "arm64")
        }));
        full.urls = vec!["https://example.com/".into()];
        full.data = Some("e30=".into());
        let text = serde_json::to_string(&full).unwrap();
        let tail = concat!(
            r#","artifactType":"c/d","annotations":{"k":"2"},"platform":{"architecture":"arm64","os":"linux","#,
            r#""os.version":"10","os.features":["f"],"variant":"v8"},"urls":["https://example.com/"],"data":"e30="}"#
        );
        assert_eq!(text, head + tail);
        assert_eq!(serde_json::from_str::<Descriptor>(&text).unwrap(), full);
    }

    #[test]
    fn data_counts_only_if_it_is_the_content() {
        let carrying = |data: &str, content: &[u8], size| Descriptor {
            data: Some(data.into()),
            ..Descriptor::new("a/b", Digest::of(content), size)
        };
        assert_eq!(carrying("e30=", b"{}", 2).inlined().unwrap(), b"{}");
        assert_eq!(carrying("", b"", 0).inlined().unwrap(), b"");
        assert_eq!(Descriptor::new("a/b", Digest::of(b""), 0).inlined(), None);
        for wrong in [carrying("e30=", b"{}", 3), carrying("e30=", b"[]", 2), carrying("e30", b"{}", 2)] {
            assert_eq!(wrong.inlined(), None);
        }
    }

    #[test]
    fn read_leniently() {
        let expected = Descriptor::new("", Digest::of(b""), 7);
        for json in [
            r#"{"digest":"D","size":7}"#,
            r#"{"mediaType":null,"digest":"D","size":7,"annotations":null,"urls":null,"platform":null,"data":null}"#,
            r#"{"mediaType":"","digest":"D","size":7,"artifactType":null,"annotations":{},"urls":[],"x":{"y":[1]}}"#,
        ] {
            assert_eq!(read(json).unwrap(), expected, "{json}");
        }
        let platform =
            read(r#"{"digest":"D","size":7,"platform":{"os":"linux","os.features":null,"features":["x"]}}"#);
        assert_eq!(platform.unwrap().platform, Some(Box::new(Platform::new("linux", ""))));
    }

    #[test]
    fn refused() {
        for (json, needle) in [
            (r#"{"digest":"D"}"#, "size"),
            (r#"{"size":1}"#, "digest"),
            (r#"{"digest":"D","size":-1}"#, "-1"),
            (r#"{"digest":"D","size":1.5}"#, "1.5"),
            (r#"{"digest":"D","size":"1"}"#, "\"1\""),
            (r#"{"digest":"D","size":9223372036854775808}"#, "size=9223372036854775808"),
            (r#"{"digest":"sha256:../../etc","size":1}"#, "digest=sha256:../../etc"),
            (r#"{"digest":1,"size":1}"#, "`1`"),
            (r#"["a/b","D",1,null,null,null,null,null]"#, "an object"),
            (r#"{"digest":"D","size":1,"platform":["amd64","linux",null,null,null]}"#, "an object"),
        ] {
            let message = read(json).unwrap_err();
            assert!(message.contains(needle), "{message}");
        }
        assert!(read(r#"{"digest":"D","size":9223372036854775807}"#).is_ok());
    }
}
