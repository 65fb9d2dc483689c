//! Mapping a file and touching its pages: the limit of reading without a copy. It is here because it needs `unsafe`, which the
//! command line of orlop has none of.

use std::fs::File;
use std::hint::black_box;

use crate::data::Stream;
use crate::protocol::{Cell, Clock, Described};

const FILES: usize = 4;
const PAGE: usize = 4096;

pub(crate) fn describe() -> Described {
    Described::limit("mmap", &["read-mapped"])
}

pub(crate) fn run(cell: &Cell, clock: &mut Clock) -> anyhow::Result<()> {
    let path = |number: usize| cell.dir.join(format!("file-{number}"));
    if cell.prepares {
        for number in 0..FILES {
            let mut file = File::create(path(number))?;
            std::io::copy(&mut Stream::new(&Stream::block(), number as u64, cell.large()), &mut file)?;
            file.sync_all()?;
        }
        return Ok(());
    }
    let mut bytes = 0;
    clock.start()?;
    for number in 0..FILES {
        let file = File::open(path(number))?;
        #[expect(unsafe_code, reason = "mapping is what is measured")]
        // SAFETY: nobody changes the file while it is mapped; it is in a directory of this run alone.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        bytes += map.len() as u64;
        black_box(map.iter().step_by(PAGE).fold(0_u64, |sum, byte| sum + u64::from(*byte)));
    }
    clock.stop(FILES, FILES, bytes, None);
    Ok(())
}
