//! Directories: packed as oras packs them, and unpacked safely.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Stdio;

use flate2::Compression;
use flate2::write::GzEncoder;
use orlop::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::support::*;

const UNPACK: &str = "io.deis.oras.content.unpack";
const CONTENT: &str = "io.deis.oras.content.digest";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Every name below a directory with what it is, its mode, its time and its content.
fn described(root: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut todo = vec![root.to_owned()];
    while let Some(path) = todo.pop() {
        let found = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let what = if found.is_symlink() {
            format!("-> {}", fs::read_link(&path).unwrap().display())
        } else if found.is_file() {
            Digest::of(&fs::read(&path).unwrap()).to_string()
        } else {
            todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            "directory".to_owned()
        };
        lines.push(format!("{name} {:o} {} {what}", found.mode() & 0o7777, found.mtime()));
    }
    lines.sort();
    lines
}

/// A directory with everything that can be packed, at whole seconds, which is what an archive keeps.
fn site(place: &Place, name: &str) {
    place.write(&format!("{name}/index.html"), "<p>hello");
    place.write(&format!("{name}/bin/run"), "#!/bin/sh\n");
    place.write(&format!("{name}/empty"), "");
    place.write(&format!("{name}/caf\u{e9} \u{1f980}"), "name");
    place.write(&format!("{name}/{}/{}", "d".repeat(120), "f".repeat(120)), "long");
    place.write(&format!("{name}/large"), (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
    fs::create_dir_all(place.path(&format!("{name}/nothing/in/here"))).unwrap();
    symlink("../index.html", place.path(&format!("{name}/bin/link"))).unwrap();
    symlink("dangling", place.path(&format!("{name}/broken"))).unwrap();
    fs::set_permissions(place.path(&format!("{name}/bin/run")), Permissions::from_mode(0o755)).unwrap();
    // Whatever the umask is.
    let script = format!(
        "chmod -R u=rwX,go=rX {name} && chmod 550 {name}/bin && \
         find {name} -depth -exec touch -h -d '2020-02-03T04:05:06Z' {{}} +"
    );
    let done = std::process::Command::new("sh").args(["-c", &script]).current_dir(place.0.path()).status();
    assert!(done.unwrap().success());
}

fn manifest(place: &Place, digest: &str) -> Value {
    let path = place.path(&format!("s/blobs/{}", digest.trim().replace(':', "/")));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// A member of an archive, as anybody may write one.
fn entry(kind: EntryType, path: &str, link: &str, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o6755);
    header.set_mtime(1_600_000_000);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

impl Layout {
    /// An artifact whose one layer is a packed directory.
    fn packed(&mut self, name: &str, title: &str, archive: &[u8]) -> Digest {
        let content = Digest::of(archive).to_string();
        self.packed_as(name, title, &gzip(archive), &json!({UNPACK: "true", CONTENT: content, TITLE: title}))
    }

    fn packed_as(&mut self, name: &str, title: &str, packed: &[u8], annotations: &Value) -> Digest {
        let digest = self.artifact(name, &[(Some(title), packed)]);
        let path = self.root.join(format!("blobs/sha256/{}", digest.encoded()));
        let mut document: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        document["layers"][0]["annotations"] = annotations.clone();
        document["layers"][0]["mediaType"] = json!(GZIP);
        self.entries.pop();
        self.document(name, MANIFEST, &document);
        digest
    }
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend([0; 1024]);
    bytes
}

#[test]
fn a_directory_comes_back_as_it_was() {
    let place = Place::new();
    site(&place, "site");
    let pushed = place.json(&["push", "oci:s:v1", "site/"]);
    let layer = manifest(&place, pushed["digest"].as_str().unwrap())["layers"][0].clone();
    assert_eq!(layer["mediaType"], GZIP);
    assert_eq!(keys(&layer["annotations"]), [CONTENT, UNPACK, TITLE]);
    assert_eq!(layer["annotations"][UNPACK], "true");
    assert_eq!(layer["annotations"][TITLE], "site");

    let pulled = place.json(&["pull", "oci:s:v1", "-o", "out"]);
    assert_eq!(described(&place.path("out/site")), described(&place.path("site")));
    assert_eq!(pulled["files"][0]["path"], place.path("out/site").canonicalize().unwrap().to_str().unwrap());
    // Nothing of the work is left beside it.
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);
    let archive = flate2::read::GzDecoder::new(
        fs::File::open(
            place.path(&format!("s/blobs/{}", layer["digest"].as_str().unwrap().replace(':', "/"))),
        )
        .unwrap(),
    );
    let mut archive = tar::Archive::new(archive);
    let names: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    assert!(names.is_sorted(), "{names:?}");
}

/// The digest of the archive is the one that oras 1.3.6 gives for the same directory.
#[test]
fn the_archive_is_that_of_oras() {
    let place = Place::new();
    site(&place, "site");
    let digest = place.push(&["oci:s:v1", "site"]);
    let content = manifest(&place, &digest)["layers"][0]["annotations"][CONTENT].clone();
    assert_eq!(content, "sha256:1ff4878214d6ba530b830c725b8ee758faf18c507d551020e2213a1f8a1fd4b6");
}

#[test]
fn the_same_directory_has_the_same_digest() {
    let place = Place::new();
    site(&place, "site");
    let push = || place.push(&["oci:s:v1", "site"]);
    let first = push();
    assert_eq!(push(), first);
    let with_epoch = |seconds: &str| {
        let args = ["push", "-q", "oci:s:v1", "site"];
        let run = place.command(&args).env("SOURCE_DATE_EPOCH", seconds).output().unwrap();
        assert!(run.status.success(), "{}", text(&run.stderr));
        manifest(&place, &text(&run.stdout))["layers"][0]["digest"].clone()
    };
    let fixed = with_epoch("1700000000");
    place.write("site/index.html", "<p>hello");
    assert_eq!(with_epoch("1700000000"), fixed, "times do not matter");
    assert_ne!(with_epoch("1700000001"), fixed);
    assert_ne!(push(), first, "without it they do");
}

#[test]
fn a_directory_can_be_the_present_one_or_have_another_name_and_type() {
    let place = Place::new();
    place.write("in/a/b", "one");
    let push = |args: &[&str]| {
        let run = place.command(&[&["push"], args].concat()).current_dir(place.path("in")).output().unwrap();
        assert!(run.status.success(), "{}", text(&run.stderr));
    };
    push(&["oci:../s:here", "."]);
    place.write("out/kept", "kept");
    place.ok(&["pull", "oci:s:here", "-o", "out"]);
    assert_eq!(fs::read(place.path("out/a/b")).unwrap(), b"one");
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 2);

    place.write("notes.json", r#"{"a":{"org.opencontainers.image.title":"x/y"}}"#);
    push(&["oci:../s:named", "a:application/x.tree", "--annotation-file", "../notes.json"]);
    let digest = place.ok(&["resolve", "oci:s:named"]);
    assert_eq!(manifest(&place, &digest)["layers"][0]["mediaType"], "application/x.tree");
    place.ok(&["pull", "oci:s:named", "-o", "out2"]);
    assert_eq!(fs::read(place.path("out2/x/y/b")).unwrap(), b"one");

    // Without the annotation it is a file like any other.
    let mut layout = Layout::new(place.path("plain"));
    layout.packed_as("v1", "d", b"bytes", &json!({UNPACK: "false", TITLE: "d"}));
    place.ok(&["pull", "oci:plain:v1", "-o", "out3"]);
    assert_eq!(fs::read(place.path("out3/d")).unwrap(), b"bytes");
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let place = Place::new();
    place.write("d/a", "a");
    let status = std::process::Command::new("mkfifo").arg(place.path("d/fifo")).status().unwrap();
    assert!(status.success());
    assert!(place.fails(2, &["push", "oci:s:v1", "d"]).contains("path=d/fifo"));
    fs::remove_file(place.path("d/fifo")).unwrap();
    assert!(place.fails(2, &["push", "oci:d/store:v1", "d"]).contains("the layout is in the directory"));
    assert!(
        place.fails(2, &["push", "oci:s:v1", "a", "--config", "d"]).contains("config is a directory, path=d")
    );
    assert!(!place.path("s").exists() && !place.path("d/store").exists());
    symlink("/etc/passwd", place.path("d/away")).unwrap();
    let run = place.run(&["push", "oci:s:v1", "d"]);
    assert!(run.status.success());
    assert!(text(&run.stderr).contains("note: a link leads out of the directory"), "{}", text(&run.stderr));
    assert!(place.fails(9, &["pull", "oci:s:v1", "-o", "out"]).contains("entry=d/away"));
}

#[test]
fn what_is_there_is_merged_file_by_file() {
    let place = Place::new();
    place.write("d/a", "new");
    place.write("d/sub/b", "new");
    symlink("a", place.path("d/link")).unwrap();
    place.push(&["oci:s:v1", "d"]);
    place.write("out/d/a", "old");
    place.write("out/d/sub/kept", "kept");
    symlink("elsewhere", place.path("out/d/link")).unwrap();
    fs::set_permissions(place.path("out/d/sub"), Permissions::from_mode(0o711)).unwrap();

    let before = described(&place.path("out"));
    let stderr = place.fails(1, &["pull", "oci:s:v1", "-o", "out", "--keep-old-files"]);
    assert!(stderr.contains("a file is there already") && stderr.contains("out/d/a"), "{stderr}");
    let names =
        |lines: Vec<String>| lines.into_iter().filter(|line| !line.starts_with(' ')).collect::<Vec<_>>();
    assert_eq!(names(described(&place.path("out"))), names(before));

    place.ok(&["pull", "oci:s:v1", "-o", "out"]);
    assert_eq!(fs::read(place.path("out/d/a")).unwrap(), b"new");
    assert_eq!(fs::read(place.path("out/d/sub/b")).unwrap(), b"new");
    assert_eq!(fs::read(place.path("out/d/sub/kept")).unwrap(), b"kept");
    assert_eq!(fs::read_link(place.path("out/d/link")).unwrap(), Path::new("a"));
    assert_eq!(fs::metadata(place.path("out/d/sub")).unwrap().mode() & 0o777, 0o711);
    // Now everything is as it should be, so there is nothing to refuse.
    place.ok(&["pull", "oci:s:v1", "-o", "out", "--keep-old-files"]);

    for (name, code) in [("a", 1), ("sub", 1)] {
        let path = place.path(&format!("out/d/{name}"));
        if name == "a" {
            fs::remove_file(&path).unwrap()
        } else {
            fs::remove_dir_all(&path).unwrap()
        }
        if name == "a" {
            fs::create_dir(&path).unwrap()
        } else {
            fs::write(&path, "file").unwrap()
        }
        let stderr = place.fails(code, &["pull", "oci:s:v1", "-o", "out"]);
        assert!(stderr.contains(&format!("out/d/{name}")), "{stderr}");
        if name == "a" { fs::remove_dir(&path).unwrap() } else { fs::remove_file(&path).unwrap() }
    }
}

#[test]
fn nothing_is_written_through_a_link_that_is_there() {
    let place = Place::new();
    place.write("d/sub/b", "new");
    place.push(&["oci:s:v1", "d"]);
    for link in ["out/d", "out/d/sub"] {
        let _ = fs::remove_dir_all(place.path("out"));
        fs::create_dir_all(place.path("elsewhere/sub")).unwrap();
        fs::create_dir_all(place.path(link).parent().unwrap()).unwrap();
        symlink(place.path("elsewhere"), place.path(link)).unwrap();
        let stderr = place.fails(9, &["pull", "oci:s:v1", "-o", "out"]);
        assert!(stderr.contains("a symbolic link stands where a directory belongs"), "{stderr}");
        assert!(tree(&place.path("elsewhere")).is_empty());
    }
}

/// Whatever an archive says, nothing of it is written, and nothing outside.
#[test]
fn archives_that_lead_out_are_refused_whole() {
    use EntryType::{Directory, Link, Regular, Symlink};
    let place = Place::new();
    place.write("outside/file", "safe");
    let good = || entry(Regular, "d/good", "", b"good");
    let outside = place.path("outside").display().to_string();
    let absolute = format!("{outside}/x");
    let evil: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("absolute", vec![entry(Regular, &absolute, "", b"x")], "absolute path"),
        ("above", vec![entry(Regular, "d/../../outside/x", "", b"x")], "leads out"),
        ("elsewhere", vec![entry(Regular, "e/x", "", b"x")], "not in its directory"),
        ("prefix", vec![entry(Regular, "dd", "", b"x")], "not in its directory"),
        ("instead", vec![entry(Regular, "d", "", b"x")], "in place of its directory"),
        ("root link", vec![entry(Symlink, "d", "outside", b"")], "in place of its directory"),
        ("link", vec![entry(Symlink, "d/l", "../outside", b"")], "leads out"),
        ("absolute link", vec![entry(Symlink, "d/l", &outside, b"")], "leads out"),
        ("empty link", vec![entry(Symlink, "d/l", "", b"")], "link to nothing"),
        (
            "through",
            vec![
                entry(Directory, "d/sub", "", b""),
                entry(Symlink, "d/l", "sub", b""),
                entry(Regular, "d/l/x", "", b"x"),
            ],
            "no directory",
        ),
        (
            "two links",
            vec![entry(Symlink, "d/here", ".", b""), entry(Symlink, "d/up", "here/../outside", b"")],
            "goes up again behind a name",
        ),
        ("hard link", vec![entry(Link, "d/l", "../outside/file", b"")], "hard link"),
        ("absolute hard link", vec![entry(Link, "d/l", "/etc/passwd", b"")], "hard link"),
        ("hard link to nothing", vec![entry(Link, "d/l", "d/none", b"")], "hard link to no file"),
        (
            "hard link to a link",
            vec![entry(Symlink, "d/a", "good", b""), entry(Link, "d/l", "d/a", b"")],
            "hard link to no file",
        ),
    ];
    let mut layout = Layout::new(place.path("s"));
    for (index, (name, entries, _)) in evil.iter().enumerate() {
        let archive = archive(&[&[entry(Directory, "d", "", b""), good()], entries.as_slice()].concat());
        layout.packed(&format!("v{index}"), "d", &archive);
        let _ = name;
    }
    let before = tree(&place.path("outside"));
    for (index, (name, _, what)) in evil.iter().enumerate() {
        let stderr = place.fails(9, &["pull", &format!("oci:s:v{index}"), "-o", "out"]);
        assert!(stderr.contains(what), "{name}: {stderr}");
        assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0, "{name}");
        assert_eq!(tree(&place.path("outside")), before, "{name}");
    }
}

