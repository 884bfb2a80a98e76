//! The name somebody meant: the nearest known one by edit distance.
//!
//! Distance is optimal string alignment (a swap of neighbours counts as one edit, because that is
//! the commonest slip). A name further off than a third of its length is no suggestion: a wrong
//! one costs more time than none.

use strsim::osa_distance;

/// The nearest of `known` to `word`, if any is near enough; case decides between equals.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let limit = word.chars().count() / 3;
    known
        .into_iter()
        .map(|name| (osa_distance(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(loose, _)| *loose <= limit)
        .min_by_key(|(loose, name)| (*loose, osa_distance(word, name)))
        .map(|(_, name)| name)
}

/// The hint for a name that is not known: the nearest one, else all there are.
pub(super) fn hint<'k>(
    word: &str,
    what: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> String {
    if let Some(near) = nearest(word, known.clone()) {
        return format!("did you mean `{near}`?");
    }
    let names: Vec<String> = known.into_iter().map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => format!("there are no {what}"),
        _ => format!("the {what} are {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_a_stranger_is_not() {
        let known = ["API", "api", "memory", "timeout", "silence", "node-image"];
        for (word, near) in [
            ("memroy", Some("memory")),
            ("Memory", Some("memory")),
            ("time-out", Some("timeout")),
            ("node_image", Some("node-image")),
            ("x", None),
            ("apo", Some("api")),
            ("", None),
            ("replicas", None),
        ] {
            assert_eq!(nearest(word, known), near, "{word}");
        }
    }
}
