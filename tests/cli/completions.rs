//! Completion scripts and manual pages: that the shells take them, and that a reference is completed from its layout.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use orlop::oci::RepositoryName;
use orlop::{Expect, Options};
use serde_json::json;

use crate::support::*;

/// Calls the completion as bash does: the word at the cursor is what stands behind the last of COMP_WORDBREAKS.
const DRIVER: &str = r#"
. ./completion.bash
COMP_LINE="$1"
COMP_POINT=${#COMP_LINE}
COMP_WORDS=($(printf '%s' "$COMP_LINE" | sed "s/[$2]/ & /g"))
word="${COMP_LINE##*[[:space:]$2]}"
if [ -z "$word" ] && [ "${COMP_LINE%[[:space:]]}" != "$COMP_LINE" ]; then COMP_WORDS+=(""); fi
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
COMP_WORDS[0]="$3"
_orlop_complete "$3" "$word" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

fn candidates(place: &Place, line: &str, breaks: &str) -> Vec<String> {
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", DRIVER, "driver", line, breaks, env!("CARGO_BIN_EXE_orlop")]);
    let output = bash.current_dir(place.0.path()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{line}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{line}");
    text(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn script(place: &Place, shell: &str) {
    let script = place.ok(&["completion", shell]);
    place.write(&format!("completion.{shell}"), script);
}

fn complete(place: &Place, word: &str) -> Vec<String> {
    let output = place.run(&["__complete", word]);
    assert!(output.status.success());
    assert_eq!(text(&output.stderr), "", "{word}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_verbs_and_references() {
    let place = Place::with_files();
    place.push(&["oci:s:v1,v2,latest", "a.txt"]);
    place.push(&["oci:s:team/app:v1", "a.txt"]);
    script(&place, "bash");
    let breaks = "=:@";
    for (line, expected) in [
        ("orlop resolve oci:s:", vec!["latest", "team/app:", "v1", "v2"]),
        ("orlop resolve oci:s:v", vec!["v1", "v2"]),
        ("orlop resolve oci:s:t", vec!["team/app:"]),
        ("orlop resolve oci:s:team/app:", vec!["v1"]),
        ("orlop resolve oci:s:nothing", vec![]),
        ("orlop resolve oci:none:", vec![]),
        ("orlop resolve oci", vec!["oci:"]),
        ("orlop resolve oci:", vec!["s", "sub/"]),
        ("orlop repair oci:x --from=oci:", vec!["s", "sub/"]),
        ("orlop pull -o d oci:s:l", vec!["latest"]),
        ("orlop unt", vec!["untag"]),
        ("orlop manifest fetch-", vec!["fetch-config"]),
        ("orlop cp --rec", vec!["--recursive"]),
        ("orlop ls oci:s --format ta", vec![]),
    ] {
        assert_eq!(candidates(&place, line, breaks), expected, "{line}");
    }
    // Whoever takes the colon out of COMP_WORDBREAKS has the whole word replaced.
    assert_eq!(candidates(&place, "orlop resolve oci:s:v", "="), ["oci:s:v1", "oci:s:v2"]);
    assert!(!candidates(&place, "orlop resolve ", breaks).iter().any(|word| word.starts_with(['<', '['])));
}

/// The other shells are not everywhere; where one is missing, this says so.
#[test]
fn shells_accept_their_scripts() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        script(&place, shell);
        let file = format!("completion.{shell}");
        match Command::new(shell).args(["-n", &file]).current_dir(place.0.path()).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", text(&output.stderr)),
            Err(error) if shell != "bash" => {
                // Past the test harness, which keeps back what a test that passes has printed.
                let said = format!("NOT CHECKED: the script of {shell}: {error}\n");
                std::io::stderr().write_all(said.as_bytes()).unwrap();
            }
            Err(error) => panic!("{shell}: {error}"),
        }
        assert!(fs::read_to_string(place.path(&file)).unwrap().contains(" __complete "), "{shell}");
    }
    for shell in ["powershell", "elvish"] {
        assert!(place.ok(&["completion", shell]).contains("orlop"));
    }
    assert!(place.run(&["completion", "tcsh"]).status.code() == Some(2));
}

#[test]
fn completing_writes_nothing_and_says_nothing() {
    let place = Place::with_files();
    place.push(&["oci:s:v1", "a.txt"]);
    place.push(&["--plain", "oci:p:v1", "a.txt"]);
    place.write("broken/index.json", "{");
    place.write("odd/index.json/x", "");
    for directory in ["s", "p", "broken", "odd"] {
        let before = listing(&place.path(directory));
        let found = complete(&place, &format!("oci:{directory}:v"));
        let expected: &[String] = &[format!("oci:{directory}:v1")];
        assert_eq!(found, if directory.len() == 1 { expected } else { &[] });
        assert_eq!(listing(&place.path(directory)), before, "{directory}");
    }
    for word in ["", "-", "oci:s@sha256:", "oci::", "oci:nowhere/", "oci:s:A:", "oci:a.txt:", "https://x"] {
        assert_eq!(complete(&place, word), [""; 0], "{word}");
    }
    // A writer that holds the lock is no reason to wait.
    let store = Options::new().open(place.path("s")).unwrap();
    assert_eq!(complete(&place, "oci:s:"), ["oci:s:v1"]);
    store.close().unwrap();
}

/// A name from a layout lands on somebody's command line.
#[test]
fn names_that_a_shell_would_run_are_not_offered() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("l"));
    for name in ["$(id)", "`id`", "a;id", "a b", "a\nb", "*", "v\u{1b}[2J", "v'", "docker.io/library/a:v1"] {
        layout.artifact(name, &[(Some("f"), name.as_bytes())]);
    }
    layout.entries.push(json!({"mediaType": MANIFEST}));
    layout.publish();
    assert_eq!(complete(&place, "oci:l:"), ["oci:l:docker.io/library/a:v1"]);
    fs::create_dir(place.path("$(id)")).unwrap();
    assert_eq!(complete(&place, "oci:"), ["oci:l"]);
}

