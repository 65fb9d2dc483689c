//! What a registry can write into its answers, and what files of credentials can hold: the first byte names the reader.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| orlop::fuzzing::client(bytes));
