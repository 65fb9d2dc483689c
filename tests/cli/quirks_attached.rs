//! The six ways to say what something is attached to, and graphs that are not whole or say strange things.

use crate::quirks::{Case, Row, row};
use crate::support::text;

pub(crate) const ROWS: &[Row] = &[
    row("E1 untagged entries with a subject, of oras", "oras", |case| {
        let image = case.entry("v1");
        let by_type = |kind: &str| {
            let found = case.entries.iter().find(|entry| entry["artifactType"] == kind);
            found.unwrap()["digest"].as_str().unwrap().to_owned()
        };
        let (sbom, sig) = (by_type("application/vnd.test.sbom"), by_type("application/vnd.test.sig"));
        case.attached(":v1", &[&sbom], &[]);
        case.attached(&format!("@{sbom}"), &[&sig], &[]);
        let drawn = case.place.ok(&["discover", "oci:l:v1"]);
        assert!([&image, &sbom, &sig].iter().all(|digest| drawn.contains(digest.as_str())), "{drawn}");
        case.pulls(&format!("@{sbom}"), "a.txt", "a file\n");
    }),
    row("E2 an index under the fallback tag, of regctl", "regctl", |case| {
        let tag = case.entry("v1").replace(':', "-");
        let index = case.json(&case.entry(&tag));
        let sbom = index["manifests"][0]["digest"].as_str().unwrap();
        case.attached(":v1", &[sbom], &[]);
        case.resolves(&format!(":{tag}"), &case.entry(&tag));
    }),
    row("E2 an index under the fallback tag lists what has no subject", "fallback", |case| {
        let signatures = [
            (case.of("without subject"), "fallback tag"),
            (case.of("cosign"), "cosign tag"),
            (case.of("cosign att"), "cosign tag"),
        ];
        let hints: Vec<(&str, &str)> =
            signatures.iter().map(|(digest, how)| (digest.as_str(), *how)).collect();
        case.attached(":v1", &[&case.of("with subject")], &hints);
    }),
    row("E3 the answer of olareg is an entry", "olareg", olareg),
    row("E3 the answer of olareg as it was written first", "olareg-old", olareg),
    row("E4 an annotation of containerd", "containerd", |case| {
        let image = case.of("containerd");
        let hints = [(case.of("without subject"), "containerd annotation")];
        case.attached(
            &format!("@{image}"),
            &[&case.of("with subject")],
            &[(hints[0].0.as_str(), hints[0].1)],
        );
    }),
    row("E5 kinds of hauler", "hauler", hauler),
    row("E5 kinds of hauler as it had them from cosign", "hauler-old", hauler),
    row("E5 kinds of cosign save", "cosign", |case| {
        let of = |kind: &str| {
            let found = case.entries.iter().find(|entry| entry["annotations"]["kind"] == kind).unwrap();
            found["digest"].as_str().unwrap().to_owned()
        };
        let (image, signature) = (of("dev.cosignproject.cosign/image"), of("dev.cosignproject.cosign/sigs"));
        case.attached(&format!("@{image}"), &[], &[(&signature, "kind annotation")]);
        case.attached(&format!("@{signature}"), &[], &[]);
    }),
    row("E6 tags of cosign", "cosign-tags", |case| {
        let image = case.entry("v1");
        let tag = format!("{}.sig", image.replace(':', "-"));
        case.attached(":v1", &[], &[(&case.entry(&tag), "cosign tag")]);
        case.resolves(&format!(":{tag}"), &case.entry(&tag));
    }),
    row("E6 attestations of BuildKit", "buildkit", |case| {
        let image = case.of("buildkit");
        case.attached(&format!("@{image}"), &[], &[(&case.of("attestation"), "buildkit annotation")]);
        case.attached(":1", &[], &[]);
    }),
    row("Q8 an attestation is for no platform", "buildkit", |case| {
        let (image, attestation) = (case.of("buildkit"), case.of("attestation"));
        let said = case.place.fails(1, &["pull", "oci:l:1"]);
        assert!(said.contains(&image) && said.contains("linux/amd64"), "{said}");
        assert!(!said.contains(&attestation) && !said.contains("unknown"), "{said}");
        let of_platform = |platform: &str| case.place.run(&["resolve", "oci:l:1", "--platform", platform]);
        assert_eq!(text(&of_platform("linux/amd64").stdout).trim(), image);
        assert_eq!(of_platform("linux/arm64").status.code(), Some(3));
        case.resolves(&format!("@{attestation}"), &attestation);
        let index = case.json(&case.entry("1"));
        assert_eq!(index["manifests"][1]["annotations"]["vnd.docker.reference.digest"], image.as_str());
        // With its image or not at all: it is no entry of its own.
        assert_eq!(case.listed(&["-a"]).len(), 1);
    }),
    row("Q23 referrers of what is not here, and of referrers", "graph", |case| {
        let (sbom, sig) = (case.of("sbom"), case.of("sig"));
        case.attached(":v1", &[&sbom], &[]);
        case.attached(&format!("@{sbom}"), &[&sig], &[]);
        let orphan = case.of("orphan");
        case.resolves(&format!("@{orphan}"), &orphan);
        assert!(case.listed(&["-a"]).contains(&(String::new(), orphan.clone())));
        let subject = case.json(&orphan)["subject"]["digest"].as_str().unwrap().to_owned();
        case.attached(&format!("@{subject}"), &[&orphan], &[]);
        case.refuses(3, "resolve", &format!("@{subject}"), &["no such reference"]);
    }),
    row("Q23 circles of hints end", "graph", |case| {
        let ring = [case.of("ring 0"), case.of("ring 1"), case.of("ring 2")];
        for n in 0..3 {
            let before = &ring[(n + 2) % 3];
            case.attached(&format!(":ring{n}"), &[], &[(before, "containerd annotation")]);
        }
        case.attached(":self", &[], &[]);
    }),
    row("Q24 a fallback tag on the subject itself", "fallback", |case| {
        let parent = case.entry("gitlab");
        assert_eq!(case.entry(&parent.replace(':', "-")), parent);
        case.attached(":gitlab", &[], &[]);
    }),
    row("Q24 a fallback tag on an image", "fallback", |case| case.attached(":other", &[], &[])),
    row("Q24 a fallback tag that lists children of the subject", "fallback", |case| {
        case.attached(":children", &[], &[(&case.of("without subject"), "fallback tag")]);
    }),
    row("Q24 a fallback tag of a long digest is cut", "fallback", |case| {
        case.attached(":long", &[], &[(&case.of("of long"), "fallback tag")]);
    }),
];

fn olareg(case: &Case) {
    let (sbom, converted) = (case.of("sbom"), case.of("converted"));
    case.attached(":v1", &[&sbom], &[(&converted, "referrers annotation")]);
    case.names(&["v1"]);
}

fn hauler(case: &Case) {
    let kinds = [case.of("signature"), case.of("attestation"), case.of("sbom")];
    let hints: Vec<(&str, &str)> = kinds.iter().map(|digest| (digest.as_str(), "kind annotation")).collect();
    case.attached(":library/app:1", &[&case.of("bundle")], &hints);
    case.attached(":hauler/chart:1.0.0", &[], &[]);
}
