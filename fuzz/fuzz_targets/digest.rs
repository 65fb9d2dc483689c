//! Digests: what is parsed is written back as it was, and can be no path but the one of a content.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orlop::digest::Digester;
use orlop::{Algorithm, Digest};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match text.parse::<Digest>() {
        Ok(digest) => {
            assert_eq!(digest.to_string(), text);
            assert!(Digest::is_valid_grammar(text));
            let (algorithm, encoded) = text.split_once(':').unwrap();
            assert_eq!(algorithm, digest.algorithm().as_str());
            assert_eq!(encoded.len(), 2 * digest.algorithm().digest_len());
            assert!(encoded.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
            assert_eq!(Digest::from_bytes(digest.algorithm(), digest.as_bytes()), Some(digest));
            assert_eq!(serde_json::from_str::<Digest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        }
        Err(error) => {
            // The message names the text in bounded form, and on one line.
            let message = error.to_string();
            assert!(message.len() < 1500 && !message.contains('\n'), "{message:?}");
            if error.is_unsupported_algorithm() {
                assert!(Digest::is_valid_grammar(text));
            }
        }
    }
    // Hashing in parts is hashing at once.
    for algorithm in Algorithm::ALL {
        let mut digester = Digester::new(algorithm);
        let cut = bytes.first().map_or(0, |first| usize::from(*first) % (bytes.len() + 1));
        digester.update(&bytes[..cut]);
        digester.update(&bytes[cut..]);
        assert_eq!(digester.finish(), algorithm.digest(bytes));
    }
});
