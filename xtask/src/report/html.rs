//! HTML as text in which nothing that was not written here can be anything but text.

use std::fmt::Write as _;

/// A piece of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of our own; figures may be formatted into it, words go in by [`Html::text`] or
    /// [`tag`].
    pub(super) fn raw(&mut self, markup: impl AsRef<str>) -> &mut Self {
        self.0.push_str(markup.as_ref());
        self
    }

    /// Words from anywhere.
    pub(super) fn text(&mut self, words: impl AsRef<str>) -> &mut Self {
        self.0.push_str(&escaped(words.as_ref()));
        self
    }

    /// An element that holds nothing but words.
    pub(super) fn tag(
        &mut self,
        name: &str,
        attributes: &str,
        words: impl AsRef<str>,
    ) -> &mut Self {
        // Writing to a string does not fail.
        write!(self.0, "<{name} {attributes}>{}</{name}>", escaped(words.as_ref())).ok();
        self
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// As text within an element or quotes.
fn escaped(words: &str) -> String {
    let mut escaped = String::with_capacity(words.len());
    for letter in words.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Controls have no place in a page.
            letter if letter.is_control() && letter != '\n' => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_words() {
        let mut html = Html::default();
        html.tag("td", "class=\"n\"", "<script>'&\"\u{1b}").text("a<b").raw("<br>");
        let expected = "<td class=\"n\">&lt;script&gt;&#39;&amp;&quot; </td>a&lt;b<br>";
        assert_eq!(html.into_text(), expected);
    }
}
