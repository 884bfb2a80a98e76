//! The syntax check a pattern must pass before anything is matched.
//!
//! BuildKit asks Go's `filepath.Match(pattern, ".")` and looks at nothing but its error. That
//! function stops at the first part that does not match `.`, so of `a*[` it never sees the `[`
//! (the pattern then fails when first tested), while `[`, `a[`, `[]a]`, `[-x]`, `[a-b-c]` and a
//! lone `\` are refused at once. This is that function, kept in its own shape.

struct Malformed;

/// Whether `filepath.Match` reports a malformed pattern.
pub(super) fn is_malformed(pattern: &str) -> bool {
    let mut rest = pattern;
    let mut name = ".";
    while !rest.is_empty() {
        let (star, chunk, after) = next_chunk(rest);
        rest = after;
        if star && chunk.is_empty() {
            return false;
        }
        let starts = if star { 0..=name.len() } else { 0..=0 };
        let mut found = None;
        for start in starts {
            match match_chunk(chunk, &name[start..]) {
                Err(Malformed) => return true,
                Ok(Some(left)) if left.is_empty() || !rest.is_empty() => {
                    found = Some(left);
                    break;
                }
                Ok(_) => {}
            }
        }
        match found {
            Some(left) => name = left,
            None => return false,
        }
    }
    false
}

/// Splits off the part up to the next `*` outside a class, and whether stars stand before it.
fn next_chunk(pattern: &str) -> (bool, &str, &str) {
    let chunk = pattern.trim_start_matches('*');
    let mut in_class = false;
    let mut bytes = chunk.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'[' => in_class = true,
            b']' => in_class = false,
            b'*' if !in_class => return (chunk.len() < pattern.len(), &chunk[..at], &chunk[at..]),
            _ => {}
        }
    }
    (chunk.len() < pattern.len(), chunk, "")
}

/// What is left of `name` after `chunk`, `None` if it does not match. All of the chunk is read even
/// when the match has failed.
fn match_chunk<'n>(mut chunk: &str, name: &'n str) -> Result<Option<&'n str>, Malformed> {
    let mut left = Some(name);
    while let Some(c) = chunk.chars().next() {
        let (head, tail) = match left.and_then(|left| left.chars().next()) {
            Some(head) => (Some(head), left.map(|left| &left[head.len_utf8()..])),
            None => (None, None),
        };
        chunk = &chunk[c.len_utf8()..];
        let matches = match c {
            '[' => {
                let (class, after) = read_class(chunk).ok_or(Malformed)?;
                chunk = after;
                head.is_some_and(class)
            }
            '?' => head.is_some_and(|head| head != '/'),
            '\\' => {
                let escaped = chunk.chars().next().ok_or(Malformed)?;
                chunk = &chunk[escaped.len_utf8()..];
                head == Some(escaped)
            }
            c => head == Some(c),
        };
        left = if matches { tail } else { None };
    }
    Ok(left)
}

/// A class after its `[`, as a test of a character, and what follows its `]`.
fn read_class(text: &str) -> Option<(impl Fn(char) -> bool + use<>, &str)> {
    let (negated, mut rest) = text.strip_prefix('^').map_or((false, text), |after| (true, after));
    let mut ranges = Vec::new();
    while ranges.is_empty() || !rest.starts_with(']') {
        let (low, after) = class_char(rest)?;
        let (high, after) = match after.strip_prefix('-') {
            Some(after) => class_char(after)?,
            None => (low, after),
        };
        ranges.push(low..=high);
        rest = after;
    }
    let class = move |c: char| ranges.iter().any(|range| range.contains(&c)) != negated;
    Some((class, &rest[1..]))
}

/// One character of a class; something must follow it.
fn class_char(text: &str) -> Option<(char, &str)> {
    if text.starts_with(['-', ']']) {
        return None;
    }
    let text = text.strip_prefix('\\').unwrap_or(text);
    let c = text.chars().next()?;
    let after = &text[c.len_utf8()..];
    (!after.is_empty()).then_some((c, after))
}

#[cfg(test)]
mod tests {
    use super::is_malformed;

    #[test]
    fn what_is_refused_at_once() {
        for bad in
            ["[", "a[", "[]a]", "[-x]", "[x-]", "[a-b-c]", "\\", "a\\", "[a", "[^", "*[", "[]"]
        {
            assert!(is_malformed(bad), "{bad}");
        }
    }

    #[test]
    fn what_passes_though_it_may_fail_later() {
        for fine in
            ["[z-a]", "[Local-Only]", "\\q", "\\1", "[!a]b", "[^a]", "]", "a]", "[\\]]", "a*["]
        {
            assert!(!is_malformed(fine), "{fine}");
        }
    }
}
