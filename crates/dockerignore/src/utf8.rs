//! Text as Go sees it: every byte that is not part of a valid encoding is one U+FFFD.
//!
//! Rust's lossy conversions fold a broken sequence into a single replacement character, so the
//! two languages count characters differently; `?` counts characters.

/// The first character of `bytes`, which must not be empty, and how many bytes it takes.
pub(super) fn first(bytes: &[u8]) -> (char, usize) {
    let width = match bytes[0] {
        byte @ ..0x80 => return (char::from(byte), 1),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let valid = bytes.get(..width).and_then(|head| str::from_utf8(head).ok());
    valid
        .and_then(|head| head.chars().next())
        .map_or((char::REPLACEMENT_CHARACTER, 1), |c| (c, width))
}

/// The last character of `bytes`, which must not be empty, and how many bytes it takes.
pub(super) fn last(bytes: &[u8]) -> (char, usize) {
    let is_start = |byte: u8| byte & 0xc0 != 0x80;
    for width in 1..=bytes.len().min(4) {
        let start = bytes.len() - width;
        if is_start(bytes[start]) {
            let (c, taken) = first(&bytes[start..]);
            return if taken == width { (c, width) } else { (char::REPLACEMENT_CHARACTER, 1) };
        }
    }
    (char::REPLACEMENT_CHARACTER, 1)
}

/// `bytes` as a string, each invalid byte replaced on its own.
pub(super) fn to_string(mut bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    while !bytes.is_empty() {
        let (c, width) = first(bytes);
        text.push(c);
        bytes = &bytes[width..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invalid_byte_is_one_character() {
        let one_each = "\u{fffd}\u{fffd}";
        assert_eq!(to_string(b"a\xe2\x98b"), format!("a{one_each}b"));
        assert_eq!(to_string(b"\xc0\xaf"), one_each, "an overlong slash");
        assert_eq!(to_string("a☺b".as_bytes()), "a☺b");
    }

    #[test]
    fn both_ends_agree_on_where_characters_begin() {
        for bytes in
            [&b"a\xe2\x98\xba"[..], b"\xe2\x98", b"\x98\x98\x98\x98\x98", b"\xf0\x9f\x98\xba\xba"]
        {
            let mut forward = Vec::new();
            let mut rest = bytes;
            while !rest.is_empty() {
                let (c, width) = first(rest);
                forward.push(c);
                rest = &rest[width..];
            }
            let mut backward = Vec::new();
            let mut rest = bytes;
            while !rest.is_empty() {
                let (c, width) = last(rest);
                backward.insert(0, c);
                rest = &rest[..rest.len() - width];
            }
            assert_eq!(forward, backward, "{bytes:x?}");
        }
    }
}
