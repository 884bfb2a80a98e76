//! What others wrote, as text: names of files, output of builds and tests, errors of engines,
//! manifests.
//!
//! Whatever is printed passes here once, on its way out. Controls become visible signs (`␛`), so
//! that none moves the cursor, sets the clipboard or hides a line; so do the marks that turn the
//! direction of writing. What stays is newline, tab and plain colours, which end with their line.
//!
//! GitHub reads commands out of a step's output: a line that begins with `::`, and `##[` anywhere.
//! Both get a space of no width ([`defused`]); in JSON an escape stands for one of the letters
//! ([`json`]).

use std::fmt::Write as _;

use crate::text::OFF;

/// Longest parameters of a colour: `38;2;255;255;255` and then some.
const LONGEST_COLOUR: usize = 40;

/// Text for a terminal or a log, with plain colours.
pub(super) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut coloured = false;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        rest = &rest[letter.len_utf8()..];
        match letter {
            '\n' => {
                out.push_str(if coloured { OFF } else { "" });
                coloured = false;
                out.push(letter);
            }
            '\r' if rest.starts_with('\n') => {}
            '\x1b' => match colour(rest) {
                Some((parameters, after)) => {
                    out.push_str("\x1b[");
                    out.push_str(parameters);
                    out.push('m');
                    coloured = !matches!(parameters, "" | "0");
                    rest = after;
                }
                None => out.push(sign(letter)),
            },
            letter => out.push(sign(letter)),
        }
    }
    out.push_str(if coloured { OFF } else { "" });
    out
}

/// Text on one line, without colours.
pub(super) fn line(words: &str) -> String {
    let coloured = text(words);
    let mut parts = coloured.split('\x1b');
    let mut out = parts.next().unwrap_or_default().to_owned();
    // Only colours have the escape character now.
    parts.for_each(|part| out.push_str(part.split_once('m').map_or("", |(_, rest)| rest)));
    out.replace(['\n', '\t'], " ")
}

/// Parameters of the colour that begins after its escape character, and what follows it.
fn colour(rest: &str) -> Option<(&str, &str)> {
    let rest = rest.strip_prefix('[')?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    let after = rest[end..].strip_prefix('m')?;
    let parameters = &rest[..end];
    (end <= LONGEST_COLOUR && is_plain(parameters)).then_some((parameters, after))
}

/// Whether these parameters hide nothing: no blinking, no swapped or concealed letters.
fn is_plain(parameters: &str) -> bool {
    let mut numbers = parameters.split(';').map(|number| number.parse().unwrap_or(0_u32));
    while let Some(number) = numbers.next() {
        match number {
            // A colour by number, or by its three parts.
            38 | 48 => match numbers.next() {
                Some(5) => drop(numbers.next()),
                Some(2) => drop(numbers.nth(2)),
                _ => return false,
            },
            0..=4 | 22..=25 | 27..=29 | 30..=37 | 39..=47 | 49 | 90..=97 | 100..=107 => {}
            _ => return false,
        }
    }
    true
}

/// What is shown for a letter: itself unless it controls something.
fn sign(letter: char) -> char {
    match letter {
        '\n' | '\t' => letter,
        // Unicode has a picture of each.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(letter)).unwrap_or('\u{fffd}'),
        '\x7f' => '␡',
        letter if letter.is_control() || turns(letter) => '\u{fffd}',
        letter => letter,
    }
}