#[test]
fn links_inside_are_kept_and_odd_entries_are_left_out() {
    use EntryType::{Char, Directory, Fifo, Link, Regular, Symlink};
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let entries = [
        entry(Directory, "d/", "", b""),
        entry(Regular, "d/sub/file", "", b"content"),
        entry(Link, "d/hard", "d/sub/file", b""),
        entry(Link, "d/sub/hard", "file", b""),
        entry(Symlink, "d/sub/up", "../hard", b""),
        entry(Fifo, "d/fifo", "", b""),
        entry(Char, "d/device", "", b""),
        entry(Regular, "d/twice", "", b"one"),
        entry(Regular, "d/twice", "", b"two"),
    ];
    layout.packed("v1", "d", &archive(&entries));
    let run = place.run(&["pull", "oci:s:v1", "-o", "out"]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("entries=2"), "{}", text(&run.stderr));
    let inode = |name: &str| fs::symlink_metadata(place.path(&format!("out/d/{name}"))).unwrap().ino();
    assert_eq!(inode("hard"), inode("sub/file"));
    assert_eq!(inode("sub/hard"), inode("sub/file"));
    assert_eq!(fs::read(place.path("out/d/sub/up")).unwrap(), b"content");
    assert_eq!(fs::read(place.path("out/d/twice")).unwrap(), b"two");
    assert!(!place.path("out/d/fifo").exists() && !place.path("out/d/device").exists());
    // The bits that give rights to others than who runs it are gone.
    let mode =
        |name: &str| fs::symlink_metadata(place.path(&format!("out/d/{name}"))).unwrap().mode() & 0o7777;
    assert_eq!((mode("sub/file"), mode("")), (0o755, 0o755));
}

