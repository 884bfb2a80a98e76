//! Wildcards against text, for components of paths ([`super::glob`]) and values of variables
//! ([`super::pattern`]): the two differ in what they read as a wildcard and in the character that
//! none matches.

/// One piece of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token {
    /// Any text.
    Text,
    /// Any character.
    One,
    Char(char),
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// Whether all of `text` matches; [`Token::Text`] and [`Token::One`] do not take `barrier`.
pub(super) fn matches(tokens: &[Token], text: &[char], barrier: char) -> bool {
    let (mut token, mut at) = (0, 0);
    // The last `Text`, and how far it reaches: one character further each time the rest does not
    // fit.
    let mut back: Option<(usize, usize)> = None;
    loop {
        let fits = match (tokens.get(token), text.get(at)) {
            (None, None) => return true,
            (Some(Token::Text), _) => {
                back = Some((token, at));
                token += 1;
                continue;
            }
            (Some(token), Some(ch)) => token.takes(*ch, barrier),
            _ => false,
        };
        if fits {
            (token, at) = (token + 1, at + 1);
            continue;
        }
        match back {
            Some((star, start)) if text.get(start).is_some_and(|ch| *ch != barrier) => {
                back = Some((star, start + 1));
                (token, at) = (star + 1, start + 1);
            }
            _ => return false,
        }
    }
}

impl Token {
    pub(super) fn takes(&self, ch: char, barrier: char) -> bool {
        match self {
            Token::Text | Token::One => ch != barrier,
            Token::Char(wanted) => *wanted == ch,
            Token::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&ch)) != *negated
            }
        }
    }
}