/// Whether it turns the direction of writing, or parts lines where a newline does not.
fn turns(letter: char) -> bool {
    matches!(
        letter,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Text in which GitHub finds no command.
pub(super) fn defused(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let words = line.trim_start_matches(is_skipped);
        match words.strip_prefix("::") {
            Some(rest) => {
                out.push_str(&line[..line.len() - words.len()]);
                out.push_str(":\u{200b}:");
                out.push_str(rest);
            }
            None => out.push_str(line),
        }
    }
    out.replace("##[", "##\u{200b}[")
}

/// What GitHub does not see at the start of a line; colours are taken out where no terminal is.
fn is_skipped(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{feff}' | '\u{200b}')
}

/// Serialized JSON with an escape for what serde leaves as it is and a terminal or GitHub would
/// not.
pub(super) fn json(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter != '\n' && (letter.is_control() || turns(letter)) {
            write!(out, "\\u{:04x}", u32::from(letter)).ok();
        } else {
            out.push(letter);
        }
    }
    // A `#` is only ever within a string.
    out.replace("##[", "#\\u0023[")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn controls_become_signs_and_plain_colours_stay() {
        let table = [
            ("plain\ttext\nä €", "plain\ttext\nä €"),
            ("a\x1b]52;c;ZXZpbA==\x07b", "a␛]52;c;ZXZpbA==␇b"),
            ("a\x1b[2J\x1b[1;1Hb", "a␛[2J␛[1;1Hb"),
            ("one\r\ntwo\rthree", "one\ntwo␍three"),
            ("\x1b[31mred\x1b[0m x", "\x1b[31mred\x1b[0m x"),
            ("\x1b[1;38;5;196mred\nnext", "\x1b[1;38;5;196mred\x1b[0m\nnext"),
            ("\x1b[38;2;1;8;7mrgb", "\x1b[38;2;1;8;7mrgb\x1b[0m"),
            ("\x1b[8mhidden\x1b[m", "␛[8mhidden\x1b[m"),
            ("\x1b[0;8mhidden", "␛[0;8mhidden"),
            ("\x1b[38;9mx\x1b[", "␛[38;9mx␛["),
            ("\x1b\x1b[31", "␛␛[31"),
            ("\u{9b}2J \u{7f}\0", "\u{fffd}2J ␡␀"),
            ("abc\u{202e}gnp.exe\u{2028}x", "abc\u{fffd}gnp.exe\u{fffd}x"),
        ];
        for (from, expected) in table {
            assert_eq!(text(from), expected, "{from:?}");
        }
        assert_eq!(line("\x1b[31ma\nb\x1b[0m\x1b[2Jc\x1b[1"), "a b␛[2Jc␛[1");
    }

    #[test]
    fn github_finds_no_command() {
        let table = [
            ("::error::forged", ":\u{200b}:error::forged"),
            ("a\n \t ::add-mask::x\nb::c", "a\n \t :\u{200b}:add-mask::x\nb::c"),
            ("x ##[error]forged", "x ##\u{200b}[error]forged"),
            ("###[group]", "###\u{200b}[group]"),
            ("std::env", "std::env"),
        ];
        for (from, expected) in table {
            assert_eq!(defused(from), expected, "{from:?}");
        }
        let value = "x\u{9b}\u{7f}\u{202e}##[error]\x1b";
        let printed = json(&serde_json::to_vec(value).unwrap());
        assert!(printed.is_ascii() && !printed.contains("##["), "{printed}");
        assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), value);
    }

    /// Letters that matter, often, among all others.
    fn hostile() -> impl Strategy<Value = String> {
        let pieces =
            ["\x1b", "[", "m", "31", "8", ";", "\r", "\n", "::", "#", "##[", "\u{9b}", " "];
        let piece = prop_oneof![
            3 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
            1 => any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn nothing_that_controls_leaves(words in hostile()) {
            let printed = text(&words);
            let parts: Vec<&str> = printed.split('\x1b').collect();
            for part in &parts[1..] {
                let (parameters, _) = colour(part).expect("only colours have the escape character");
                prop_assert!(is_plain(parameters));
            }
            let controls = |c: char| (c.is_control() && !matches!(c, '\n' | '\t' | '\x1b')) || turns(c);
            prop_assert!(!printed.contains(controls), "{printed:?}");
            prop_assert_eq!(&text(&printed), &printed);
            prop_assert!(!line(&words).contains(|c: char| c.is_control() || turns(c)));

            let safe = defused(&printed);
            prop_assert!(!safe.contains("##["));
            prop_assert!(safe.lines().all(|line| !line.trim_start().starts_with("::")));

            let printed = json(&serde_json::to_vec(&words).unwrap());
            prop_assert!(!printed.contains(|c: char| c.is_control() || turns(c)));
            prop_assert_eq!(serde_json::from_str::<String>(&printed).unwrap(), words);
        }
    }
}
