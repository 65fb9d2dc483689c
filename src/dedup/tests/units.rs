//! Every unit, in one order.

use std::ops::ControlFlow;

use super::support::{files, measure, noise, tar};
use crate::dedup::{Chunker, Granularity, Measure, UnitRecord};
use crate::{Digest, ErrorKind};

#[test]
fn units_come_in_the_same_order_from_any_number_of_threads() {
    let contents: Vec<Vec<u8>> = (0..20)
        .map(|seed| {
            let file = noise(seed, 200_000);
            tar(&[("a/b", &file[..50_000]), ("c", &file[50_000..])])
        })
        .collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let corpus = files(&contents);
    let list = |threads| {
        let mut lines = Vec::new();
        let measure = measure(&["file", "fixed:4Ki@file", "mincdc:4Ki"]).threads(threads);
        let mut sink = |unit: &UnitRecord<'_>| {
            lines.push(serde_json::to_string(unit).unwrap());
            Ok(())
        };
        measure.units(&corpus, &mut sink, &mut |_| ControlFlow::Continue(())).unwrap();
        lines
    };
    let lines = list(1);
    assert_eq!(lines, list(8));
    let digest = Digest::of(contents[0]);
    let file = format!(
        r#"{{"granularity":"file","hash":"{}","image":"file 0","layer":"{digest}","length":50000,"offset":512,"path":"a/b"}}"#,
        blake3::hash(&noise(0, 200_000)[..50_000]).to_hex()
    );
    assert_eq!(lines[0], file);
    let of_chunk = lines.iter().find(|line| line.contains("fixed/4096@file")).unwrap();
    assert!(of_chunk.contains(r#""length":4096,"offset":512,"path":"a/b""#), "{of_chunk}");
    let of_blob = format!(r#"{{"granularity":"blob","hash":"{digest}","image":"file 0""#);
    assert_eq!(lines.iter().filter(|line| line.starts_with(&of_blob)).count(), 1);
}

#[test]
fn a_sink_that_fails_ends_it() {
    let contents: Vec<Vec<u8>> = (0..8).map(|seed| noise(seed, 100_000)).collect();
    let contents: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let mut sink = |_: &UnitRecord<'_>| Err(std::io::ErrorKind::StorageFull.into());
    let measure = measure(&["file"]).threads(4);
    let error = measure.units(&files(&contents), &mut sink, &mut |_| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
}

#[derive(Debug)]
struct Wrong(usize);

impl Chunker for Wrong {
    fn name(&self) -> String {
        "wrong".into()
    }

    fn max_size(&self) -> usize {
        100
    }

    fn cut(&self, _: &[u8]) -> usize {
        self.0
    }
}

#[test]
fn a_chunker_that_cuts_wrongly_is_an_error() {
    for length in [0, 101, usize::MAX] {
        let measure = Measure::new().granularities([Granularity::chunks(Wrong(length))]);
        let error = measure.run(&files(&[&[1; 1000]]), &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("chunker=wrong"), "{error}");
    }
}
