//! `cargo xtask plan --format github`: what a workflow needs to know, in the form of
//! `GITHUB_OUTPUT`.
//!
//! ```text
//! build=true
//! matrix={"include":[{"suite":"gateway","image":"redis","minutes":0.6}]}
//! run=true
//! suites={"include":[{"suite":"gateway","minutes":1.2}]}
//! ```
//!
//! One line a value, so `cargo xtask plan --format github >> "$GITHUB_OUTPUT"` is all. A job takes
//! one with `matrix: ${{ fromJSON(needs.plan.outputs.matrix) }}`. GitHub refuses an empty matrix:
//! `build` and `run` say whether there is anything in them. An image of several suites is there
//! once for each; one of no suite has an empty name for it. `minutes` are those of earlier builds,
//! and of a suite's runs that had nothing to build; they are left out where none was seen.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;

use crate::config::Config;
use crate::paths::Paths;
use crate::report::{KEPT, Past, Trend};

/// An image that is to be built, and how many seconds that is expected to take.
pub(crate) type ToBuild = (String, Option<f64>);

#[derive(Serialize)]
struct Matrix<T> {
    include: Vec<T>,
}

#[derive(Serialize)]
struct Build<'a> {
    suite: &'a str,
    image: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    minutes: Option<f64>,
}

#[derive(Serialize)]
struct Suite<'a> {
    suite: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    minutes: Option<f64>,
}

/// The lines for these images and suites, with what past runs took.
pub(crate) fn lines<'a>(
    config: &Config,
    paths: &Paths,
    to_build: impl Iterator<Item = ToBuild>,
    suites: impl Iterator<Item = &'a String>,
) -> Result<String> {
    let suites = suites.map(String::as_str).collect();
    of(config, &to_build.collect::<Vec<_>>(), &suites, &Past::read(&paths.runs(), KEPT))
}

fn of(
    config: &Config,
    to_build: &[ToBuild],
    suites: &BTreeSet<&str>,
    past: &Past,
) -> Result<String> {
    let mut builds = Vec::new();
    for (image, seconds) in to_build {
        let minutes = seconds.map(minutes);
        let of = config.suites.values().filter(|suite| suite.images.contains(image));
        let mut of: Vec<&str> = of.map(|suite| suite.name.as_str()).collect();
        if of.is_empty() {
            of.push("");
        }
        builds.extend(of.into_iter().map(|suite| Build { suite, image, minutes }));
    }
    builds.sort_by_key(|build| (build.suite, build.image));
    let expected = |suite| Trend::of(suite, past).seconds_prebuilt().map(minutes);
    let suites = suites.iter().map(|suite| Suite { suite, minutes: expected(suite) });
    let suites: Vec<Suite> = suites.collect();
    Ok(format!(
        "build={}\nmatrix={}\nrun={}\nsuites={}\n",
        !builds.is_empty(),
        serde_json::to_string(&Matrix { include: builds })?,
        !suites.is_empty(),
        serde_json::to_string(&Matrix { include: suites })?,
    ))
}

/// Minutes with one decimal.
fn minutes(seconds: f64) -> f64 {
    (seconds / 6.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_one_line_and_an_image_is_there_for_each_of_its_suites() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["api", "db", "tool"] {
            fs_err::write(folder.path().join(name), "").unwrap();
        }
        let text = "[images.api]\ndockerfile = 'api'\n[images.db]\ndockerfile = 'db'\n\
                    [images.tool]\ndockerfile = 'tool'\n[clusters.c]\nname = 'c'\n\
                    [suites.b]\ncluster = 'c'\nimages = ['api', 'db']\n\
                    [suites.a]\ncluster = 'c'\nimages = ['api']\n";
        let config = crate::config::parse(text, &folder.path().join("xtask.toml")).unwrap();
        let to_build = [("api".to_owned(), Some(95.0)), ("tool".to_owned(), None)];
        let told = of(&config, &to_build, &["a", "b"].into(), &Past::default()).unwrap();
        insta::assert_snapshot!(told, @r#"
        build=true
        matrix={"include":[{"suite":"","image":"tool"},{"suite":"a","image":"api","minutes":1.6},{"suite":"b","image":"api","minutes":1.6}]}
        run=true
        suites={"include":[{"suite":"a"},{"suite":"b"}]}
        "#);
        let none = of(&config, &[], &BTreeSet::new(), &Past::default()).unwrap();
        assert!(none.starts_with("build=false\nmatrix={\"include\":[]}\nrun=false\n"), "{none}");
    }
}