#[test]
fn what_unpacks_to_too_much_is_refused() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let large = archive(&[entry(EntryType::Regular, "d/zeros", "", &vec![0; 3_000_000])]);
    layout.packed("v1", "d", &large);
    let stderr = place.fails(9, &["pull", "oci:s:v1", "-o", "out", "--unpack-limit", "2M"]);
    assert!(stderr.contains("unpack_limit=2000000") && stderr.contains("--unpack-limit"), "{stderr}");
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);
    // An entry counts beside the archive, with its path and what it takes to keep it.
    let limit = large.len() + "d/zeros".len() + 512;
    place.fails(9, &["pull", "oci:s:v1", "-o", "out", "--unpack-limit", &(limit - 1).to_string()]);
    place.ok(&["pull", "oci:s:v1", "-o", "out", "--unpack-limit", &limit.to_string()]);
    place.fails(2, &["pull", "oci:s:v1", "--unpack-limit", "much"]);

    // Zeros without end, as far as a limit that nobody gave.
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let mut header = Header::new_gnu();
    header.set_path("d/bomb").unwrap();
    header.set_size(1 << 40);
    header.set_mode(0o644);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    for _ in 0..1_050 {
        bomb.write_all(&vec![0; 1_000_000]).unwrap();
    }
    layout.packed_as("bomb", "d", &bomb.finish().unwrap(), &json!({UNPACK: "true", TITLE: "d"}));
    let stderr = place.fails(9, &["pull", "oci:s:bomb", "-o", "out2"]);
    assert!(stderr.contains("unpack_limit=1000000000"), "{stderr}");
    assert_eq!(fs::read_dir(place.path("out2")).unwrap().count(), 0);
}

