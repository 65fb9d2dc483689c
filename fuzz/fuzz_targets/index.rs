//! `index.json` and `oci-layout`: what is read and written again reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::oci::layout::check_layout;
use orlop::oci::{IndexEntry, IndexWriter, read_index};

fn read(bytes: &[u8]) -> orlop::Result<Vec<IndexEntry>> {
    let mut entries = Vec::new();
    read_index(bytes, &mut |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

fuzz_target!(|bytes: &[u8]| {
    let _ = check_layout(bytes);
    let entries = match read(bytes) {
        Ok(entries) => entries,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 2000 && !message.contains('\n'), "{message:?}");
            return;
        }
    };
    let mut raw = IndexWriter::new(Vec::new()).unwrap();
    let mut written = IndexWriter::new(Vec::new()).unwrap();
    let mut descriptors = Vec::new();
    for entry in &entries {
        assert!(bytes.windows(entry.raw.len()).any(|window| window == entry.raw.as_bytes()), "kept as written");
        let _ = (entry.name(), entry.membership());
        raw.raw(&entry.raw).unwrap();
        if let Ok(descriptor) = entry.descriptor() {
            assert_eq!(descriptor.digest.to_string(), entry.digest);
            assert_eq!(descriptor.size, entry.size);
            written.entry(&descriptor).unwrap();
            descriptors.push(descriptor);
        }
    }
    assert_eq!(read(&raw.finish().unwrap()).expect("what was written can be read"), entries);
    let again = read(&written.finish().unwrap()).expect("what was written can be read");
    let again: Vec<_> = again.iter().map(|entry| entry.descriptor().expect("it was one")).collect();
    assert_eq!(again, descriptors);
});
