#![expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and sizes are small"
)]

use proptest::prelude::*;

use super::*;

/// Writes records as the engine does; answers the log and where each record begins and ends.
fn log(sizes: &[usize]) -> (Vec<u8>, Vec<(usize, usize)>) {
    let mut log = Vec::new();
    let mut places = Vec::new();
    for (n, size) in sizes.iter().enumerate() {
        let record: Vec<u8> = (0..*size).map(|at| (at * 7 + at / 256 + n) as u8 | 1).collect();
        if BLOCK - log.len() % BLOCK < HEADER {
            log.resize(log.len().next_multiple_of(BLOCK), 0);
        }
        let begin = log.len();
        let mut rest = &record[..];
        loop {
            let room = BLOCK - log.len() % BLOCK;
            if room < HEADER {
                log.resize(log.len() + room, 0);
                continue;
            }
            let (part, behind) = rest.split_at(rest.len().min(room - HEADER));
            let kind = match (rest.len() == record.len() && log.len() == begin, behind.is_empty()) {
                (true, true) => FULL,
                (true, false) => FIRST,
                (false, true) => LAST,
                (false, false) => MIDDLE,
            };
            log.extend_from_slice(&checksum(kind, part).to_le_bytes());
            log.extend_from_slice(&(part.len() as u16).to_le_bytes());
            log.push(kind);
            log.extend_from_slice(part);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        places.push((begin, log.len()));
    }
    (log, places)
}

fn judge(logs: &[&[u8]]) -> Verdict {
    let mut tail = Tail::default();
    for log in logs {
        tail.next_log();
        log.chunks(BLOCK).for_each(|block| tail.block(block));
    }
    tail.verdict()
}

fn with_hole(log: &[u8], start: usize, length: usize) -> Vec<u8> {
    let mut log = log.to_vec();
    let end = (start + length).min(log.len());
    log[start..end].fill(0);
    log
}

#[test]
fn checksums_are_those_of_the_engine() {
    // The check value of CRC-32C for the digits 1 to 9.
    let crc = b"23456789".iter().fold(step(u32::MAX, b'1'), |crc, byte| step(crc, *byte)) ^ u32::MAX;
    assert_eq!(crc, 0xe306_9283);
    assert_eq!(checksum(b'1', b"23456789"), crc.rotate_right(15).wrapping_add(0xa282_ead8));
}

#[test]
fn whole_logs_are_sound() {
    for sizes in [&[][..], &[0], &[10], &[BLOCK - HEADER, 5], &[BLOCK - HEADER - 3, 5], &[300_000, 1, 70_000]]
    {
        let (log, _) = log(sizes);
        assert_eq!(judge(&[&log]), Verdict::Sound, "{sizes:?}");
        assert_eq!(judge(&[&log, &[], &log]), Verdict::Sound, "{sizes:?}");
    }
}

#[test]
fn a_hole_in_the_last_record_is_torn_wherever_it_is() {
    let (log, places) = log(&[100, 5_000, 300_000]);
    let (begin, end) = places[2];
    for page in (begin / 4096 * 4096..end).step_by(4096) {
        let start = page.max(begin);
        let torn = with_hole(&log, start, page + 4096 - start);
        assert_eq!(judge(&[&torn]), Verdict::Torn((end - begin) as u64), "hole at {start} of {begin}..{end}");
    }
    for cut in [begin + 1, begin + HEADER, begin + 20_000, end - 1] {
        assert_eq!(judge(&[&log[..cut]]), Verdict::Torn((cut - begin) as u64), "cut at {cut}");
    }
    assert_eq!(judge(&[&log[..begin]]), Verdict::Sound);
}

/// A page that was written into while it was on its way to the disk has the begin of that.
#[test]
fn a_last_record_that_lacks_its_end_is_torn_wherever_that_begins() {
    for sizes in [&[100, 90][..], &[100, 90, 40], &[40_000, 200]] {
        let (log, places) = log(sizes);
        let (begin, end) = places[1];
        for start in begin + 1..end - FEW {
            let torn = with_hole(&log, start, log.len() - start);
            let size = (log.len() - begin) as u64;
            assert_eq!(judge(&[&torn]), Verdict::Torn(size), "zeros from {start} of {begin}..{end}");
        }
    }
    // So few may be its own, and zeros that end before the log does are another matter.
    let (log, places) = log(&[100, 90]);
    let end = places[1].1;
    assert_eq!(judge(&[&with_hole(&log, end - FEW + 1, FEW)]), Verdict::Damaged);
    assert_eq!(judge(&[&with_hole(&log, end - 40, 39)]), Verdict::Damaged);
}

#[test]
fn a_hole_before_a_whole_record_is_damage() {
    let (log, places) = log(&[5_000, 90_000, 20]);
    for (begin, end) in &places[..2] {
        for start in (begin.next_multiple_of(512)..*end).step_by(512) {
            assert_eq!(
                judge(&[&with_hole(&log, start, 4096.min(end - start))]),
                Verdict::Damaged,
                "hole at {start}"
            );
        }
    }
}

#[test]
fn a_changed_byte_is_damage_even_in_the_last_record() {
    let (log, places) = log(&[300, 70_000]);
    for at in (places[1].0..places[1].1).step_by(997) {
        let mut log = log.clone();
        log[at] ^= 4;
        assert_eq!(judge(&[&log]), Verdict::Damaged, "changed at {at}");
    }
}

#[test]
fn only_the_last_of_several_logs_may_be_torn() {
    let (log, places) = log(&[100, 50_000]);
    let torn = with_hole(&log, 8192, 4096);
    let size = (places[1].1 - places[1].0) as u64;
    assert_eq!(judge(&[&log, &torn]), Verdict::Torn(size));
    assert_eq!(judge(&[&torn, &log]), Verdict::Damaged);
    assert_eq!(judge(&[&log[..40_000], &log]), Verdict::Damaged);
    // A new log in which nothing was written yet.
    assert_eq!(judge(&[&torn, &[]]), Verdict::Torn(size));
}

#[test]
fn kinds_that_the_settings_never_ask_for_are_damage() {
    let (mut log, _) = log(&[10]);
    for kind in [5, 9, 130] {
        let end = log.len();
        log.extend_from_slice(&checksum(kind, b"more").to_le_bytes());
        log.extend_from_slice(&[4, 0, kind]);
        log.extend_from_slice(b"more");
        assert_eq!(judge(&[&log]), Verdict::Damaged, "{kind}");
        log.truncate(end);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged(
        logs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..3),
        size in 0_usize..80_000,
        holes in prop::collection::vec((0_usize..80_000, 0_usize..9_000, any::<u8>()), 0..4),
    ) {
        let logs: Vec<&[u8]> = logs.iter().map(Vec::as_slice).collect();
        let _ = judge(&logs);
        let (mut log, _) = log(&[100, size, 100]);
        for (at, length, byte) in holes {
            let end = (at + length).min(log.len());
            log[at.min(end)..end].fill(byte);
        }
        let _ = judge(&[&log]);
    }

    #[test]
    fn a_torn_end_never_takes_a_whole_record_along(
        sizes in prop::collection::vec(0_usize..40_000, 1..6),
        at in any::<prop::sample::Index>(),
        length in 1_usize..9_000,
    ) {
        let (log, places) = log(&sizes);
        let at = at.index(log.len());
        let damaged = with_hole(&log, at, length);
        if let Verdict::Torn(dropped) = judge(&[&damaged]) {
            let kept = log.len() - dropped as usize;
            // A record whose bytes did not change is not dropped.
            for (begin, end) in places {
                prop_assert!(begin < kept || damaged[begin..end] != log[begin..end]);
            }
        }
    }
}
