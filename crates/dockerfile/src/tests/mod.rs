//! Readings of whole Dockerfiles. `Case` asks; every test names the rule it shows.

mod marks;
mod properties;
mod real;
mod selection;
mod steps;
mod text;

use super::*;

/// A question with the answers the tests look at.
struct Case {
    args: BTreeMap<String, String>,
    target: Option<String>,
    bases: BTreeMap<String, BaseConfig>,
    platform: Platform,
}

fn case() -> Case {
    Case {
        args: BTreeMap::new(),
        target: None,
        bases: BTreeMap::new(),
        platform: platform("amd64", ""),
    }
}

fn platform(arch: &str, variant: &str) -> Platform {
    Platform { os: "linux".to_owned(), arch: arch.to_owned(), variant: variant.to_owned() }
}

impl Case {
    fn arg(mut self, name: &str, value: &str) -> Case {
        self.args.insert(name.to_owned(), value.to_owned());
        self
    }

    fn target(mut self, name: &str) -> Case {
        self.target = Some(name.to_owned());
        self
    }

    fn base(mut self, name: &str, env: &[(&str, &str)], onbuild: &[&str]) -> Case {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let config = BaseConfig {
            env: env.iter().map(own).collect(),
            onbuild: onbuild.iter().map(|text| (*text).to_owned()).collect(),
        };
        self.bases.insert(name.to_owned(), config);
        self
    }

    fn platform(mut self, platform: Platform) -> Case {
        self.platform = platform;
        self
    }

    fn bytes(&self, text: &[u8]) -> Result<Reading, Vec<Fault>> {
        read(
            text,
            &Request {
                target: self.target.as_deref(),
                args: &self.args,
                platform: self.platform.clone(),
                build_platform: platform("amd64", ""),
                base: &|name| self.bases.get(name).cloned(),
            },
        )
    }

    fn read(&self, text: &str) -> Reading {
        self.bytes(text.as_bytes()).unwrap_or_else(|faults| panic!("{faults:?} in\n{text}"))
    }

    /// Patterns read, `bind:` before mounts, or `WHOLE:line`.
    fn sources(&self, text: &str) -> Vec<String> {
        show(&self.read(text).sources)
    }

    fn faults(&self, text: &str) -> Vec<usize> {
        let faults = self.bytes(text.as_bytes()).expect_err("this should be refused");
        faults.into_iter().map(|fault| fault.line).collect()
    }
}

fn show(sources: &Sources) -> Vec<String> {
    let show = |source: &Source| match &source.kind {
        SourceKind::Bind => format!("bind:{}", source.pattern),
        SourceKind::Copy { parents: Some(parents), .. } => {
            format!("{}/./{parents}", source.pattern)
        }
        SourceKind::Copy { .. } => source.pattern.clone(),
    };
    match sources {
        Sources::Whole { line, .. } => vec![format!("WHOLE:{line}")],
        Sources::Paths(sources) => sources.iter().map(show).collect(),
    }
}

/// Texts with the sources they read; `§` stands before each in a failure.
fn table(case: &Case, rows: &[(&str, &str, &[&str])]) {
    for (rule, text, expected) in rows {
        assert_eq!(case.sources(text), *expected, "{rule}:\n{text}");
    }
}
