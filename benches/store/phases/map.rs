//! Where mapping a file begins to cost less than reading it: both open, touch every byte and close.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use super::Reporter;
use crate::floor;
use crate::harness::{Outcome, Run, content, per_op};
use crate::report::{Goal, Line};

const KIB: usize = 1024;
const FILES: usize = 16;

pub(crate) fn run(run: &Run, reporter: &Reporter) -> Outcome<()> {
    let dir = run.fresh("map")?;
    fs::create_dir_all(&dir)?;
    for kib in [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096] {
        let size = kib * KIB;
        let files: Vec<_> = (0..FILES).map(|number| dir.join(format!("{kib}-{number}"))).collect();
        for (number, file) in files.iter().enumerate() {
            floor::write_file(file, &content(number as u64, size))?;
        }
        let n = run.count((256 << 20) / size, (16 << 20) / size).clamp(FILES, 4096);
        let each = |touch: fn(&Path, usize) -> Outcome<u64>| {
            let start = Instant::now();
            for file in files.iter().cycle().take(n) {
                std::hint::black_box(touch(file, size)?);
            }
            Outcome::Ok(per_op(start, n))
        };
        let samples = run.compare(7, |_| each(mapped), |_| each(read))?;
        reporter.print(Line::new(
            &format!("map/{kib}K"),
            n,
            "us mapped, floor read",
            &samples,
            Goal::None,
        ))?;
    }
    run.retire(&dir)
}

#[expect(unsafe_code, reason = "the call that is measured")]
fn mapped(path: &Path, size: usize) -> Outcome<u64> {
    let file = File::open(path)?;
    if file.metadata()?.len() != size as u64 {
        return Err("wrong size".into());
    }
    // SAFETY: the file was written by this process, which does not change it while the map lives.
    let map = unsafe { memmap2::Mmap::map(&file)? };
    Ok(sum(&map))
}

fn read(path: &Path, size: usize) -> Outcome<u64> {
    let mut bytes = Vec::with_capacity(size + 1);
    File::open(path)?.take(size as u64).read_to_end(&mut bytes)?;
    Ok(sum(&bytes))
}

/// Touches every byte as a hash would, in a fraction of its time.
fn sum(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8).map(|word| word.try_into().map_or(0, u64::from_be_bytes));
    words.fold(0, u64::wrapping_add)
}
