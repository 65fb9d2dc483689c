//! What the fuzz target of the client tries: every reader of what comes from outside.

use std::time::Instant;

use reqwest::Url;

use super::auth_file::AuthFile;
use super::referrers::List;
use super::{address, challenge, link, ranges, retry, token};
use crate::oci::{RegistryName, RemoteName};

/// Gives the bytes behind the first to the reader that the first names.
pub(crate) fn client(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    match which % 10 {
        0 => drop(challenge::parse(text.split('\n'))),
        1 => drop(link::next(&text)),
        2 => drop(ranges::content_range(&text)),
        3 => drop(ranges::uploaded(&text)),
        4 => drop(retry::retry_after(&text, jiff::Timestamp::UNIX_EPOCH)),
        5 => drop(token::read(bytes, Instant::now())),
        6 => drop(List::read(bytes)),
        7 => {
            let from = Url::parse("https://registry.example/v2/a/blobs/uploads/").ok();
            if let Some(url) = from.and_then(|from| address::follow(&from, &text).ok()) {
                assert_eq!(url.scheme(), "https");
                drop(address::with_parameter(url, "digest", &text));
            }
        }
        8 => {
            let name: RegistryName = "a".parse().expect("a host");
            if let Ok(file) = AuthFile::parse(bytes) {
                let _ = file.find(&name, None);
                let again = file.with(&name, None).expect("written");
                AuthFile::parse(&again).expect("read again");
            }
        }
        _ => {
            if let Ok(name) = text.parse::<RemoteName>() {
                assert_eq!(name.to_string().parse::<RemoteName>().expect("printed"), name);
            }
        }
    }
}
