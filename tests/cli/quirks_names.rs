//! Quirks of names: which entry a text means. Q5 to Q7, and who else is beside them.

use crate::quirks::{Form, Row, row};

pub(crate) const ROWS: &[Row] = &[
    row("Q5 names as skopeo was told them", "skopeo", |case| {
        case.names(&["v1", "docker.io/library/app:2", "lib/app:3"]);
        case.resolves(":v1", &case.entry("v1"));
        let full = case.entry("docker.io/library/app:2");
        for name in
            [":docker.io/library/app:2", ":app:2", ":library/app:2", ":index.docker.io/library/app:2", ":2"]
        {
            case.resolves(name, &full);
        }
        case.resolves(":lib/app:3", &case.entry("lib/app:3"));
        let nameless = case.entries[3]["digest"].as_str().unwrap();
        case.resolves(&format!("@{nameless}"), nameless);
        assert!(case.listed(&["-a"]).contains(&(String::new(), nameless.to_owned())));
    }),
    row("Q5 names of podman", "podman", |case| {
        case.names(&["localhost/app:1"]);
        case.resolves(":localhost/app:1", &case.entry("localhost/app:1"));
        case.resolves(":1", &case.entry("localhost/app:1"));
        case.refuses(3, "resolve", ":app:1", &["no such reference"]);
    }),
    row("Q5 names of buildah", "buildah", |case| case.resolves(":v1", &case.entry("v1"))),
    row("Q5 names of umoci", "umoci", |case| {
        case.names(&["base", "also"]);
        case.resolves(":base", &case.entry("base"));
        case.resolves(":also", &case.entry("base"));
    }),
    row("Q5 names of every form", "names", |case| {
        case.resolves(":v1", &case.entry("v1"));
        case.resolves(":team/app:v1", &case.entry("team/app:v1"));
        case.resolves(":only", &case.entry("team/app:only"));
        case.resolves(":app:twice", &case.entry("docker.io/library/app:twice"));
        let (one, other) = (case.entry("docker.io/library/app:twice"), case.entry("other/app:twice"));
        case.refuses(3, "resolve", ":twice", &["more than one manifest", &one, &other]);
        let upper = case.entry("host.example:5000/Team/App:upper");
        case.resolves(":host.example:5000/Team/App:upper", &upper);
        case.resolves(":upper", &upper);
        case.resolves(":/some/path", &case.entry("/some/path"));
        case.refuses(3, "resolve", ":path", &["no such reference"]);
        let digest = case.entries[11]["digest"].as_str().unwrap();
        case.resolves(&format!("@{digest}"), digest);
        let nameless = case.entries[7]["digest"].as_str().unwrap();
        case.resolves(&format!("@{nameless}"), nameless);
        for verb in ["resolve", "discover", "pull"] {
            case.refuses(3, verb, ":none", &["no such reference", "orlop ls oci:l"]);
        }
    }),
    row("Q5 a digest in place of a name", "containerd", |case| {
        let digest = case.entries[1]["digest"].as_str().unwrap();
        case.resolves(&format!("@{digest}"), digest);
        assert!(case.listed(&[]).contains(&(digest.to_owned(), digest.to_owned())));
    }),
    row("Q6 one name for two manifests", "same-name", |case| {
        let (first, second) = (case.of("first"), case.of("second"));
        for (name, shown) in [(":v1", "(v1)"), (":lib:v3", "(lib:v3)")] {
            for verb in ["resolve", "discover", "pull"] {
                case.refuses(3, verb, name, &["more than one manifest", &first, &second, shown]);
            }
        }
        case.resolves(":v2", &first);
        let both = |name: &str| [(name.to_owned(), first.clone()), (name.to_owned(), second.clone())];
        let expected =
            [both("v1"), both("lib:v3")].concat().into_iter().chain([("v2".to_owned(), first.clone())]);
        assert_eq!(case.listed(&[]), expected.collect());
        case.notes(&["v1 stands for more than one manifest", &second]);
        if case.form != Form::View {
            // Whoever tags decides, and no other tool is left with the question.
            let plain: &[&str] = if case.form == Form::Plain { &["--plain"] } else { &[] };
            case.place.ok(&[&["tag"], plain, &[&format!("oci:l@{second}"), "v1"]].concat());
            case.resolves(":v1", &second);
            assert!(case.listed(&[]).iter().filter(|(name, _)| name == "v1").count() == 1);
        }
    }),
    row("Q6 crane pulls a tag again after it moved", "crane", |case| {
        let moved: Vec<&str> = case
            .entries
            .iter()
            .filter(|entry| entry["annotations"][crate::quirks::NAME] == "localhost:5000/app:moved")
            .map(|entry| entry["digest"].as_str().unwrap())
            .collect();
        assert!(moved.len() == 2 && moved[0] != moved[1]);
        case.refuses(3, "resolve", ":localhost:5000/app:moved", &[moved[0], moved[1]]);
        case.refuses(3, "resolve", ":moved", &[moved[0], moved[1]]);
        // The same twice is one.
        case.resolves(":localhost:5000/app:2", moved[0]);
        case.resolves(":2", moved[0]);
        assert_eq!(case.listed(&[]).len(), 3);
    }),
    row("Q7 names in annotations only", "containerd", |case| {
        let nameless = case.of("no ref.name");
        case.resolves(":quay.io/team/tool:2", &nameless);
        case.resolves(":2", &nameless);
        assert!(case.listed(&[]).contains(&("quay.io/team/tool:2".to_owned(), nameless)));
        let index = case.entry("1");
        for name in [":1", ":docker.io/library/app:1", ":app:1"] {
            case.resolves(name, &index);
        }
    }),
    row("Q7 names of hauler, zarf and crane in annotations", "names", |case| {
        case.resolves(":registry.example/haul:3", &case.of("name 9"));
        case.resolves(":old.example/zarf:1", &case.of("name 8"));
        // The base image of something that has a name of its own is another image.
        case.refuses(3, "resolve", ":docker.io/library/alpine:3", &["no such reference"]);
        case.resolves(":built", &case.entry("built"));
    }),
    row("Q7 the name of the image, not of what is attached", "hauler", |case| {
        case.names(&["library/app:1", "hauler/chart:1.0.0"]);
        for name in [":library/app:1", ":app:1", ":index.docker.io/library/app:1", ":1"] {
            case.resolves(name, &case.of("hauler"));
        }
        case.pulls(":app:1", "hauler.txt", "layer of hauler\n");
    }),
];
