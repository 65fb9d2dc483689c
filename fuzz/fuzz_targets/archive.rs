//! Archives of layouts, sets of volumes and inventories: an error, or answers that are what their digests say.
//!
//! The first byte chooses how the rest is given: as it is, as the blocks of a tar archive whose headers get their checksums, as two volumes, or
//! as an inventory.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use orlop::transfer::Source;
use orlop::transfer::archive::{Archive, Inventory};

fn check(archive: &Archive) {
    for name in archive.names() {
        let _ = archive.find_name(&name.name);
    }
    for name in archive.repositories() {
        let repository = archive.repository(&name);
        for found in repository.manifests().unwrap_or_default() {
            let fetched = repository.manifest(&found.digest).unwrap().expect("it is listed");
            assert_eq!(found.digest.algorithm().digest(&fetched.bytes), found.digest);
            let _ = repository.referrers(&found.digest);
        }
    }
    for (digest, size) in archive.contents() {
        let mut content = Vec::new();
        if let Ok(Some(reader)) = archive.content(&digest, 0)
            && reader.take(1 << 20).read_to_end(&mut content).is_ok()
        {
            assert!(content.len() as u64 <= size);
        }
    }
}

/// Puts the checksum into every block that has the mark of a header.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].copy_from_slice(b"        ");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    bytes
}

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    let opened = match how % 4 {
        0 => Archive::from_bytes(bytes.to_vec()),
        1 => Archive::from_bytes(sealed(bytes)),
        2 => {
            let bytes = sealed(bytes);
            let half = bytes.len() / 1024 * 512;
            let (one, two) = bytes.split_at(half);
            Archive::from_all_bytes([one.to_vec().into(), two.to_vec().into()], how & 4 != 0)
        }
        _ => {
            if let Ok(have) = Inventory::parse(bytes) {
                assert_eq!(have.to_text().as_bytes(), bytes);
            }
            let _ = Inventory::read(std::io::Cursor::new(bytes.to_vec()));
            return;
        }
    };
    match opened {
        Ok(archive) => check(&archive),
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 4000 && !message.contains('\n'), "{message:?}");
        }
    }
});