/// Few packed bytes that name the same things over and over, or many that are empty.
#[test]
fn entries_count_against_the_limit() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let once = entry(EntryType::Directory, "d/a", "", b"");
    let many = archive(&vec![once; 2_000]);
    layout.packed("v1", "d", &many);
    let limit = many.len() + 2_000 * (512 + 3);
    let pull =
        |limit: usize| place.run(&["pull", "oci:s:v1", "-o", "out", "--unpack-limit", &limit.to_string()]);
    let run = pull(limit - 1);
    assert_eq!(run.status.code(), Some(9), "{}", text(&run.stderr));
    assert!(text(&run.stderr).contains("larger than allowed"), "{}", text(&run.stderr));
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0);
    assert!(pull(limit).status.success());
    assert!(place.path("out/d/a").is_dir());
}

/// Who is not root may move nothing out of a directory without the right to write.
#[test]
fn an_ordinary_user_gets_directories_that_cannot_be_written() {
    const NOBODY: u32 = 65534;
    let place = Place::new();
    place.write("d/locked/deep/file", "new");
    place.write("d/locked/other", "new");
    place.write("d/top", "new");
    for name in ["d/locked/deep", "d/locked"] {
        fs::set_permissions(place.path(name), Permissions::from_mode(0o555)).unwrap();
    }
    place.push(&["oci:s:v1", "d"]);
    let is_root = fs::metadata(place.path("s")).unwrap().uid() == 0;
    // Where that user can reach it.
    fs::copy(env!("CARGO_BIN_EXE_orlop"), place.path("orlop")).unwrap();
    fs::set_permissions(place.0.path(), Permissions::from_mode(0o755)).unwrap();
    let pull = |into: &str| {
        let mut command = if is_root {
            let mut command = std::process::Command::new("setpriv");
            command.args(["--reuid", &NOBODY.to_string(), "--clear-groups"]).arg(place.path("orlop"));
            command
        } else {
            std::process::Command::new(place.path("orlop"))
        };
        let run =
            command.args(["pull", "oci:s:v1", "-o", into]).current_dir(place.0.path()).output().unwrap();
        assert!(run.status.success(), "{into}: {}", text(&run.stderr));
        let names = fs::read_dir(place.path(into)).unwrap().count();
        assert_eq!(names, 1, "nothing of the work is left beside it");
    };
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().mode() & 0o777;
    for (into, there) in [("new", vec![]), ("merged", vec!["d"]), ("deeper", vec!["d", "d/locked"])] {
        fs::create_dir(place.path(into)).unwrap();
        for name in &there {
            fs::create_dir(place.path(into).join(name)).unwrap();
        }
        if is_root {
            for name in [""].iter().chain(&there) {
                chown(place.path(into).join(name), Some(NOBODY), None).unwrap();
            }
        }
        pull(into);
        assert_eq!(fs::read(place.path(into).join("d/locked/deep/file")).unwrap(), b"new");
        assert_eq!(fs::read(place.path(into).join("d/top")).unwrap(), b"new");
        assert_eq!(mode(&format!("{into}/d/locked/deep")), 0o555);
        let locked = mode(&format!("{into}/d/locked"));
        assert_eq!(locked == 0o555, into != "deeper", "{into}: {locked:o}");
        // Again: what is the same does not have to be moved.
        pull(into);
    }
    // So that whoever runs this can remove it.
    let done =
        std::process::Command::new("chmod").args(["-R", "u+w", "."]).current_dir(place.0.path()).status();
    assert!(done.unwrap().success());
}

