//! What a client can write into the head of a request: path, query, ranges of both kinds, conditions.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        orlop::fuzzing::request(text);
    }
});
