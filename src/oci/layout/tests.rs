#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use proptest::prelude::*;

use super::*;
use crate::oci::media_type::IMAGE_MANIFEST;

fn collect(json: impl AsRef<[u8]>) -> Result<Vec<IndexEntry>> {
    let mut entries = Vec::new();
    read_index(json.as_ref(), &mut |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

fn write(descriptors: &[Descriptor]) -> Vec<u8> {
    let mut writer = IndexWriter::new(Vec::new()).unwrap();
    for descriptor in descriptors {
        writer.entry(descriptor).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn layout_versions() {
    check_layout(LAYOUT_DOCUMENT).unwrap();
    for good in [
        "{\n  \"imageLayoutVersion\": \"1.0.0\"\n}\n",
        "\u{feff}{\"imageLayoutVersion\":\"1.0.0\"}",
        r#"{"x":[1],"imageLayoutVersion":"1.1.0"}"#,
        r#"{"imageLayoutVersion":"1.12"}"#,
    ] {
        check_layout(good.as_bytes()).unwrap();
    }
    for version in ["", "1", "2.0.0", "10.0", "1.", "1.x", "1.0.", "v1.0.0", "0.9"] {
        let error = check_layout(format!(r#"{{"imageLayoutVersion":"{version}"}}"#).as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{version}");
        assert!(error.to_string().ends_with(&format!("version={}", excerpt(version))), "{error}");
    }
    for bad in ["", "{}", "[]", r#"["1.0.0"]"#, "null", "{", "{} x", r#"{"imageLayoutVersion":1}"#] {
        let error = check_layout(bad.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{bad}");
        assert!(error.to_string().contains("oci-layout"), "{error}");
    }
}

#[test]
fn written_bytes() {
    let head = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":["#;
    assert_eq!(write(&[]), format!("{head}]}}").into_bytes());

    let descriptor = Descriptor::new("a/b", Digest::of(b"x"), 1);
    let mut writer = IndexWriter::new(Vec::new()).unwrap();
    writer.entry(&descriptor).unwrap();
    writer.raw(r#"{ "foreign": true }"#).unwrap();
    for bad in ["", "{", "{},{}", "]"] {
        let error = writer.raw(bad).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().ends_with(&excerpt(bad).to_string()), "{error}");
    }
    writer.entry(&descriptor).unwrap();
    let entry = serde_json::to_string(&descriptor).unwrap();
    let expected = format!(r#"{head}{entry},{{ "foreign": true }},{entry}]}}"#);
    assert_eq!(String::from_utf8(writer.finish().unwrap()).unwrap(), expected);
}

#[test]
fn writer_errors_come_back() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if bytes.starts_with(b"{\"schema") {
                Ok(bytes.len())
            } else {
                Err(io::ErrorKind::StorageFull.into())
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = IndexWriter::new(Full).unwrap();
    let error = writer.entry(&Descriptor::new("a/b", Digest::of(b""), 0)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn lenient_reading() {
    let deep = format!(r#"{{"x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    for empty in [
        "{}",
        &deep,
        r#"{"manifests":null}"#,
        r#"{"manifests":[]}"#,
        "\u{feff}{\n\t\"manifests\" : [ ] }\n",
        r#"{"schemaVersion":2,"manifest":null,"annotations":{"a":"b"},"x":[{"manifests":[1]}]}"#,
    ] {
        assert_eq!(collect(empty).unwrap(), [], "{empty}");
    }

    let digest = Digest::of(b"x");
    let first = format!(
        "{{ \"mediaType\": \"x/y\",\n \"digest\": \"{digest}\", \"size\": 1, \"urls\": [\"u\"], \"data\": \"eA==\",
        \"new\": {{\"z\":1}}, \"annotations\": {{\"{REF_NAME}\": \"a/b:v1\"}} }}"
    );
    let second = r#"{"digest":"md5:00","size":0,"annotations":null,"mediaType":null}"#;
    for json in [
        format!(r#"{{"manifests":[{first},{second}],"after":{{}}}}"#),
        format!("\u{feff}{{ \"manifests\" : [\n {first} ,\n {second} ] }}\n"),
    ] {
        let entries = collect(json).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].raw, first);
        assert_eq!(entries[1].raw, second);
        let mut expected = Descriptor::new("x/y", digest, 1).with_annotation(REF_NAME, "a/b:v1");
        expected.urls = vec!["u".into()];
        expected.data = Some("eA==".into());
        assert_eq!(entries[0].descriptor().unwrap(), expected);
        let name = LayoutName::Tag("a/b".parse().unwrap(), "v1".parse().unwrap());
        assert_eq!(entries[0].name(), Some(name));
        assert_eq!((entries[1].name(), entries[1].membership()), (None, None));
        let error = entries[1].descriptor().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("digest=md5:00"), "{error}");
    }
}

#[test]
fn damage() {
    for (json, needle) in [
        ("", "EOF"),
        (" \n", "EOF"),
        ("\u{feff}", "EOF"),
        ("\0\0\0\0", "line 1"),
        ("null", "null"),
        ("[]", "sequence"),
        ("\"x\"", "\"x\""),
        ("{", "EOF"),
        (r#"{"manifests":["#, "EOF"),
        (r#"{"manifests":[]"#, "EOF"),
        (r#"{"manifests":[]}}"#, "trailing"),
        (r#"{"manifests":[]} x"#, "trailing"),
        (r#"{"manifests":{}}"#, "map"),
        (r#"{"manifests":[1]}"#, "`1`"),
        (r#"{"manifests":[null]}"#, "null"),
        (r#"{"manifests":[{"size":1}]}"#, "`digest`"),
        (r#"{"manifests":[{"digest":"a:b"}]}"#, "`size`"),
        (r#"{"manifests":[{"digest":"a:b","size":-1}]}"#, "-1"),
        (r#"{"manifests":[],"manifests":[]}"#, "listed twice"),
        (r#"{"manifests":[["a/b","sha256:00",1,null,null,null,null,null]]}"#, "an object"),
    ] {
        let error = collect(json).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{json}: {error}");
        assert!(error.to_string().contains(needle), "{json}: {error}");
        assert!(error.to_string().contains("index.json"), "{json}: {error}");
    }
}

#[test]
fn errors_of_the_caller_and_of_the_reader_come_back() {
    let json =
        write(&[Descriptor::new("a/b", Digest::of(b""), 0), Descriptor::new("a/b", Digest::of(b"x"), 1)]);
    let mut seen = 0;
    let outcome = read_index(&json[..], &mut |_| {
        seen += 1;
        Err(Error::new(ErrorKind::Conflict, "mine"))
    });
    let error = outcome.unwrap_err();
    assert_eq!((error.kind(), error.to_string(), seen), (ErrorKind::Conflict, "mine".into(), 1));

    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk on fire"))
        }
    }
    for head in [&b""[..], br#"{"manifests":["#] {
        let error = read_index(head.chain(Broken), &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("disk on fire"), "{source}");
    }
}

/// An index of more entries than memory, made while it is read.
struct Endless {
    left: u32,
    pending: Vec<u8>,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.pending.is_empty() && self.left > 0 {
            self.left -= 1;
            let end = if self.left == 0 { "]}" } else { "," };
            self.pending =
                format!(r#"{{"digest":"a:b","size":{},"x":"{}"}}{end}"#, self.left, "x".repeat(4000))
                    .into_bytes();
        }
        let count = self.pending.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.pending[..count]);
        self.pending.drain(..count);
        Ok(count)
    }
}

#[test]
fn the_budget_is_for_an_entry_not_for_the_list() {
    // 20 MB of entries, above the limit of one.
    let reader = Endless { left: 5000, pending: br#"{"manifests":["#.to_vec() };
    let mut sum = 0;
    read_index(reader, &mut |entry| {
        sum += entry.size;
        Ok(())
    })
    .unwrap();
    assert_eq!(sum, 4999 * 5000 / 2);

    for head in [r#"{"manifests":[{"digest":"a:b","size":1,"x":""#, r#"{"x":""#] {
        let error = read_index(head.as_bytes().chain(io::repeat(b'x')), &mut |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("limit=16777216"), "{error}");
    }
}

#[test]
fn names() {
    let unnamed = RepositoryName::unnamed();
    for (name, repository, tag) in [
        ("v1", "", "v1"),
        ("a:v1", "a", "v1"),
        ("a/b:V_1", "a/b", "V_1"),
        ("docker.io/library/busybox:1.36", "docker.io/library/busybox", "1.36"),
    ] {
        let repository = if repository.is_empty() { unnamed.clone() } else { repository.parse().unwrap() };
        let tag = tag.parse().unwrap();
        assert_eq!(LayoutName::of(&repository, &tag), name);
        assert_eq!(LayoutName::parse(name), LayoutName::Tag(repository, tag));
    }
    for foreign in [
        "",
        ":",
        "a:",
        ":v1",
        "a/b",
        "A:v1",
        "localhost:5000/a:v1",
        "a@sha256:00",
        "/tmp/x",
        "a b",
        "a:b:c",
        "a:v1\n",
    ] {
        assert_eq!(LayoutName::parse(foreign), LayoutName::Foreign(foreign.into()), "{foreign}");
    }
}

#[test]
fn membership() {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let [a, b] = ["a", "b/c"].map(|name| name.parse::<RepositoryName>().unwrap());
    let held = Membership {
        repositories: vec![b.clone(), RepositoryName::unnamed(), a.clone(), b.clone()],
        sparse: [(b.clone(), vec![digest("y"), digest("x"), digest("y")]), (a.clone(), vec![])].into(),
    };
    let text = held.to_string();
    let (x, y) = (digest("x").min(digest("y")), digest("x").max(digest("y")));
    assert_eq!(text, format!(r#"{{"repositories":["","a","b/c"],"sparse":{{"b/c":["{x}","{y}"]}}}}"#));
    let back = Membership::parse(&text).unwrap();
    assert_eq!(back.repositories, [RepositoryName::unnamed(), a, b.clone()]);
    assert_eq!(back.sparse, [(b, vec![x, y])].into());
    assert_eq!(back.to_string(), text);

    assert_eq!(Membership::default().to_string(), r#"{"repositories":[]}"#);
    assert_eq!(Membership::parse("{}"), Some(Membership::default()));
    for bad in [
        "",
        "null",
        "[1]",
        r#"[["a"],{}]"#,
        "{",
        r#"{"repositories":["A"]}"#,
        r#"{"repositories":1}"#,
        r#"{"sparse":{"a":["x"]}}"#,
    ] {
        assert_eq!(Membership::parse(bad), None, "{bad}");
    }
    let json = write(&[Descriptor::new("a/b", digest("x"), 1).with_annotation(MEMBERSHIP, &text)]);
    assert_eq!(collect(json).unwrap()[0].membership().unwrap().to_string(), text);
}

fn descriptors() -> impl Strategy<Value = Descriptor> {
    let annotations = prop::collection::btree_map(any::<String>(), any::<String>(), 0..4);
    let platform = prop::option::of((any::<String>(), any::<String>(), prop::option::of(any::<String>())));
    let urls = prop::collection::vec(any::<String>(), 0..3);
    let size = 0..i64::MAX.unsigned_abs();
    (any::<[u8; 4]>(), size, annotations, platform, urls, prop::option::of(any::<String>())).prop_map(
        |(seed, size, annotations, platform, urls, text)| Descriptor {
            annotations: annotations.into_iter().collect(),
            platform: platform.map(|(os, architecture, variant)| {
                Box::new(Platform { variant, ..Platform::new(os, architecture) })
            }),
            urls,
            artifact_type: text.clone(),
            data: text,
            ..Descriptor::new(IMAGE_MANIFEST, Digest::of(&seed), size)
        },
    )
}

proptest! {
    #[test]
    fn indexes_come_back(descriptors in prop::collection::vec(descriptors(), 0..6)) {
        let json = write(&descriptors);
        let entries = collect(&json).unwrap();
        let back: Vec<_> = entries.iter().map(|entry| entry.descriptor().unwrap()).collect();
        prop_assert_eq!(back, descriptors);

        let mut writer = IndexWriter::new(Vec::new()).unwrap();
        for entry in &entries {
            writer.raw(&entry.raw).unwrap();
        }
        prop_assert_eq!(writer.finish().unwrap(), json);
    }

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,60}") {
        let _ = check_layout(&bytes);
        let _ = collect(&bytes);
        let _ = collect(format!("{{\"manifests\":[{text}]}}"));
        let _ = Membership::parse(&text);
        if let LayoutName::Foreign(name) = LayoutName::parse(&text) {
            prop_assert_eq!(name, text);
        }
    }

    #[test]
    fn names_come_back(repository in "([a-z0-9]{1,8}[._/-])?[a-z0-9]{1,8}", tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}") {
        let tag: Tag = tag.parse().unwrap();
        for repository in [RepositoryName::unnamed(), repository.parse().unwrap()] {
            let name = LayoutName::of(&repository, &tag);
            prop_assert_eq!(LayoutName::parse(&name), LayoutName::Tag(repository, tag.clone()));
        }
    }
}
