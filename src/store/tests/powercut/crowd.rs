//! Several commit at once: many records of the log wait for one sync, and a cut takes any of their pages.

use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::{Value, json};

use super::super::artifact::Artifact;
use super::super::state::{State, difference, state};
use super::{Workload, say};
use crate::digest::Digest;
use crate::store::Expect;

/// The operation, as promises name it.
pub(super) const CROWD: &str = "crowd";

const THREADS: usize = 6;
const COMMITS: usize = 5;

impl Workload {
    /// Each pushes artifacts of its own, with a config that all have, which is counted for the first who has it.
    pub(super) fn crowd(&mut self) {
        let base = self.last.clone();
        let artifacts = |thread: usize, n: usize| {
            let seed = format!("{} {thread} {n}", self.seed());
            let image = Artifact::image(&seed, &[900, 5_000 + thread * 700]);
            // Of something that never comes, with a config that all of them have.
            let attached = Artifact::attached(&seed, &Artifact::image("nothing", &[]));
            [image, attached]
        };
        let name = |thread: usize| format!("crowd{}-{thread}", self.step);
        let facts = |thread: usize, n: usize| -> Vec<String> {
            let name = name(thread);
            let mut facts = Vec::new();
            for (kind, artifact) in ["image", "attached"].iter().zip(artifacts(thread, n)) {
                let digest = artifact.digest();
                facts.extend([format!("{name} manifest {digest}"), format!("{name} tag {kind}{n} {digest}")]);
                // What all have came with the first.
                let parts = artifact.parts.iter().filter(|part| n == 0 || part.as_slice() != b"{}");
                facts.extend(parts.map(|part| format!("{name} blob {}", Digest::of(part))));
            }
            facts
        };
        let of_thread = |thread| (0..COMMITS).map(move |n| facts(thread, n));
        let commits: Vec<Vec<String>> = (0..THREADS).flat_map(of_thread).collect();
        let promised = Mutex::new(base.clone());
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (this, promised, commits) = (&*self, &promised, &commits);
                let (artifacts, name) = (&artifacts, &name);
                scope.spawn(move || {
                    let here = this.repository(&name(thread));
                    for n in 0..COMMITS {
                        let mut batch = this.store().batch();
                        for (kind, artifact) in ["image", "attached"].iter().zip(artifacts(thread, n)) {
                            let digest = artifact.add(&mut batch, &here).unwrap();
                            batch.tag(&here, &format!("{kind}{n}").parse().unwrap(), digest, Expect::Absent);
                        }
                        batch.commit().unwrap();
                        let mut promised = promised.lock().unwrap_or_else(PoisonError::into_inner);
                        promised.extend(commits[thread * COMMITS + n].iter().cloned());
                        say(&json!({
                            "step": this.step, "kind": CROWD, "state": &*promised, "commits": commits, "foreign": [],
                            "checkpoints": this.checkpoints, "rebuilt": this.rebuilt,
                            "leased": this.leased.iter().map(ToString::to_string).collect::<Vec<_>>(),
                        }));
                    }
                });
            }
        });
        let (found, promised) = (state(self.store()).unwrap(), promised.into_inner().unwrap());
        assert!(found == promised, "the crowd left: {}", difference(&promised, &found));
        self.acknowledge("crowded", &[]);
    }
}

/// Whether a state is `old` and of what the crowd was at each commit as a whole.
pub(super) fn is_of_crowd(found: &State, old: &State, line: &Value) -> bool {
    let mut rest: State = found.difference(old).cloned().collect();
    let commits = line["commits"].as_array().into_iter().flatten();
    for commit in commits {
        let facts: Vec<&str> = commit.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let there = facts.iter().filter(|fact| found.contains(**fact)).count();
        if there != 0 && there != facts.len() {
            return false;
        }
        rest.retain(|fact| !facts.contains(&fact.as_str()));
    }
    rest.is_empty() && old.is_subset(found)
}
