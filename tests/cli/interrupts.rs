//! Signals: the work ends at the next piece, and the layout is what it was.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use orlop::Options;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::*;

/// The program with signals as a terminal has them: what runs these tests may ignore some, and a program keeps to that.
fn command(place: &Place, args: &[&str]) -> Command {
    let program = place.command(args);
    let mut command = Command::new("env");
    command.args(["--default-signal=INT", "--default-signal=TERM", "--default-signal=HUP"]);
    command.arg(program.get_program()).args(args).env_remove("SOURCE_DATE_EPOCH");
    command.current_dir(place.path("")).stdin(Stdio::null());
    command
}

/// Without a program in between: the work must not end before the signal comes.
fn signal(child: &Child, name: &str) {
    let signal = match name {
        "INT" => Signal::INT,
        "TERM" => Signal::TERM,
        "HUP" => Signal::HUP,
        _ => Signal::KILL,
    };
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Starts a push from a pipe that never ends, and waits until it is at work.
fn endless(place: &Place, args: &[&str]) -> (Child, Child) {
    let mut source = Command::new("cat").arg("/dev/zero").stdout(Stdio::piped()).spawn().unwrap();
    let pipe = source.stdout.take().unwrap();
    let mut push = command(place, args);
    let push = push.stdin(pipe).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while staged(place).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    (push, source)
}

fn end(mut source: Child) {
    let _ = source.kill();
    let _ = source.wait();
}

/// Content in the layout that is nobody's yet.
fn staged(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path("s/.orlop/ingest")).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    names.filter(|name| name.starts_with("tmp-")).collect()
}

/// What another tool sees: every file under blobs is what its name says, and what index.json lists is there.
fn assert_valid(place: &Place, tags: &[&str]) {
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(place.path("s/index.json")).unwrap()).unwrap();
    let mut listed = Vec::new();
    for entry in index["manifests"].as_array().unwrap() {
        let digest = entry["digest"].as_str().unwrap().replace(':', "/");
        assert!(place.path("s/blobs").join(digest).exists());
        listed.push(entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap().to_owned());
    }
    assert_eq!(listed, tags);
    for (name, content) in tree(&place.path("s/blobs/sha256")) {
        assert_eq!(orlop::Digest::of(&content).encoded().to_string(), name.to_str().unwrap());
    }
    assert_eq!(place.ok(&["ls", "-q", "oci:s"]).lines().count(), tags.len());
}

#[test]
fn the_first_signal_stops_the_work_and_leaves_nothing() {
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let place = Place::with_files();
        place.push(&["oci:s:v1", "a.txt"]);
        let (push, source) = endless(&place, &["push", "oci:s:v2", "a.txt", "-"]);
        signal(&push, name);
        let output = push.wait_with_output().unwrap();
        end(source);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(
            stderr.contains(&format!("error: interrupted; nothing was stored, signal=SIG{name}")),
            "{stderr}"
        );
        assert_eq!(text(&output.stdout), "");
        assert_eq!(staged(&place), [""; 0]);
        assert_valid(&place, &["v1"]);
    }
}

/// A pipe that nobody writes into is no reason to wait for ever.
#[test]
fn waiting_for_a_pipe_ends() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    assert!(Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
    let mut push = command(&place, &["push", "oci:s:v2", "pipe"]);
    let push = push.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&push, "INT");
    let output = push.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert_valid(&place, &["v1"]);
}

#[test]
fn waiting_for_the_lock_ends() {
    let place = Place::with_files();
    let store = Options::new().create(place.path("s")).unwrap();
    let mut push = command(&place, &["push", "oci:s:v1", "a.txt", "--lock-timeout", "10m"]);
    let push = push.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    signal(&push, "INT");
    let start = Instant::now();
    let output = push.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(20));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("interrupted; nothing was changed, signal=SIGINT"), "{stderr}");
    store.close().unwrap();
}

#[test]
fn what_was_killed_is_cleared_by_the_next_writer() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    let (mut push, source) = endless(&place, &["push", "oci:s:v2", "-"]);
    push.kill().unwrap();
    push.wait().unwrap();
    end(source);
    assert_valid(&place, &["v1"]);
    place.push(&["oci:s:v3", "a.txt"]);
    assert_eq!(staged(&place), [""; 0]);
    assert_valid(&place, &["v1", "v3"]);
}

#[test]
fn an_interrupted_copy_moves_no_tag_and_the_next_one_goes_on() {
    let place = Place::with_files();
    // Many contents, each in a file of its own: the copy takes long enough to be met in the middle.
    let names: Vec<String> = (0..4000).map(|n| format!("many/{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        place.write(name, format!("{n} {}", "x".repeat(40_000)));
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    place.push(&[&["oci:from:v2"], names.as_slice()].concat());
    place.push(&["oci:s:v1", "a.txt"]);
    let mut copy = command(&place, &["cp", "--no-link", "oci:from:v2", "oci:s"]);
    let copy = copy.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while staged(&place).is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not begin");
        std::hint::spin_loop();
    }
    signal(&copy, "INT");
    let output = copy.wait_with_output().unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{stderr}");
    assert!(stderr.contains("error: interrupted; its tags have not moved"), "{stderr}");
    assert_eq!(staged(&place), [""; 0]);
    assert_valid(&place, &["v1"]);
}

#[test]
fn content_that_is_pushed_alone_stops_too() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    let (push, source) = endless(&place, &["blob", "push", "oci:s", "-"]);
    signal(&push, "TERM");
    let output = push.wait_with_output().unwrap();
    end(source);
    assert_eq!(output.status.code(), Some(143), "{}", text(&output.stderr));
    assert_eq!(staged(&place), [""; 0]);
    assert_valid(&place, &["v1"]);
}
