//! Archives as tools and attackers write them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "tests may panic and make files"
)]

mod docker;
mod hostile;
mod reading;
mod stores;
mod support;
mod volumes;
mod writing;

/// The same entries of an archive, the last one first.
fn reversed(bytes: &[u8]) -> Vec<u8> {
    let mut files = Vec::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
        if entry.header().entry_type().is_file() {
            files.insert(0, (path, content));
        }
    }
    let mut writer = super::writer::ArchiveWriter::new(Vec::new(), 0);
    files.iter().for_each(|(path, content)| writer.file(path, content).unwrap());
    writer.finish().unwrap()
}
