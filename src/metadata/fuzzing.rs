//! What the fuzz targets ask of the codecs. Not part of any ordinary build.
#![expect(clippy::unwrap_used, reason = "a failure is a finding")]

use super::key::{self, ReferrerOrder, RepositoryId};
use super::lifecycle::event::{EventRecord, FeedRecord};
use super::lifecycle::lease::LeaseRecord;
use super::lifecycle::quota::QuotaRecord;
use super::lifecycle::usage::{self, Fields};
use super::log_tail::{BLOCK, Tail, Verdict};
use super::record::{
    ContentRecord, Fingerprint, ManifestRecord, ReferrerRecord, TagRecord, decode_target, encode_target,
    split_journal,
};
use super::retention::RetentionRecord;
use super::upload::UploadRecord;
use super::view::id_in;
use crate::digest::Digest;

/// Decodes any bytes as every record: what is accepted means the same after it was written again.
pub(crate) fn records(bytes: &[u8]) {
    if let Ok(record) = ContentRecord::decode(bytes) {
        assert_eq!(ContentRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = ManifestRecord::decode(bytes) {
        assert_eq!(ManifestRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = ReferrerRecord::decode(bytes) {
        let again = ReferrerRecord::decode(&record.encode()).unwrap();
        if record.annotations_elsewhere == again.annotations_elsewhere {
            assert_eq!(again, record);
        } else {
            assert!(again.annotations_elsewhere && again.descriptor.annotations.is_empty());
            assert_eq!(again.descriptor.digest, record.descriptor.digest);
        }
    }
    if let Ok(record) = Fingerprint::decode(bytes) {
        assert_eq!(Fingerprint::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = EventRecord::decode(bytes) {
        assert_eq!(EventRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = FeedRecord::decode(bytes) {
        assert_eq!(FeedRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = UploadRecord::decode(bytes) {
        assert_eq!(UploadRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = LeaseRecord::decode(bytes) {
        assert_eq!(LeaseRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = QuotaRecord::decode(bytes) {
        assert_eq!(QuotaRecord::decode(&record.encode()).unwrap(), record);
    }
    counters(bytes);
    if let Ok(target) = decode_target(bytes) {
        assert_eq!(decode_target(&encode_target(target.as_ref())).unwrap(), target);
    }
    if let Ok(record) = TagRecord::decode(bytes) {
        assert_eq!(TagRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok(record) = RetentionRecord::decode(bytes) {
        assert_eq!(RetentionRecord::decode(&record.encode()).unwrap(), record);
    }
    if let Ok((_, content)) = split_journal(bytes) {
        assert_eq!(content.len() + 8, bytes.len());
    }
}

/// Any bytes as a counter and as operands of one: what can be read adds up in any grouping, and what cannot stays as it is.
fn counters(bytes: &[u8]) {
    let sum = |values: &[&[u8]]| usage::sum(values.iter().copied()).unwrap();
    let Ok(fields) = Fields::decode(bytes) else {
        assert_eq!(sum(&[bytes, &Fields::default().encode()]), bytes);
        return;
    };
    let again = fields.encode();
    assert_eq!(Fields::decode(&again).unwrap(), fields);
    assert_eq!(sum(&[bytes]), again);
    assert_eq!(sum(&[&sum(&[bytes, &again]), bytes]), sum(&[bytes, &sum(&[&again, bytes])]));
}

/// Reads any bytes as keys, and takes apart what was put together from two digests and numbers.
pub(crate) fn keys(bytes: &[u8]) {
    let _ = key::about_of(bytes);
    let _ = key::sequence_of(bytes);
    let Some((first, taken)) = Digest::from_key(bytes) else { return };
    let mut again = Vec::new();
    first.to_key(&mut again);
    assert_eq!(again, bytes.get(..taken).unwrap());
    let rest = bytes.get(taken..).unwrap();
    let (Some(id), Some(number)) = (rest.first_chunk::<4>(), rest.last_chunk::<8>()) else { return };
    let (id, sequence) = (RepositoryId(u32::from_be_bytes(*id)), u64::from_be_bytes(*number));
    let second = Digest::of(rest);
    assert_eq!(key::about_of(&key::edge(&first, id, &second)).unwrap(), (first, id));
    assert_eq!(key::about_of(&key::holder(&first, id, key::Kind::Blob)).unwrap(), (first, id));
    for (whole, one) in [(key::usage(None), key::usage(Some(id))), (key::quota(None), key::quota(Some(id)))] {
        assert!(one.starts_with(&whole));
        assert_eq!(id_in(&one, whole.len()).unwrap(), id);
    }
    let text = String::from_utf8_lossy(rest);
    let created = i64::from_be_bytes(*number);
    for order in [ReferrerOrder::Insertion, ReferrerOrder::Created] {
        for artifact_type in [None, Some(&*text)] {
            let prefix = key::referrers(&first, id, order, artifact_type);
            let row = key::referrer(&first, id, order, artifact_type, Some(created), sequence);
            assert!(row.starts_with(&prefix));
            assert_eq!(key::about_of(&row).unwrap(), (first, id));
            assert_eq!(key::sequence_of(&row).unwrap(), sequence);
            if order == ReferrerOrder::Created {
                // Newest first, undated last.
                let undated = key::referrer(&first, id, order, artifact_type, None, 0);
                assert!(row < undated);
                if let Some(later) = created.checked_add(1) {
                    let newer = key::referrer(&first, id, order, artifact_type, Some(later), 0);
                    // The two oldest moments share a key.
                    assert!(newer < row || created == i64::MIN);
                }
            }
        }
    }
}

/// Judges any bytes as a list of files and as logs, and as blocks of logs of any size.
pub(crate) fn log(bytes: &[u8]) {
    let judge = |mut tail: Tail, size: usize, end: usize| {
        for part in bytes.chunks(size) {
            tail.block(part);
            if part.len() < end {
                tail.next_log();
            }
        }
        tail.verdict()
    };
    let verdicts = [
        judge(Tail::of_list(), BLOCK, 0),
        judge(Tail::of_logs(0, None), BLOCK, 0),
        judge(Tail::of_logs(9, None), BLOCK, 0),
        judge(Tail::of_logs(9, None), 97, BLOCK),
    ];
    for verdict in verdicts {
        if let Verdict::Torn(cut) = verdict {
            assert!(cut.dropped <= bytes.len() as u64 && cut.at <= bytes.len() as u64);
        }
    }
    // What is left of torn logs is whole.
    if let Verdict::Torn(cut) = verdicts[1] {
        let mut tail = Tail::of_logs(0, None);
        bytes
            .get(..usize::try_from(cut.at).unwrap())
            .unwrap()
            .chunks(BLOCK)
            .for_each(|block| tail.block(block));
        assert_eq!(tail.verdict(), Verdict::Sound);
    }
}
