//! A process that is killed at any moment: what it acknowledged is there, and what it did not is there whole or not at all.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use orlop::{Expect, Options, Publish};

use crate::support::*;

const KILLS: usize = 12;
const WORKERS: usize = 3;

/// What worker `worker` pushes in step `step`; everything of it is computed anew by the parent.
fn artifact(worker: usize, round: usize, step: usize) -> Artifact {
    image(&format!("worker {worker} round {round} step {step}"), 2)
}

fn large(worker: usize, round: usize, step: usize) -> Vec<u8> {
    noise((worker * 1_000_000 + round * 10_000 + step) as u64, 40_000 + step * 100)
}

/// The body of the child process; by itself it has nothing to do.
#[test]
fn child_that_is_killed() {
    let Some(root) = std::env::var_os("ORLOP_TEST_KILLED") else { return };
    let round: usize = std::env::var("ORLOP_TEST_ROUND").unwrap().parse().unwrap();
    let store = Options::new().publish(Publish::Interval(Duration::from_millis(5))).open(&root).unwrap();
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let store = store.clone();
            scope.spawn(move || {
                let here = repo(&store, &format!("worker-{worker}"));
                for step in 0.. {
                    let artifact = artifact(worker, round, step);
                    let mut batch = store.batch();
                    for part in &artifact.parts {
                        batch.push_bytes(&here, part.clone()).unwrap();
                    }
                    if step % 3 == 0 {
                        batch.push_bytes(&here, large(worker, round, step)).unwrap();
                    }
                    let digest =
                        batch.push_manifest(&here, artifact.media_type, artifact.bytes.clone()).unwrap();
                    batch.tag(&here, &tag(&format!("r{round}-s{step}")), digest, Expect::Absent);
                    batch.tag(&here, &tag("latest"), digest, Expect::Any);
                    batch.commit().unwrap();
                    if step % 10 == 9 {
                        store.flush().unwrap();
                    }
                    writeln!(std::io::stdout(), "acknowledged {worker} {step}").unwrap();
                }
            });
        }
    });
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_at_any_moment() {
    let (dir, store) = fresh();
    store.close().unwrap();
    let mut acknowledged: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::child_that_is_killed", "--nocapture"])
            .env("ORLOP_TEST_KILLED", dir.root())
            .env("ORLOP_TEST_ROUND", round.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let killer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(60 + (round as u64 * 97) % 400));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        for line in output.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["acknowledged", worker, step] = words[..] {
                acknowledged.insert((worker.parse().unwrap(), round), step.parse().unwrap());
            }
        }
        killer.join().unwrap();

        // Before anybody mends anything, another tool finds nothing missing in what is published.
        Layout::sound(&dir.root());
        let store = options().open(dir.root()).unwrap();
        assert_eq!(store.reports(), [], "round {round}");
        for (&(worker, round), &last) in &acknowledged {
            let here = repo(&store, &format!("worker-{worker}"));
            // One more than acknowledged may have been committed.
            for step in 0..=last + 1 {
                let artifact = artifact(worker, round, step);
                let found = here.resolve(&tag(&format!("r{round}-s{step}"))).unwrap();
                assert!(found.is_some() || step > last, "round {round}: worker {worker} lost step {step}");
                let content = if step % 3 == 0 { Some(large(worker, round, step)) } else { None };
                for bytes in artifact.blobs().chain(&content) {
                    let blob = here.get(&digest_of(bytes)).unwrap();
                    assert_eq!(
                        blob.is_some(),
                        found.is_some(),
                        "round {round}: worker {worker} step {step} is half there"
                    );
                    assert!(blob.is_none_or(|blob| blob[..] == bytes[..]));
                }
            }
        }
        store.close().unwrap();
        Layout::sound(&dir.root());
    }
    assert!(acknowledged.values().sum::<usize>() > KILLS, "the child did next to nothing: {acknowledged:?}");
}
