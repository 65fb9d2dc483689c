//! Keys, records and logs of the metadata.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    orlop::fuzzing::records(bytes);
    orlop::fuzzing::keys(bytes);
    orlop::fuzzing::log(bytes);
});