#[test]
fn many_tags_are_offered_by_pages() {
    let place = Place::with_files();
    place.push(&["oci:s:first", "a.txt"]);
    let store = Options::new().open(place.path("s")).unwrap();
    let repository = store.repository(&RepositoryName::unnamed());
    let digest = repository.resolve(&"first".parse().unwrap()).unwrap().unwrap().digest;
    let mut batch = store.batch();
    for number in 0..3000 {
        batch.tag(&repository, &format!("t{number:04}").parse().unwrap(), digest, Expect::Any);
    }
    batch.commit().unwrap();
    drop(repository);
    store.close().unwrap();
    let all = complete(&place, "oci:s:");
    assert_eq!((all.len(), all[0].as_str()), (500, "oci:s:first"));
    assert_eq!(complete(&place, "oci:s:t299").len(), 10);
    assert_eq!(complete(&place, "oci:s:t2999"), ["oci:s:t2999"]);
}

#[test]
fn every_verb_has_a_manual_page_with_its_example() {
    let place = Place::new();
    place.ok(&["man", "pages/man1"]);
    let mut pages = 0;
    let mut todo = vec![Vec::new()];
    while let Some(verb) = todo.pop() {
        let help = place.ok(&[verb.as_slice(), &["--help"]].concat());
        let name = [&["orlop"], verb.as_slice()].concat().join("-");
        let page = fs::read_to_string(place.path(&format!("pages/man1/{name}.1"))).unwrap();
        // The first help has its verbs in groups.
        let listed = help.split_once("\nCommands:\n").or_else(|| help.split_once("\nArtifacts:\n"));
        if let Some((_, verbs)) = listed {
            for line in verbs.lines().take_while(|line| *line != "Options:") {
                let word = line
                    .split_whitespace()
                    .next()
                    .filter(|_| line.starts_with("  ") && !line.starts_with("   "));
                let word = word.filter(|word| *word != "help");
                todo.extend(word.map(|word| [verb.as_slice(), &[leak(word)]].concat()));
            }
        } else {
            let example = help.split_once("Example").unwrap().1.lines().nth(1).unwrap().trim().to_owned();
            assert!(example.starts_with("orlop "), "{example}");
            assert!(page.replace('\\', "").contains(&example), "{name}: {example}");
        }
        pages += 1;
    }
    assert_eq!(fs::read_dir(place.path("pages/man1")).unwrap().count(), pages);
    assert!(pages > 25, "{pages}");
    let error = place.fails(1, &["man", "/dev/null/man"]);
    assert!(error.contains("cannot write the manual, path=/dev/null/man"), "{error}");
}

fn leak(word: &str) -> &'static str {
    word.to_owned().leak()
}