/// Each of them is harmless by itself.
#[test]
fn two_directories_make_no_way_out_together() {
    use EntryType::{Regular, Symlink};
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let first = archive(&[entry(Symlink, "d/x", "y/a/z/../..", b"")]);
    let second = archive(&[entry(Regular, "d/y/a/b", "", b""), entry(Symlink, "d/y/a/z", "..", b"")]);
    layout.packed("first", "d", &first);
    layout.packed("second", "d/y", &second);
    place.ok(&["pull", "oci:s:second", "-o", "out"]);
    let stderr = place.fails(9, &["pull", "oci:s:first", "-o", "out"]);
    assert!(stderr.contains("goes up again behind a name") && stderr.contains("entry=d/x"), "{stderr}");
    assert!(fs::symlink_metadata(place.path("out/d/x")).is_err());
}

#[test]
fn damage_is_found_before_anything_is_in_its_place() {
    let place = Place::new();
    let mut layout = Layout::new(place.path("s"));
    let good = archive(&[entry(EntryType::Regular, "d/a", "", b"a")]);
    layout.packed_as("digest", "d", &gzip(&good), &json!({UNPACK: "true", CONTENT: EMPTY, TITLE: "d"}));
    layout.packed_as("gzip", "d", b"no gzip at all", &json!({UNPACK: "true", TITLE: "d"}));
    layout.packed("tar", "d", b"no tar at all, but long enough for nothing");
    layout.packed("cut", "d", &good[..700]);
    let truncated = gzip(&good);
    layout.packed_as("end", "d", &truncated[..truncated.len() - 9], &json!({UNPACK: "true", TITLE: "d"}));
    layout.packed_as("other", "d", &gzip(&good), &json!({UNPACK: "true", CONTENT: "md5:abc", TITLE: "d"}));
    layout.packed("bits", "d", &[good.as_slice(), b"more"].concat());
    let blob = Digest::of(&gzip(&[good.as_slice(), b"more"].concat()));
    let path = place.path(&format!("s/blobs/sha256/{}", blob.encoded()));
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    for (tag, what) in [
        ("digest", "another digest than announced"),
        ("gzip", "cannot be unpacked"),
        ("tar", "cannot be unpacked"),
        ("cut", "cannot be unpacked"),
        ("end", "cannot be unpacked"),
        ("bits", "content is "),
    ] {
        let stderr = place.fails(5, &["pull", &format!("oci:s:{tag}"), "-o", "out"]);
        assert!(stderr.contains(what), "{tag}: {stderr}");
        assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 0, "{tag}");
    }
    place.ok(&["pull", "oci:s:other", "-o", "out"]);
}

