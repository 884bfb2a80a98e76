//! `cache-mount`: steps that compile or fetch packages, with nothing kept between builds. A change
//! of one line then costs the whole of it again: seen, 500 CPU seconds an image against 90 with a
//! warm cache.
//!
//! Heredocs and scripts are not looked into.

use super::Finding;
use super::facts::Facts;
use crate::config::Rule;

/// A program, what of it fills a cache (any, if none is named), and where that lies by default.
type Filler = (&'static str, &'static [&'static str], &'static str);

const FILLERS: [Filler; 13] = [
    ("cargo", &["build", "install", "test", "fetch"], "/usr/local/cargo/registry"),
    ("go", &["build", "install", "test"], "/root/.cache/go-build"),
    ("go", &["mod"], "/go/pkg/mod"),
    ("npm", &["ci", "install"], "/root/.npm"),
    ("yarn", &["install"], "/usr/local/share/.cache/yarn"),
    ("pnpm", &["install"], "/root/.local/share/pnpm/store"),
    ("pip", &["install"], "/root/.cache/pip"),
    ("pip3", &["install"], "/root/.cache/pip"),
    ("uv", &["sync"], "/root/.cache/uv"),
    ("mvn", &[], "/root/.m2"),
    ("mvnw", &[], "/root/.m2"),
    ("gradle", &[], "/root/.gradle"),
    ("gradlew", &[], "/root/.gradle"),
];

/// The rule.
pub(super) fn cache_mounts(facts: &Facts) -> Vec<Finding> {
    let runs = facts.images.iter().flat_map(|image| image.runs.iter().map(move |run| (image, run)));
    let findings = runs.filter_map(|(image, (line, text))| {
        let (command, folder) = uncached(text)?;
        Some(Finding {
            rule: Rule::CacheMount,
            file: image.dockerfile.clone(),
            line: *line,
            reason: format!("`{command}` has no cache mount: each build begins from nothing"),
            mend: format!("RUN --mount=type=cache,target={folder} …"),
        })
    });
    findings.collect()
}

/// The first command of a RUN that fills a cache which is not kept, and the cache's folder.
fn uncached(run: &str) -> Option<(String, &'static str)> {
    if run.contains("type=cache") {
        return None;
    }
    run.split(['&', ';', '|']).find_map(|command| {
        let words: Vec<&str> = command.split_whitespace().collect();
        words.iter().enumerate().find_map(|(at, word)| filled(word, words.get(at + 1).copied()))
    })
}

fn filled(word: &str, next: Option<&str>) -> Option<(String, &'static str)> {
    let program = word.rsplit('/').next().unwrap_or(word);
    let fills = |(name, subcommands, _): &&Filler| {
        *name == program
            && next.is_some_and(|next| subcommands.is_empty() || subcommands.contains(&next))
    };
    let (_, _, folder) = FILLERS.iter().find(fills)?;
    Some((format!("{program} {}", next.unwrap_or_default()), folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fills_a_cache_is_told_from_one_that_names_the_program() {
        for (run, expected) in [
            ("RUN CGO_ENABLED=0 go build -o /a ./cmd/a", Some("/root/.cache/go-build")),
            ("RUN cd /a && go mod download", Some("/go/pkg/mod")),
            ("RUN ./gradlew assemble", Some("/root/.gradle")),
            ("RUN /opt/venv/bin/python -m pip install -r x", Some("/root/.cache/pip")),
            ("RUN apt-get update; cargo build --release", Some("/usr/local/cargo/registry")),
            ("RUN --mount=type=cache,target=/root/.cache/go-build go build ./a", None),
            ("RUN apt-get install --yes cargo mvn", None),
            ("RUN go version", None),
            ("RUN npm run build", None),
            ("RUN echo go", None),
        ] {
            assert_eq!(uncached(run).map(|(_, folder)| folder), expected, "{run}");
        }
    }
}
