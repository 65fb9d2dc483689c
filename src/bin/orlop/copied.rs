//! What a copy did, for people and for programs.

use std::time::Duration;

use orlop::Digest;
use orlop::oci::Role;
use orlop::transfer::Copied;
use serde::Serialize;

use crate::endpoint::Named;
use crate::error::Failure;
use crate::names::Move;
use crate::output::{self, Output, plain};
use crate::view::plural;

/// Failures that are printed for people.
const SHOWN: usize = 20;

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// What was done.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    reference: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    references: u64,
    digests: Vec<Digest>,
    tags: Vec<String>,
    manifests: u64,
    copied: u64,
    present: u64,
    mounted: u64,
    resumed: u64,
    bytes: u64,
    resumed_bytes: u64,
    pub(crate) seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent: Vec<Missing>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<LeftOut>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed: Vec<Failed>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Missing {
    digest: Digest,
    manifest: Digest,
    role: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LeftOut {
    digest: Digest,
    index: Digest,
    platform: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Failed {
    pub(crate) reference: String,
    pub(crate) error: String,
}

impl Report {
    pub(crate) fn new(to: &str, dry_run: bool) -> Self {
        Self {
            reference: to.to_owned(),
            dry_run,
            references: 0,
            digests: Vec::new(),
            tags: Vec::new(),
            manifests: 0,
            copied: 0,
            present: 0,
            mounted: 0,
            resumed: 0,
            bytes: 0,
            resumed_bytes: 0,
            seconds: 0.0,
            absent: Vec::new(),
            left_out: Vec::new(),
            failed: Vec::new(),
        }
    }

    pub(crate) fn done(&mut self, one: &Move, to: &Named) {
        self.references += 1;
        self.digests.push(one.root);
        self.tags.extend(one.tags.iter().map(|tag| to.by_tag(&one.to, tag)));
    }

    pub(crate) fn add(&mut self, copied: Copied) {
        self.manifests += copied.manifests;
        self.copied += copied.copied;
        self.present += copied.present;
        self.mounted += copied.mounted;
        self.resumed += copied.resumed;
        self.bytes += copied.bytes;
        self.resumed_bytes += copied.resumed_bytes;
        self.absent.extend(copied.absent.iter().filter(|absent| absent.role != Role::Subject).map(
            |absent| Missing {
                digest: absent.digest,
                manifest: absent.manifest,
                role: role_name(absent.role).into(),
            },
        ));
        self.left_out.extend(copied.left_out.into_iter().map(|out| LeftOut {
            digest: out.digest,
            index: out.index,
            platform: out.platform,
        }));
    }

    /// What was done, on one line.
    fn summary(&self) -> String {
        let mut text =
            format!("{} copied, {}; {} there already", self.copied, output::size(self.bytes), self.present);
        if self.mounted > 0 {
            text.push_str(&format!("; {} mounted", self.mounted));
        }
        if self.resumed > 0 {
            text.push_str(&format!("; {} resumed behind {}", self.resumed, output::size(self.resumed_bytes)));
        }
        let milliseconds = Duration::from_secs_f64(self.seconds).as_millis();
        let rate = u128::from(self.bytes) * 1000 / milliseconds.max(1);
        text.push_str(&format!(
            "; {} {}, {} {}; {:.1} s, {}/s",
            self.references,
            plural(count(self.references), "reference"),
            self.manifests,
            plural(count(self.manifests), "manifest"),
            self.seconds,
            output::size(u64::try_from(rate).unwrap_or(u64::MAX))
        ));
        text
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Config => "config",
        Role::Layer => "layer",
        Role::Blob => "blob",
        Role::Manifest => "manifest",
        Role::Subject => "subject",
        _ => "other",
    }
}

/// Prints it.
pub(crate) fn print(report: &Report, from: &str, output: &Output) -> Result<(), Failure> {
    if !report.absent.is_empty() {
        output.note(format!(
            "the source lacks some of what it refers to, and so does the copy, absent={}",
            report.absent.len()
        ));
    }
    if !report.left_out.is_empty() {
        output.note(format!(
            "left out because of --platform, and known to be so, manifests={}",
            report.left_out.len()
        ));
    }
    for failed in report.failed.iter().take(SHOWN) {
        output.note(format!("not copied, reference={}: {}", failed.reference, failed.error));
    }
    output.summary(report.summary());
    output.result(&report.digests, report, || {
        let verb = if report.dry_run { "Would copy" } else { "Copied" };
        let mut text = format!("{verb} {} => {}\n", plain(from), plain(&report.reference));
        if let [digest] = report.digests.as_slice() {
            text.push_str(&format!("Digest: {digest}\n"));
        }
        text
    })
}
