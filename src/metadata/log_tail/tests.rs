#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "tests may panic, and sizes are small"
)]

use proptest::prelude::*;

use super::*;

/// A log, and where each record begins and ends.
type Written = (Vec<u8>, Vec<(usize, usize)>);

/// Bytes without zeros.
fn noise(n: usize, size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 7 + at / 256 + n) as u8 | 1).collect()
}

/// A list of files with records of these sizes.
fn log(sizes: &[usize]) -> Written {
    let records: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| noise(n, *size)).collect();
    written(&records)
}

/// Rows as a log has them: the number of the first, how many, up to which row the log was synced, and so many bytes more.
fn rows(row: u64, count: u32, synced: u64, size: usize) -> Vec<u8> {
    let mut record = row.to_le_bytes().to_vec();
    record.extend(count.to_le_bytes());
    record.extend([3, 8]);
    record.extend(witness(synced));
    record.extend(noise(row as usize, size));
    record
}

/// Writes records as the engine does; answers the log and where each record begins and ends.
fn written(records: &[Vec<u8>]) -> Written {
    let mut log = Vec::new();
    let mut places = Vec::new();
    for record in records {
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

fn judge(list: &[u8]) -> Verdict {
    let mut tail = Tail::of_list();
    list.chunks(BLOCK).for_each(|block| tail.block(block));
    tail.verdict()
}

fn judge_logs(synced: u64, logs: &[&[u8]]) -> Verdict {
    judge_behind(synced, None, logs)
}

/// Of logs behind rows in tables.
fn judge_behind(synced: u64, tables: Option<u64>, logs: &[&[u8]]) -> Verdict {
    let mut tail = Tail::of_logs(synced, tables);
    for (n, log) in logs.iter().enumerate() {
        if n > 0 {
            tail.next_log();
        }
        log.chunks(BLOCK).for_each(|block| tail.block(block));
    }
    tail.verdict()
}

fn torn(log: usize, at: usize, dropped: usize) -> Verdict {
    Verdict::Torn(Cut { log, at: at as u64, dropped: dropped as u64 })
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
        assert_eq!(judge(&log), Verdict::Sound, "{sizes:?}");
    }
}

#[test]
fn a_hole_in_the_last_record_is_torn_wherever_it_is() {
    let (log, places) = log(&[100, 5_000, 300_000]);
    let (begin, end) = places[2];
    for page in (begin / 4096 * 4096..end).step_by(4096) {
        let start = page.max(begin);
        let found = judge(&with_hole(&log, start, page + 4096 - start));
        assert_eq!(found, torn(0, begin, end - begin), "hole at {start} of {begin}..{end}");
    }
    for cut in [begin + 1, begin + HEADER, begin + 20_000, end - 1] {
        assert_eq!(judge(&log[..cut]), torn(0, begin, cut - begin), "cut at {cut}");
    }
    assert_eq!(judge(&log[..begin]), Verdict::Sound);
}

/// A page that was written into while it was on its way to the disk has the begin of that.
#[test]
fn a_last_record_that_lacks_its_end_is_torn_wherever_that_begins() {
    for sizes in [&[100, 90][..], &[100, 90, 40], &[40_000, 200]] {
        let (log, places) = log(sizes);
        let (begin, end) = places[1];
        for start in begin + 1..end - FEW {
            let found = judge(&with_hole(&log, start, log.len() - start));
            assert_eq!(found, torn(0, begin, log.len() - begin), "zeros from {start} of {begin}..{end}");
        }
    }
    // So few may be its own, and zeros that end before the log does are another matter.
    let (log, places) = log(&[100, 90]);
    let end = places[1].1;
    assert_eq!(judge(&with_hole(&log, end - FEW + 1, FEW)), Verdict::Damaged);
    assert_eq!(judge(&with_hole(&log, end - 40, 39)), Verdict::Damaged);
}

#[test]
fn a_hole_before_a_whole_record_is_damage() {
    let (log, places) = log(&[5_000, 90_000, 20]);
    for (begin, end) in &places[..2] {
        for start in (begin.next_multiple_of(512)..*end).step_by(512) {
            assert_eq!(
                judge(&with_hole(&log, start, 4096.min(end - start))),
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
        assert_eq!(judge(&log), Verdict::Damaged, "changed at {at}");
    }
}

/// Two logs of the same rows one after the other: ten records each, of one row and 3,000 bytes, `synced` known to the last.
fn two_logs(synced: u64) -> [Written; 2] {
    let record = |row: u64| rows(row, 1, if row < 120 { 100 } else { synced }, 3_000);
    [0, 1].map(|n| written(&(101 + n * 10..111 + n * 10).map(record).collect::<Vec<_>>()))
}

#[test]
fn records_of_logs_follow_each_other() {
    let records = [rows(7, 3, 0, 10), rows(10, 0, 0, 0), rows(10, 2, 9, 70_000), rows(12, 1, 9, 5)];
    let (log, _) = written(&records[..3]);
    let (next, _) = written(&records[3..]);
    assert_eq!(judge_logs(11, &[&log, &[], &next]), Verdict::Sound);
    // The engine drops what has no end by itself.
    assert_eq!(judge_logs(9, &[&log[..log.len() - 3]]), Verdict::Sound);
    assert_eq!(judge_logs(10, &[&log[..log.len() - 3]]), Verdict::Damaged);
    assert_eq!(judge_logs(9, &[&log[..log.len() - 3], &[]]), Verdict::Sound);
    // A row comes once.
    assert_eq!(judge_logs(0, &[&next, &log]), Verdict::Damaged);
    assert_eq!(judge_logs(0, &[&next, &next]), Verdict::Damaged);
    let (short, _) = written(&[records[0].clone(), b"too short".to_vec()]);
    assert_eq!(judge_logs(0, &[&short]), Verdict::Damaged);
}

/// Whatever a cut took first of what was not synced, everything from there on goes, whole or not.
#[test]
fn a_hole_in_what_was_not_synced_is_torn_whatever_is_whole_behind_it() {
    let [(log, places), (next, _)] = two_logs(100);
    for (n, (begin, end)) in places.iter().enumerate() {
        let lost = 101 + n as u64;
        for start in [*begin, begin.next_multiple_of(512), (end - 1) / 512 * 512] {
            let hole = with_hole(&log, start, 512 - start % 512);
            // A record that has its whole end in the hole is not the first.
            let first = places.iter().find(|(begin, end)| hole[*begin..*end] != log[*begin..*end]).unwrap();
            let cut = torn(0, first.0, log.len() - first.0 + next.len());
            assert_eq!(judge_logs(100, &[&hole, &next]), cut, "record {n}, hole at {start}");
        }
        let short = &log[..end - 3];
        assert_eq!(judge_logs(lost - 1, &[short, &next]), torn(0, *begin, end - 3 - begin + next.len()));
        // With nothing left before it, all that is known is that the row before the next log is gone.
        let known = if n == 0 { 110 } else { lost };
        assert_eq!(judge_logs(known, &[short, &next]), Verdict::Damaged, "the witness knows of {known}");
        // The end of a log is gone with whole records, and the next one is there.
        let gap = judge_logs(lost - 1, &[&log[..*begin], &next]);
        let expected = if n == 0 { Verdict::Sound } else { torn(1, 0, next.len()) };
        assert_eq!(gap, expected, "from record {n} on");
        if n > 0 {
            assert_eq!(judge_logs(lost, &[&log[..*begin], &next]), Verdict::Damaged);
        }
    }
    // Nothing but zeros from some record on.
    let zeros = with_hole(&log, places[4].0, log.len());
    assert_eq!(judge_logs(100, &[&zeros]), torn(0, places[4].0, log.len() - places[4].0));
    assert_eq!(judge_logs(105, &[&zeros]), Verdict::Damaged);
}

/// Records say what was synced when they were made, without any witness beside the log.
#[test]
fn a_hole_in_what_a_later_record_knows_to_be_synced_is_damage() {
    for synced in 100..119 {
        let [(log, places), (next, later)] = two_logs(synced);
        for (n, (begin, end)) in places.iter().enumerate() {
            let hole = with_hole(&log, begin.next_multiple_of(512), 512);
            let first = places.iter().find(|(begin, end)| hole[*begin..*end] != log[*begin..*end]).unwrap();
            let lost = 101 + places.iter().position(|place| place == first).unwrap() as u64;
            let found = judge_logs(0, &[&hole, &next]);
            assert_eq!(found == Verdict::Damaged, synced >= lost, "record {n}, synced {synced}: {found:?}");
            let found = judge_logs(0, &[&log[..end - 3], &next]);
            let known = if n == 0 { 110 } else { 101 + n as u64 };
            assert_eq!(found == Verdict::Damaged, synced >= known, "record {n}, synced {synced}");
        }
        // The one that knows it is not there either.
        let hole = with_hole(&log, places[3].0, 512);
        assert!(matches!(judge_logs(0, &[&hole, &next[..later[9].0]]), Verdict::Torn(_)));
    }
    // Whose begin is lost: the row before the first that is left is, for certain.
    let [(log, places), _] = two_logs(0);
    let hole = with_hole(&log, 0, 512);
    assert_eq!(judge_logs(100, &[&hole]), torn(0, 0, log.len()));
    assert_eq!(judge_logs(101, &[&hole]), Verdict::Damaged);
    // The zeros end before the sector does, and so do those of the record.
    let begin = places[5].0.next_multiple_of(512);
    assert_eq!(judge_logs(0, &[&with_hole(&log, begin, 500)]), Verdict::Damaged);
    assert!(matches!(judge_logs(0, &[&with_hole(&log, begin + 12, 500)]), Verdict::Torn(_)));
}

/// The first log begins no later than behind the rows in tables; one that does is not the first.
#[test]
fn a_first_log_that_begins_behind_rows_that_are_in_no_table_is_not_whole() {
    let record = |row: u64| rows(row, 1, 0, 3_000);
    let [(log, places), (next, _)] =
        [101..111, 111..121].map(|these| written(&these.map(record).collect::<Vec<_>>()));
    for tables in [100, 101, 105, 110, 500] {
        assert_eq!(judge_behind(0, Some(tables), &[&log, &next]), Verdict::Sound, "up to {tables}");
        assert_eq!(judge_behind(0, Some(tables), &[]), Verdict::Sound);
    }
    for tables in [0, 50, 99] {
        let all = torn(0, 0, log.len() + next.len());
        assert_eq!(judge_behind(tables, Some(tables), &[&log, &next]), all, "up to {tables}");
        assert_eq!(judge_behind(tables + 1, Some(tables), &[&log, &next]), Verdict::Damaged);
    }
    assert_eq!(judge_behind(0, Some(109), &[&next]), torn(0, 0, next.len()));
    assert_eq!(judge_behind(0, Some(110), &[&next]), Verdict::Sound);
    let [(knows, _), _] = two_logs(100);
    assert_eq!(judge_behind(0, Some(98), &[&knows]), Verdict::Damaged, "it knows of 99");
    // Whose begin is lost: what is in tables was synced, in whatever log it is.
    let hole = with_hole(&log, 0, 512);
    assert_eq!(judge_behind(0, Some(100), &[&hole]), torn(0, 0, log.len()));
    assert_eq!(judge_behind(101, Some(100), &[&hole]), Verdict::Damaged);
    assert_eq!(judge_behind(0, Some(101), &[&hole]), Verdict::Damaged);
    let all = with_hole(&log, 0, log.len());
    assert_eq!(judge_behind(0, Some(100), &[&all]), torn(0, 0, log.len()));
    assert_eq!(judge_behind(101, Some(100), &[&all]), Verdict::Damaged);
    let hole = with_hole(&log, places[3].0, 512 - places[3].0 % 512);
    assert_eq!(judge_behind(0, Some(103), &[&hole]), torn(0, places[3].0, log.len() - places[3].0));
    assert_eq!(judge_behind(0, Some(104), &[&hole]), Verdict::Damaged);
}

/// Content may be a log, and says nothing of the one it is in.
#[test]
fn a_log_within_a_record_is_no_record() {
    let (inner, _) = written(&[rows(5, 1, 4, 0), rows(6, 1, 5, 100)]);
    let record = [rows(20, 1, 10, 600), inner].concat();
    let (log, places) = written(&[rows(19, 1, 10, 10), record]);
    let hole = with_hole(&log, 512 - 7, 7 + 20);
    assert_eq!(judge_logs(0, &[&hole]), Verdict::Damaged, "no hole");
    let hole = with_hole(&log, places[1].0, 512 - places[1].0);
    assert_eq!(judge_logs(0, &[&hole]), torn(0, places[1].0, log.len() - places[1].0));
}

#[test]
fn kinds_that_the_settings_never_ask_for_are_damage() {
    let (mut log, _) = log(&[10]);
    for kind in [5, 9, 130] {
        let end = log.len();
        log.extend_from_slice(&checksum(kind, b"more").to_le_bytes());
        log.extend_from_slice(&[4, 0, kind]);
        log.extend_from_slice(b"more");
        assert_eq!(judge(&log), Verdict::Damaged, "{kind}");
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
        let _ = judge_logs(9, &logs);
        let (mut log, _) = log(&[100, size, 100]);
        for (at, length, byte) in holes {
            let end = (at + length).min(log.len());
            log[at.min(end)..end].fill(byte);
        }
        let _ = (judge(&log), judge_logs(0, &[&log]));
    }

    #[test]
    fn what_is_left_of_torn_logs_is_what_comes_before_the_first_loss(
        sizes in prop::collection::vec(0_usize..40_000, 2..8),
        at in any::<prop::sample::Index>(),
        lengths in prop::collection::vec(1_usize..9_000, 1..3),
        synced in 0_u64..9,
    ) {
        let records: Vec<_> = (1..).zip(&sizes).map(|(row, size)| rows(row, 1, synced.min(row - 1), *size)).collect();
        let (log, places) = written(&records);
        let at = at.index(log.len());
        let damaged = lengths.iter().fold(log.clone(), |log, length| with_hole(&log, at / 512 * 512, *length / 512 * 512));
        let lost = places.iter().position(|(begin, end)| damaged[*begin..*end] != log[*begin..*end]);
        match judge_logs(0, &[&damaged]) {
            Verdict::Sound => prop_assert!(lost.is_none()),
            Verdict::Torn(cut) => {
                let lost = lost.unwrap();
                prop_assert_eq!(cut.at as usize, places[lost].0);
                prop_assert_eq!(cut.dropped as usize, log.len() - places[lost].0);
            }
            // Something that is whole knows of it.
            Verdict::Damaged => prop_assert!(synced > lost.unwrap() as u64),
        }
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
        if let Verdict::Torn(cut) = judge(&damaged) {
            let kept = cut.at as usize;
            prop_assert_eq!(cut.dropped as usize, log.len() - kept);
            // A record whose bytes did not change is not dropped.
            for (begin, end) in places {
                prop_assert!(begin < kept || damaged[begin..end] != log[begin..end]);
            }
        }
    }
}
