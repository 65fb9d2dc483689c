//! The metadata against themselves, the manifests and the files: a full mark, as the second opinion on what the store
//! keeps up to date row by row.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::content::cause;
use super::{Finding, Flaw, Verifier, VerifyReport};
use crate::blobs::Listed;
use crate::digest::{Algorithm, Digest};
use crate::error::{Error, ErrorKind, Result};
use crate::metadata::{Class, GraphRow, Kind, ManifestRecord, RepositoryId, View};
use crate::oci::layout::INDEX_FILE;
use crate::oci::{LayoutName, Manifest, RepositoryName, Role, read_index};
use crate::store::lost::keeps;
use crate::store::merge::IndexFile;
use crate::store::repositories::stored_name;
use crate::store::{Core, until, usage};

/// What nothing needs is compared with the queue in parts of this size.
const ALONE: usize = 1 << 16;

impl Verifier<'_> {
    /// Compares at one moment of the store; what changes meanwhile is not looked at.
    pub(super) fn compare_index(&mut self, report: &mut VerifyReport) -> Result<()> {
        let core = self.store.core();
        let view = core.metadata.snapshot();
        let mut names: HashMap<RepositoryId, RepositoryName> = HashMap::new();
        view.repositories(None, |name, id| {
            names.insert(id, stored_name(name)?);
            Ok(until(false))
        })?;
        let mut compare = Compare { core, view: &view, report, names: &names };
        for id in names.keys() {
            compare.manifests(*id)?;
            compare.blobs(*id)?;
            compare.tags(*id)?;
        }
        compare.unqueued_blobs()?;
        compare.graph()?;
        compare.contents()?;
        compare.usage()?;
        compare.files()?;
        compare.published()
    }
}

struct Compare<'a> {
    core: &'a Core,
    view: &'a View<'a>,
    report: &'a mut VerifyReport,
    names: &'a HashMap<RepositoryId, RepositoryName>,
}

