//! Prometheus' text format, read as far as a spec compares numbers.

use std::collections::BTreeMap;

/// One line: a name, its labels, its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// What one scrape said.
#[derive(Debug, Clone)]
pub struct Scrape {
    pub samples: Vec<Sample>,
}

impl Scrape {
    /// Reads a scrape; lines that are neither samples nor comments are left out.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(sample);
        Self { samples: samples.collect() }
    }

    /// The samples of `name` that carry all of `labels`.
    pub fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        })
    }

    /// The sum of [`Self::matching`], rounded: for counters and gauges that count.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        let sum: f64 = self.matching(name, labels).map(|sample| sample.value).sum();
        #[expect(clippy::cast_possible_truncation, reason = "counts of a test are far below 2^52")]
        let count = sum.round() as i64;
        count
    }
}

/// Reads `name{key="value",…} 1.5`.
fn sample(line: &str) -> Option<Sample> {
    let (series, value) = line.trim().rsplit_once(' ')?;
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, labels(rest.strip_suffix('}')?)),
        None => (series, BTreeMap::new()),
    };
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// Reads `key="value",…`, with the format's escapes `\\`, `\"` and `\n`.
fn labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while let Some((key, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut chars = after.chars();
        while let Some(char) = chars.next() {
            match char {
                '"' => break,
                '\\' => match chars.next() {
                    Some('n') => value.push('\n'),
                    Some(other) => value.push(other),
                    None => break,
                },
                other => value.push(other),
            }
        }
        labels.insert(key.trim_start_matches(',').to_owned(), value);
        rest = chars.as_str();
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let scrape = Scrape::parse(concat!(
            "# HELP a_total What is counted.\n",
            "# TYPE a_total counter\n",
            "a_total{path=\"/x\",status=\"201\"} 2\n",
            "a_total{path=\"/x\",status=\"202\"} 3\n",
            "odd{text=\"a \\\"b\\\", {c}\\n\"} 1\n",
            "up 1\n",
        ));
        assert_eq!(scrape.samples.len(), 4);
        assert_eq!(scrape.count("a_total", &[("path", "/x")]), 5);
        assert_eq!(scrape.count("a_total", &[("path", "/x"), ("status", "202")]), 3);
        assert_eq!(scrape.count("a_total", &[("path", "/y")]), 0);
        assert_eq!(scrape.count("up", &[]), 1);
        assert_eq!(scrape.count("odd", &[("text", "a \"b\", {c}\n")]), 1);
    }
}
