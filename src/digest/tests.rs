#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may panic")]

use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;

// FIPS 180-4 examples for the two SHA-2; BLAKE3's from its b3sum.
const VECTORS: [(Algorithm, &str, usize, &str); 9] = [
    (Algorithm::Sha256, "", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (Algorithm::Sha256, "abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (Algorithm::Sha256, "a", 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    (
        Algorithm::Sha512,
        "",
        1,
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
         47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    ),
    (
        Algorithm::Sha512,
        "abc",
        1,
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
         2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ),
    (
        Algorithm::Sha512,
        "a",
        1_000_000,
        "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb\
         de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b",
    ),
    (Algorithm::Blake3, "", 1, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    (Algorithm::Blake3, "abc", 1, "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85"),
    (Algorithm::Blake3, "a", 1_000_000, "616f575a1b58d4c9797d4217b9730ae5e6eb319d76edef6549b46f4efe31ff8b"),
];

#[test]
fn vectors() {
    for (algorithm, text, times, expected) in VECTORS {
        let bytes = text.repeat(times);
        let digest = algorithm.digest(bytes.as_bytes());
        assert_eq!(digest.to_string(), format!("{algorithm}:{expected}"));
        assert_eq!(digest.encoded().to_string(), expected);
        assert_eq!(digest.short().to_string(), expected[..12]);
        assert_eq!(format!("{digest:?}"), format!("{algorithm}:{}..", &expected[..12]));
        assert_eq!(digest.as_bytes().len(), algorithm.digest_len());
        assert_eq!(expected.len(), 2 * algorithm.digest_len());

        let mut digester = Digester::new(algorithm);
        digester.write_all(bytes.as_bytes()).unwrap();
        digester.flush().unwrap();
        assert_eq!(digester.algorithm(), algorithm);
        assert_eq!(digester.finish(), digest);
    }
    assert_eq!(Digest::of(b"abc"), Algorithm::default().digest(b"abc"));
    assert_eq!(Digest::of(b"abc").algorithm(), Algorithm::Sha256);
}

#[test]
fn algorithms() {
    for (at, algorithm) in Algorithm::ALL.into_iter().enumerate() {
        assert_eq!(algorithm.to_string().parse::<Algorithm>().unwrap(), algorithm);
        assert_eq!(usize::from(algorithm.code()), at + 1);
        assert_eq!(Algorithm::from_code(algorithm.code()), Some(algorithm));
    }
    assert!(Algorithm::ALL.is_sorted());
    assert_eq!(Algorithm::from_code(0), None);
    assert_eq!(Algorithm::from_code(4), None);
    for bad in ["", "SHA256", "sha-256", "md5"] {
        let error = bad.parse::<Algorithm>().unwrap_err();
        assert!(error.is_unsupported_algorithm() && error.to_string().contains(bad), "{error}");
    }
}

#[test]
fn refused() {
    let hex = "0123456789abcdef".repeat(4);
    let upper = format!("sha256:{}", hex.to_uppercase());
    let short = format!("sha256:{}", &hex[1..]);
    let long = format!("sha256:{hex}0");
    let wrong = format!("sha512:{hex}");
    let letter = format!("sha256:{}g", &hex[1..]);
    let huge = format!("sha256:{}", "a".repeat(10_000));
    let newline = format!("sha256:{hex}\n");
    for (value, needle) in [
        ("", "no colon"),
        ("sha256", "no colon"),
        (&*hex, "no colon"),
        (":", "algorithm breaks"),
        (":abc", "algorithm breaks"),
        ("SHA256:abc", "algorithm breaks"),
        ("sha256+:abc", "algorithm breaks"),
        ("sha256..b:abc", "algorithm breaks"),
        ("sh\u{e4}256:abc", "algorithm breaks"),
        ("../sha256:abc", "algorithm breaks"),
        ("sha256:", "encoded part"),
        ("sha256:../../etc", "encoded part"),
        ("sha256:a:b", "encoded part"),
        ("sha256:\u{e4}", "encoded part"),
        ("sha256:a/b", "encoded part"),
        ("sha256:a\0b", "encoded part"),
        (&newline, "encoded part"),
        ("sha256:abc", "expected=64, found=3"),
        (&short, "expected=64, found=63"),
        (&long, "expected=64, found=65"),
        (&wrong, "expected=128, found=64"),
        (&huge, "expected=64, found=10000"),
        (&upper, "lower-case"),
        (&letter, "lower-case"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "not supported"),
        ("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8", "not supported"),
    ] {
        let error = value.parse::<Digest>().unwrap_err();
        let message = error.to_string();
        assert!(message.contains(needle), "{value}: {message}");
        assert!(message.contains(&excerpt(value).to_string()) && message.is_ascii(), "{message}");
        assert!(message.len() < 300 && !message.contains(['\n', '\0']), "{message}");
        assert_eq!(error.is_unsupported_algorithm(), needle == "not supported", "{value}");
        let by_grammar = !["no colon", "algorithm breaks", "encoded part"].contains(&needle);
        assert_eq!(Digest::is_valid_grammar(value), by_grammar, "{value}");

        let error = Error::from(error);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn keys_that_are_none() {
    let mut key = Vec::new();
    Digest::of(b"").to_key(&mut key);
    for len in 0..key.len() {
        assert_eq!(Digest::from_key(&key[..len]), None, "{len}");
    }
    key[0] = 9;
    assert_eq!(Digest::from_key(&key), None);
    assert_eq!(Digest::from_bytes(Algorithm::Sha256, &[0; 31]), None);
    assert_eq!(Digest::from_bytes(Algorithm::Blake3, &[0; 33]), None);
    assert_eq!(Digest::from_bytes(Algorithm::Sha512, &[0; 32]), None);
}

#[test]
fn excerpts() {
    for (value, expected) in [
        ("", "\"\""),
        ("a/b:c", "a/b:c"),
        ("a b", "\"a b\""),
        ("a\"b", "\"a\\\"b\""),
        ("\u{1b}[2J", "\"\\u{1b}[2J\""),
        ("\u{202e}", "\"\\u{202e}\""),
    ] {
        assert_eq!(excerpt(value).to_string(), expected);
    }
    assert_eq!(excerpt(&"a".repeat(100)).to_string(), "a".repeat(100));
    assert_eq!(excerpt(&"a".repeat(101)).to_string(), "a".repeat(100) + "..");
    assert!(excerpt(&"\u{1f600}".repeat(101)).to_string().ends_with("\".."));
}

fn digests() -> impl Strategy<Value = Digest> {
    let algorithm = prop::sample::select(Algorithm::ALL.to_vec());
    (algorithm, any::<[u8; 32]>(), any::<[u8; 32]>(), 0..3_usize).prop_map(
        |(algorithm, head, tail, zeroed)| {
            // Zeroed heads make digests that differ only in the algorithm or only late.
            let mut bytes = [head, tail].concat();
            bytes[..32 * zeroed].fill(0);
            Digest::from_bytes(algorithm, &bytes[..algorithm.digest_len()]).unwrap()
        },
    )
}

/// The state of "abc" is what FIPS 180-4 begins with, no block, and three bytes: the bytes of stored sessions.
#[test]
fn a_midstate_has_the_bytes_that_the_format_says() {
    for (algorithm, first, length) in [
        (Algorithm::Sha256, &[0x67, 0xe6, 0x09, 0x6a][..], 104),
        (Algorithm::Sha512, &[0x08, 0xc9, 0xbc, 0xf3], 208),
    ] {
        let mut digester = Digester::new(algorithm);
        digester.update(b"abc");
        let state = digester.midstate().unwrap();
        assert_eq!((state.len(), &state[..4]), (length, first));
        let words = algorithm.digest_len();
        assert!(state[words..words + words / 4].iter().all(|byte| *byte == 0));
        assert_eq!(&state[words + words / 4..][..4], [3, b'a', b'b', b'c']);
        assert!(state[words + words / 4 + 4..].iter().all(|byte| *byte == 0));
    }
    assert!(Digester::new(Algorithm::Blake3).midstate().is_none());
}

#[test]
fn a_midstate_that_is_none_is_refused() {
    let mut digester = Digester::new(Algorithm::Sha256);
    digester.update(&[7; 100]);
    let state = digester.midstate().unwrap();
    assert!(Digester::resume(Algorithm::Sha256, &state, 100).is_some());
    assert!(Digester::resume(Algorithm::Sha256, &state, 99).is_none(), "another length");
    assert!(Digester::resume(Algorithm::Sha512, &state, 100).is_none(), "another algorithm");
    assert!(Digester::resume(Algorithm::Blake3, &state, 100).is_none());
    for cut in 0..state.len() {
        assert!(Digester::resume(Algorithm::Sha256, &state[..cut], 100).is_none());
    }
    let mut beyond = state.clone();
    beyond[40] = 64;
    assert!(Digester::resume(Algorithm::Sha256, &beyond, 128).is_none(), "a whole block is no rest");
    let mut endless = state;
    endless[32..40].fill(0xff);
    assert!(Digester::resume(Algorithm::Sha256, &endless, 100).is_none());
}

proptest! {
    #[test]
    fn hashing_goes_on_from_a_midstate_wherever_it_was_cut(
        bytes in proptest::collection::vec(any::<u8>(), 0..700), cuts in proptest::collection::vec(0_usize..700, 0..6)
    ) {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let (mut digester, mut done) = (Digester::new(algorithm), 0);
            for cut in cuts {
                digester.update(&bytes[done..cut]);
                done = cut;
                let state = digester.midstate().unwrap();
                digester = Digester::resume(algorithm, &state, done as u64).unwrap();
            }
            digester.update(&bytes[done..]);
            prop_assert_eq!(digester.finish(), algorithm.digest(&bytes));
        }
    }
    #[test]
    fn printed_digests_parse_back(digest in digests()) {
        let text = digest.to_string();
        prop_assert!(Digest::is_valid_grammar(&text));
        prop_assert_eq!(text.parse::<Digest>().unwrap(), digest);
        let json = serde_json::to_string(&digest).unwrap();
        prop_assert_eq!(&json, &format!("\"{text}\""));
        prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        prop_assert_eq!(Digest::from_bytes(digest.algorithm(), digest.as_bytes()), Some(digest));
    }

    #[test]
    fn keys_order_as_digests_do(one in digests(), two in digests(), rest in prop::collection::vec(any::<u8>(), 0..9)) {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        one.to_key(&mut first);
        two.to_key(&mut second);
        prop_assert_eq!(first.cmp(&second), one.cmp(&two));
        let len = first.len();
        first.extend_from_slice(&rest);
        prop_assert_eq!(Digest::from_key(&first), Some((one, len)));
    }

    #[test]
    fn pieces_do_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..5000), cuts in prop::collection::vec(1..900_usize, 1..9)) {
        for algorithm in Algorithm::ALL {
            let mut digester = Digester::new(algorithm);
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, next) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                digester.update(piece);
                rest = next;
            }
            prop_assert_eq!(digester.finish(), algorithm.digest(&bytes));
        }
    }

    #[test]
    fn parsing_never_panics(text in "\\PC*", hex in "(sha256|sha512|blake3|x):[0-9a-fA-F]{60,130}") {
        for value in [text, hex] {
            match value.parse::<Digest>() {
                Ok(digest) => prop_assert_eq!(digest.to_string(), value),
                Err(error) => prop_assert!(error.to_string().contains("digest=")),
            }
        }
    }
}

#[test]
fn the_quick_encoding_is_the_slow_one() {
    for algorithm in Algorithm::ALL {
        let digest = algorithm.digest(b"content");
        let mut quick = String::from("x");
        digest.encode_into(&mut quick);
        assert_eq!(quick, format!("x{}", digest.encoded()));
    }
}
