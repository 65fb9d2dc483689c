//! `orlop verify --closure`: is everything here that belonged to an artifact where it was copied from.

use std::collections::{BTreeSet, HashSet};

use orlop::oci::{LayoutName, RepositoryName, Role, Tag};
use orlop::transfer::{Closure, ClosureReport};
use orlop::{Digest, ErrorKind, Repository};
use serde::Serialize;

use crate::error::{Exit, Failure};
use crate::interrupt;
use crate::output::{Output, plain};
use crate::reference::{Selector, Target};
use crate::session;
use crate::view::all_repositories;

/// Findings that are printed for people.
const SHOWN: usize = 100;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    reference: String,
    records: Vec<Row>,
    /// Tags whose artifacts belong to no record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unrecorded: Vec<String>,
}

/// What became of one record.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    repository: RepositoryName,
    record: Digest,
    root: Option<Digest>,
    source: String,
    manifests: u64,
    attached: u64,
    sparse: u64,
    findings: Vec<Finding>,
    /// Types that were asked for and are not attached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lacks: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finding {
    status: &'static str,
    digest: Digest,
    manifest: Digest,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    detail: String,
}

/// Checks every record of a layout, or those of one artifact.
pub(crate) fn run(target: &Target, hash: bool, require: &[String], output: &Output) -> Result<(), Failure> {
    let store = session::read(target, output)?;
    let (names, root) = match target.selector {
        Selector::Layout => (all_repositories(&store)?, None),
        _ => {
            let (repository, descriptor) = target.find(&store)?.into_parts();
            (vec![repository], Some(descriptor.digest))
        }
    };
    let (mut rows, mut unrecorded) = (Vec::new(), Vec::new());
    for name in &names {
        let repository = store.repository(name);
        let mut recorded = HashSet::new();
        for record in Closure::records(&repository)? {
            interrupt::check("what was found so far is not shown")?;
            recorded.insert(record);
            rows.extend(check(&repository, &record, root.as_ref(), hash, require, &mut recorded)?);
        }
        if root.is_none() {
            unrecorded.extend(tags_beside(&repository, &recorded)?);
        }
    }
    if rows.is_empty() {
        return Err(Failure::new(
            Exit::Policy,
            format!("there is no record of what belongs to it, reference={}", target.shown()),
        )
        .with_hint("`orlop cp -r` leaves one; what was copied without it cannot be proved complete"));
    }
    print(target, rows, unrecorded, output)
}

/// Tags of a repository that name something else than these manifests.
fn tags_beside(repository: &Repository, recorded: &HashSet<Digest>) -> Result<Vec<String>, Failure> {
    const PAGE: usize = 1000;
    let (mut names, mut after) = (Vec::new(), None::<Tag>);
    loop {
        let page = repository.tags(after.as_ref().map(Tag::as_str), PAGE)?;
        let beside = page.items.iter().filter(|tag| !recorded.contains(&tag.digest));
        names.extend(beside.map(|tag| LayoutName::of(repository.name(), &tag.tag)));
        after = page.items.last().map(|tag| tag.tag.clone());
        if !page.more {
            return Ok(names);
        }
    }
}

/// None for the record of another root.
fn check(
    repository: &Repository,
    record: &Digest,
    root: Option<&Digest>,
    hash: bool,
    require: &[String],
    recorded: &mut HashSet<Digest>,
) -> Result<Option<Row>, Failure> {
    let row = |root, source, report: ClosureReport, lacks| Row {
        repository: repository.name().clone(),
        record: *record,
        root,
        source,
        manifests: report.manifests,
        attached: report.attached,
        sparse: report.sparse,
        findings: report.findings.into_iter().map(Finding::of).collect(),
        lacks,
    };
    let closure = match Closure::read(repository, record) {
        Ok(closure) => closure,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) => {
            let status = if error.kind() == ErrorKind::NotFound { "missing" } else { "corrupt" };
            let mut row = row(None, String::new(), ClosureReport::default(), Vec::new());
            row.findings.push(Finding {
                status,
                digest: *record,
                manifest: *record,
                artifact_type: Some(Closure::ARTIFACT_TYPE.to_owned()),
                detail: error.to_string(),
            });
            return Ok(Some(row));
        }
        Err(error) => return Err(error.into()),
    };
    if root.is_some_and(|root| *root != closure.root) {
        return Ok(None);
    }
    recorded.extend(closure.manifests.iter().map(|manifest| manifest.digest));
    let report = closure.check(repository, hash)?;
    let mut lacks = Vec::new();
    for kind in require {
        if !is_attached(repository, &closure.root, kind)? {
            lacks.push(kind.clone());
        }
    }
    Ok(Some(row(Some(closure.root), closure.source, report, lacks)))
}