impl Compare<'_> {
    fn manifests(&mut self, id: RepositoryId) -> Result<()> {
        let view = self.view;
        view.manifests(id, None, |digest, record| {
            self.report.rows += 1;
            self.member(id, Kind::Manifest, &digest)?;
            match self.core.parse_stored(view, &record.media_type, &digest) {
                Ok(Some(manifest)) => self.manifest(id, &digest, &record, &manifest)?,
                Ok(None) => {}
                // Its content is damaged, which is a finding of its own.
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Io) => {}
                Err(error) => return Err(error),
            }
            Ok(until(false))
        })
    }

    /// Every edge that the manifest makes has its row.
    fn manifest(
        &mut self,
        id: RepositoryId,
        digest: &Digest,
        record: &ManifestRecord,
        manifest: &Manifest,
    ) -> Result<()> {
        let mut roles: BTreeMap<Digest, u8> = BTreeMap::new();
        let mut lacks = false;
        for child in manifest.successors() {
            *roles.entry(child.descriptor.digest).or_default() |= 1 << child.role.code();
            lacks |= !self.view.holds(id, &child.descriptor.digest)?;
        }
        if lacks && !record.sparse {
            self.fault(
                digest,
                id,
                "it refers to content that its repository does not hold, and is not marked so",
            );
        }
        if let Some(subject) = manifest.subject() {
            *roles.entry(subject.digest).or_default() |= 1 << Role::Subject.code();
            match self.view.referrer(id, &subject.digest, record.sequence)? {
                Some(row) if row.descriptor.digest == *digest => {}
                _ => self.fault(digest, id, "it is not among the referrers of its subject"),
            }
        }
        for (child, roles) in roles {
            if self.view.edge(id, &child, digest)? != Some(roles) {
                self.fault(digest, id, &format!("its edge is missing or another one, child={child}"));
            }
        }
        Ok(())
    }

    fn blobs(&mut self, id: RepositoryId) -> Result<()> {
        let view = self.view;
        view.blobs(id, None, |digest| {
            self.report.rows += 1;
            self.member(id, Kind::Blob, &digest)?;
            Ok(until(false))
        })
    }

    fn member(&mut self, id: RepositoryId, kind: Kind, digest: &Digest) -> Result<()> {
        if self.view.content(digest)?.is_none() {
            self.fault(digest, id, "a repository holds it and it is not among the contents");
        }
        let mut held = false;
        self.view.holders(digest, |holder, found| {
            held = (holder, found) == (id, kind);
            Ok(until(held))
        })?;
        if !held {
            self.fault(digest, id, "a repository holds it and is not among its holders");
        }
        Ok(())
    }

    fn tags(&mut self, id: RepositoryId) -> Result<()> {
        let view = self.view;
        view.tags(id, None, |tag, target| {
            self.report.rows += 1;
            if !view.is_member(id, Kind::Manifest, &target)? {
                self.fault(
                    &target,
                    id,
                    &format!("a tag names it and its repository does not hold it, tag={tag}"),
                );
            }
            let mut back = false;
            view.tags_of(id, &target, |found| {
                back = found == tag;
                Ok(until(back))
            })?;
            if !back {
                self.fault(&target, id, &format!("a tag names it and is not among its tags, tag={tag}"));
            }
            Ok(until(false))
        })
    }

    /// Every row of the graph has what it was made from. Rows of a repository that is being deleted are on their way out.
    fn graph(&mut self) -> Result<()> {
        let view = self.view;
        view.graph(|row| {
            self.report.rows += 1;
            let (about, id, from, kind) = match &row {
                GraphRow::Holder { digest, id, kind } => (digest, *id, *digest, *kind),
                GraphRow::Edge { child, id, parent, roles } => {
                    if *roles == 0 {
                        self.fault(child, *id, &format!("an edge without a role, manifest={parent}"));
                    }
                    (child, *id, *parent, Kind::Manifest)
                }
                GraphRow::Referrer { subject, id, record, .. } => {
                    (subject, *id, record.descriptor.digest, Kind::Manifest)
                }
                GraphRow::ReferrerOrder { subject, id, sequence } => {
                    if self.names.contains_key(id) && view.referrer(*id, subject, *sequence)?.is_none() {
                        self.fault(subject, *id, "an order of its referrers has one that is not there");
                    }
                    return Ok(until(false));
                }
            };
            if self.names.contains_key(&id) && !view.is_member(id, kind, &from)? {
                self.fault(
                    about,
                    id,
                    &format!("the graph has a row of what its repository does not hold, from={from}"),
                );
            }
            Ok(until(false))
        })
    }

    fn contents(&mut self) -> Result<()> {
        let view = self.view;
        let mut alone = HashSet::new();
        view.contents(|digest, _| {
            self.report.rows += 1;
            let (mut held, mut any) = (false, false);
            view.holders(&digest, |id, _| {
                any = true;
                held = self.names.contains_key(&id);
                Ok(until(held))
            })?;
            self.report.unheld += u64::from(!held);
            if !any {
                alone.insert((RepositoryId(0), digest));
            }
            self.unqueued(Class::Content, &mut alone, ALONE)?;
            Ok(until(false))
        })?;
        self.unqueued(Class::Content, &mut alone, 1)
    }

    /// Blobs that no manifest of their repository refers to wait for a collection.
    fn unqueued_blobs(&mut self) -> Result<()> {
        let view = self.view;
        let mut alone = HashSet::new();
        for id in self.names.keys() {
            view.blobs(*id, None, |digest| {
                let mut referred = false;
                view.parents(*id, &digest, None, |_, roles| {
                    referred = keeps(roles);
                    Ok(until(referred))
                })?;
                if !referred {
                    alone.insert((*id, digest));
                }
                self.unqueued(Class::Blob, &mut alone, ALONE)?;
                Ok(until(false))
            })?;
        }
        self.unqueued(Class::Blob, &mut alone, 1)
    }

    /// Of what nothing needs, if that is so many, reports what is not in the queue either: it would take space for ever.
    fn unqueued(
        &mut self,
        class: Class,
        alone: &mut HashSet<(RepositoryId, Digest)>,
        most: usize,
    ) -> Result<()> {
        if alone.len() < most || self.core.ephemeral.is_some() {
            return Ok(());
        }
        self.view.queued(class, None, u64::MAX, |row| {
            alone.remove(&(row.id, row.digest));
            Ok(until(alone.is_empty()))
        })?;
        for (id, digest) in alone.drain() {
            self.fault(&digest, id, "nothing needs it and no collection will look at it");
        }
        Ok(())
    }

    /// The counters are what counting gives.
    fn usage(&mut self) -> Result<()> {
        for (id, detail) in usage::differences(self.view)? {
            let repositories: Vec<RepositoryName> =
                id.and_then(|id| self.names.get(&id)).cloned().into_iter().collect();
            let of = match (id, repositories.first()) {
                (None, _) => "of the store".to_owned(),
                (Some(_), Some(name)) => format!("of the repository \"{name}\""),
                (Some(_), None) => "of a deleted repository".to_owned(),
            };
            let detail = format!("the usage {of} is not what counting gives, {detail}");
            let flaw = Flaw::Metadata;
            self.report.add(Finding { digest: None, flaw, detail, repositories, quarantined: false });
        }
        Ok(())
    }

    /// Files that no row knows.
    fn files(&mut self) -> Result<()> {
        for algorithm in Algorithm::ALL {
            for name in self.core.blobs.list(algorithm)? {
                let (digest, detail) = match name? {
                    // Filed since the snapshot was taken, or about to be known.
                    Listed::Digest(digest) if self.core.metadata.view().content(&digest)?.is_some() => {
                        continue;
                    }
                    // Its removal is under way.
                    Listed::Digest(digest) if self.core.metadata.view().is_tombstone(&digest)? => continue,
                    Listed::Digest(digest) => (Some(digest), "a file that no metadata know".to_owned()),
                    Listed::Foreign(name) => {
                        let name = name.to_string_lossy().escape_debug().to_string();
                        (None, format!("a file that is no content, name={algorithm}/{name}"))
                    }
                };
                let repositories = Vec::new();
                self.report.add(Finding {
                    digest,
                    flaw: Flaw::Unknown,
                    detail,
                    repositories,
                    quarantined: false,
                });
            }
        }
        Ok(())
    }

    /// What `index.json` names is there, and if it is the file that this store wrote, its names are ours.
    fn published(&mut self) -> Result<()> {
        let core = self.core;
        let fail = |error| Error::io("read index.json", &core.root, error);
        let Some(file) = core.root_dir.open_file(INDEX_FILE).map_err(fail)? else {
            if core.ephemeral.is_none() && core.inspect_index()? == IndexFile::Lost {
                self.fault_published(None, "index.json is missing".to_owned());
            }
            return Ok(());
        };
        let (mut missing, mut unreadable) = (Vec::new(), Vec::new());
        let read = read_index(file, &mut |entry| {
            let name = match entry.name() {
                Some(LayoutName::Tag(repository, tag)) => LayoutName::of(&repository, &tag),
                Some(LayoutName::Foreign(name)) => name,
                None => "-".to_owned(),
            };
            // Other tools may name what nobody can store; that is theirs.
            let Ok(digest) = entry.digest.parse::<Digest>() else { return Ok(()) };
            match core.blobs.stat_size(&digest) {
                Ok(Some(_)) => {}
                Err(error) if error.kind() == ErrorKind::Io => unreadable.push((digest, cause(&error))),
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                Ok(None) | Err(_) if core.metadata.view().journal_id(&digest)?.is_some() => {}
                Ok(None) | Err(_) => missing.push((digest, name)),
            }
            Ok(())
        });
        for (digest, name) in missing {
            self.fault_published(Some(digest), format!("it names what is not there, name={name}"));
        }
        // Not known to be missing.
        for (digest, detail) in unreadable {
            self.report.add(Finding {
                digest: Some(digest),
                flaw: Flaw::Unreadable,
                detail,
                repositories: Vec::new(),
                quarantined: false,
            });
        }
        match read {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                self.fault_published(None, error.to_string());
                Ok(())
            }
            other => other,
        }
    }

    fn fault_published(&mut self, digest: Option<Digest>, detail: String) {
        let repositories = Vec::new();
        self.report.add(Finding { digest, flaw: Flaw::Published, detail, repositories, quarantined: false });
    }

    fn fault(&mut self, digest: &Digest, id: RepositoryId, detail: &str) {
        let repositories = self.names.get(&id).cloned().into_iter().collect();
        let detail = detail.to_owned();
        self.report.add(Finding {
            digest: Some(*digest),
            flaw: Flaw::Metadata,
            detail,
            repositories,
            quarantined: false,
        });
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests may panic")]

    use crate::metadata::{ContentRecord, Rows, TagRecord};
    use crate::oci::media_type;
    use crate::store::{Options, Store};

    use super::*;

    struct Place {
        _dir: tempfile::TempDir,
        store: Store,
        id: RepositoryId,
        config: Digest,
        manifest: Digest,
        referrer: Digest,
    }

    /// A store with a tagged manifest, its config and a referrer.
    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().create(dir.path().join("s")).unwrap();
        let repository = store.default_repository();
        let config = repository.push_bytes("{}").unwrap().digest;
        let described = |media_type: &str, digest: Digest, size: usize| {
            format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}}}"#)
        };
        let document =
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, described("a/b", config, 2));
        let subject = described(media_type::IMAGE_MANIFEST, Digest::of(document.as_bytes()), document.len());
        let tag = "v1".parse().unwrap();
        let manifest =
            repository.push_manifest(media_type::IMAGE_MANIFEST, document.clone(), &[tag]).unwrap().digest;
        let document = document.replace("}}", &format!(r#"}},"subject":{subject}}}"#));
        let document =
            document.replace(r#","layers":[]}"#, &format!(r#","layers":[],"subject":{subject}}}"#));
        let referrer = repository.push_manifest(media_type::IMAGE_MANIFEST, document, &[]).unwrap().digest;
        let id = store.core().metadata.view().repository("").unwrap().unwrap();
        Place { _dir: dir, store, id, config, manifest, referrer }
    }

    #[test]
    fn every_contradiction_of_the_metadata_is_found() {
        type Spoil = fn(&Place, &mut Rows<'_>);
        let cases: [(&str, Spoil); 10] = [
            ("the usage of the store is not what counting gives", |_, rows| rows.add_usage(None, 1)),
            ("the usage of the repository \"\" is not", |at, rows| rows.add_usage(Some(at.id), -1)),
            ("its edge is missing", |at, rows| rows.delete_edge(at.id, &at.config, &at.manifest)),
            ("its edge is missing", |at, rows| rows.put_edge(at.id, &at.config, &at.manifest, 1 << 7)),
            ("a row of what its repository does not hold", |at, rows| {
                rows.put_edge(at.id, &at.config, &Digest::of(b"nobody"), 2);
            }),
            ("not among the contents", |at, rows| rows.put_member(at.id, &Digest::of(b"nothing"), None)),
            ("not among the referrers", |at, rows| {
                let view = at.store.core().metadata.view();
                let sequence = view.manifest(at.id, &at.referrer).unwrap().unwrap().sequence;
                let row = view.referrer(at.id, &at.manifest, sequence).unwrap().unwrap();
                rows.delete_referrer(at.id, &at.manifest, sequence, &row);
            }),
            ("a tag names it and its repository does not hold it", |at, rows| {
                let ghost = TagRecord { target: Digest::of(b"ghost"), changed: None };
                rows.move_tag(at.id, "ghost", None, Some(&ghost));
            }),
            ("does not hold, and is not marked so", |at, rows| {
                rows.delete_member(at.id, Kind::Blob, &at.config)
            }),
            ("its file is not there", |_, rows| {
                rows.put_content(&Digest::of(b"gone"), &ContentRecord::new(4));
            }),
        ];
        for (expected, spoil) in cases {
            let place = place();
            assert!(place.store.verify().index(true).run().unwrap().is_sound(), "{expected}");
            let mut rows = place.store.core().metadata.rows();
            spoil(&place, &mut rows);
            rows.commit(false).unwrap();
            let report = place.store.verify().index(true).run().unwrap();
            let found: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
            assert!(found.iter().any(|text| text.contains(expected)), "{expected}: {found:?}");
            assert!(!report.is_sound(), "{expected}");
        }
    }
}
