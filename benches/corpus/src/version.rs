//! The order of Debian's versions (Debian Policy, 5.6.12).

use std::cmp::Ordering;

/// Compares two versions: epoch, then upstream version, then revision. Anything can be compared; what is no version
/// sorts by its bytes in some consistent way.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left) = split_epoch(left);
    let (right_epoch, right) = split_epoch(right);
    let (left_upstream, left_revision) = left.rsplit_once('-').unwrap_or((left, ""));
    let (right_upstream, right_revision) = right.rsplit_once('-').unwrap_or((right, ""));
    compare_part(left_epoch, right_epoch)
        .then_with(|| compare_part(left_upstream, right_upstream))
        .then_with(|| compare_part(left_revision, right_revision))
}

fn split_epoch(version: &str) -> (&str, &str) {
    version.split_once(':').unwrap_or(("", version))
}

/// Alternates between text, in which `~` comes before even the end and letters before all else, and numbers.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split_at_first(left, |byte| byte.is_ascii_digit());
        let (right_text, right_rest) = split_at_first(right, |byte| byte.is_ascii_digit());
        let (left_number, left_rest) = split_at_first(left_rest, |byte| !byte.is_ascii_digit());
        let (right_number, right_rest) = split_at_first(right_rest, |byte| !byte.is_ascii_digit());
        let order = compare_text(left_text, right_text)
            .then_with(|| compare_number(trim_zeros(left_number), trim_zeros(right_number)));
        if order.is_ne() {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn split_at_first(bytes: &[u8], stop: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|&byte| stop(byte)).unwrap_or(bytes.len()))
}

fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(&byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(&byte) => i32::from(byte) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|at| weight(left.get(at)).cmp(&weight(right.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Without leading zeros, the longer number is the greater one.
fn compare_number(left: &[u8], right: &[u8]) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn trim_zeros(digits: &[u8]) -> &[u8] {
    split_at_first(digits, |byte| byte != b'0').1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_in_the_order_of_the_policy() {
        let ascending = [
            "~~",
            "~~a",
            "~",
            "0",
            "0.9",
            "1.0~rc1-1",
            "1.0-1",
            "1.0-1+b1",
            "1.0-1+deb12u1",
            "1.0-2",
            "1.0-10",
            "1.0a-1",
            "1.0+a-1",
            "1.2",
            "1.10",
            "1:0.1",
            "2:0",
        ];
        for (at, left) in ascending.iter().enumerate() {
            for right in ascending.iter().skip(at + 1) {
                assert_eq!(compare(left, right), Ordering::Less, "{left} {right}");
                assert_eq!(compare(right, left), Ordering::Greater, "{right} {left}");
            }
        }
    }

    #[test]
    fn versions_can_be_equal_without_the_same_text() {
        for (left, right) in [("1.0", "1.00"), ("0:1", "1"), ("1-0", "1"), ("1.", "1.0"), ("", "")] {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
    }

    #[test]
    fn numbers_have_no_limit() {
        let (small, great) = (format!("1.{}", "9".repeat(50)), format!("1.1{}", "0".repeat(50)));
        assert_eq!(compare(&small, &great), Ordering::Less);
    }
}