/// Whether this is attached to a manifest, or to every image of an index that is here. What runs nowhere is no image, such as the attestations
/// that builders list beside them.
fn is_attached(repository: &Repository, root: &Digest, kind: &str) -> Result<bool, Failure> {
    let has = |digest: &Digest| -> Result<bool, Failure> {
        let found = repository.referrers(digest).artifact_type(kind).limit(1).page()?;
        Ok(!found.descriptors.is_empty())
    };
    if has(root)? {
        return Ok(true);
    }
    let Some(manifest) = repository.manifest(root)? else { return Ok(false) };
    let (manifest, mut images) = (manifest.parse()?, 0);
    for child in manifest.successors().iter().filter(|child| child.role == Role::Manifest) {
        let (digest, platform) = (child.descriptor.digest, child.descriptor.platform.as_deref());
        if platform.is_some_and(|platform| platform.os == "unknown")
            || repository.manifest(&digest)?.is_none()
        {
            continue;
        }
        if !has(&digest)? {
            return Ok(false);
        }
        images += 1;
    }
    Ok(images > 0)
}

impl Finding {
    fn of(finding: orlop::transfer::ClosureFinding) -> Self {
        Self {
            status: if finding.is_corrupt { "corrupt" } else { "missing" },
            digest: finding.digest,
            manifest: finding.manifest,
            artifact_type: finding.artifact_type,
            detail: finding.detail,
        }
    }

    fn shown(&self) -> String {
        let kind = self.artifact_type.as_deref().map(|kind| format!(" {}", plain(kind))).unwrap_or_default();
        format!("{} {}{kind} of {}: {}\n", self.status, self.digest, self.manifest, plain(&self.detail))
    }
}

fn print(
    target: &Target,
    records: Vec<Row>,
    unrecorded: Vec<String>,
    output: &Output,
) -> Result<(), Failure> {
    let count = |status: &str| {
        let findings = records.iter().flat_map(|row| &row.findings);
        findings.filter(|finding| finding.status == status).count()
    };
    let (corrupt, missing) = (count("corrupt"), count("missing"));
    let lacks: BTreeSet<(Option<Digest>, String)> =
        records.iter().flat_map(|row| row.lacks.iter().map(|kind| (row.root, kind.clone()))).collect();
    let digests: BTreeSet<String> =
        records.iter().flat_map(|row| &row.findings).map(|finding| finding.digest.to_string()).collect();
    let checked = Checked { reference: target.shown(), records, unrecorded };
    output.result(digests, &checked, || text(&checked))?;
    let hint = "`orlop cp -r` from where it came from brings what is missing or damaged";
    let failure = |exit, what: &str, count| {
        Failure::new(exit, format!("{what}, reference={}, findings={count}", target.shown()))
    };
    match (corrupt, missing, lacks.first()) {
        (0, 0, None) => match checked.unrecorded.first() {
            None => Ok(()),
            Some(first) => {
                let count = checked.unrecorded.len();
                Err(failure(Exit::Policy, "there is no record of what belongs to some names", count)
                    .with_hint(format!(
                        "{} is one; what was copied without `orlop cp -r` cannot be proved complete",
                        plain(first)
                    )))
            }
        },
        (0, 0, Some((root, kind))) => {
            let root = root.map(|root| root.to_string()).unwrap_or_default();
            Err(failure(Exit::Policy, "something that is required is not attached", lacks.len())
                .with_hint(format!("{} is not attached to {root}", plain(kind))))
        }
        (0, missing, _) => {
            Err(failure(Exit::Incomplete, "what belongs to it is missing", missing).with_hint(hint))
        }
        (corrupt, ..) => {
            Err(failure(Exit::Integrity, "what belongs to it is damaged", corrupt).with_hint(hint))
        }
    }
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    for row in &checked.records {
        let root = row.root.map_or_else(|| row.record.to_string(), |root| root.to_string());
        let state = if row.findings.is_empty() { "complete" } else { "not complete" };
        text.push_str(&format!(
            "{root}: {state}, {} manifests, {} of them attached, {} left out on purpose, from {}\n",
            row.manifests,
            row.attached,
            row.sparse,
            plain(&row.source)
        ));
    }
    for name in checked.unrecorded.iter().take(SHOWN) {
        text.push_str(&format!("{}: no record\n", plain(name)));
    }
    if checked.unrecorded.len() > SHOWN {
        text.push_str(&format!("and {} further names without a record\n", checked.unrecorded.len() - SHOWN));
    }
    let findings: Vec<&Finding> = checked.records.iter().flat_map(|row| &row.findings).collect();
    text.extend(findings.iter().take(SHOWN).map(|finding| finding.shown()));
    if findings.len() > SHOWN {
        text.push_str(&format!("and {} further findings\n", findings.len() - SHOWN));
    }
    text
}
