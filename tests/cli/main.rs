//! The command line from outside: what is printed where, exit codes, JSON names, and that a pull writes what was pushed
//! and never anywhere else.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]
#![expect(clippy::disallowed_methods, reason = "tests make and read files")]
#![expect(clippy::disallowed_types, reason = "the names in the documents are what is tested")]

mod artifacts;
mod bench;
mod completions;
mod concurrency;
mod copying;
mod cp;
mod dedup;
mod dedup_archives;
mod dedup_html;
mod directories;
mod flags;
mod hostile;
mod import_proof;
mod integrity;
mod interrupts;
mod quirks;
mod quirks_attached;
mod quirks_content;
mod quirks_documents;
mod quirks_names;
mod references;
mod remote;
mod remote_tls;
mod serve;
mod serve_archives;
mod serve_limits;
mod serve_names;
mod serve_policy;
mod serve_support;
mod support;
mod tree;
mod verbs_archive;
mod verbs_blob;
mod verbs_gc;
mod verbs_manifest;
mod verbs_names;
mod verbs_rm;
mod verbs_usage;