#[test]
fn pipes_and_standard_input() {
    let place = Place::with_files();
    let large: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    let push = |args: &[&str]| {
        let mut child = place.command(&[&["push", "oci:s:v1"], args].concat());
        let mut child =
            child.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&large).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    push(&["-"]);
    place.ok(&["pull", "oci:s:v1", "-o", "one"]);
    assert_eq!(fs::read(place.path("one/stdin")).unwrap(), large);
    push(&["-:application/sql", "a.txt", "--stdin-name", "dump.sql"]);
    let files = place.json(&["pull", "oci:s:v1", "-o", "two"])["files"].clone();
    assert_eq!(files[0]["mediaType"], "application/sql");
    assert_eq!(fs::read(place.path("two/dump.sql")).unwrap(), large);

    let script = format!(
        "mkfifo pipe; head -c 5000000 /dev/zero >pipe & '{}' push -q oci:s:v2 pipe:a/b",
        env!("CARGO_BIN_EXE_orlop")
    );
    let run =
        std::process::Command::new("sh").args(["-c", &script]).current_dir(place.0.path()).output().unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
    place.ok(&["pull", "oci:s:v2", "-o", "three"]);
    assert_eq!(fs::metadata(place.path("three/pipe")).unwrap().len(), 5_000_000);

    assert!(place.fails(2, &["push", "oci:s:v3", "-", "-"]).contains("name=stdin"));
    assert!(place.fails(2, &["push", "oci:s:v3", "-", "--config", "-"]).contains("path=-"));
    place.write("-", "a file");
    place.ok(&["push", "oci:s:v3", "./-"]);
    place.ok(&["pull", "oci:s:v3", "-o", "four"]);
    assert_eq!(fs::read(place.path("four/-")).unwrap(), b"a file");
}
