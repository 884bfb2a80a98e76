//! What a Dockerfile's target can read from its build context, and what else it is built from.
//!
//! The rules are BuildKit's, read from its source (`frontend/dockerfile`, August 2026) and seen in
//! runs:
//!
//! 1. **Frontend.** `# syntax=` other than `docker/dockerfile` may mean anything by the text: whole
//!    context.
//! 2. **Stages.** Each FROM is expanded with global ARGs only, then is an earlier stage (exact,
//!    names are kept in lower case, the latest of a name wins), `scratch`, or an image.
//! 3. **Reach.** The target and what it needs: FROM, `COPY --from`, `RUN --mount=from=`, and the
//!    same in ONBUILD triggers of the stage or image right below. Nothing else of the file counts.
//! 4. **Variables.** Along each reached stage: the base's ENV, then ENV and ARG as they come. ENV
//!    words of a line see the values before the line, ARG words each other. ARG is the build arg,
//!    else its default, else the global value; the later of ARG and ENV wins; a stage built on a
//!    stage inherits both.
//! 5. **Sources.** Words of COPY and ADD that are no heredoc and no URL, and the source of a bind
//!    mount (the whole context if it names none). An empty word is the context's root.
//! 6. **Selection** ([`select`]): wildcards, links and `--exclude` against the files there are.
//!
//! Sound first. Where the text does not say what is read, the answer is the whole context, with the
//! reason: a variable that only the ENV of an unknown base could set, flags or text that are not
//! plain, a mount that is no plain list, windows paths. A base nobody knows is taken to have no
//! ONBUILD; its id is part of the key.
//!
//! Of a known base ENV and ONBUILD count and nothing else can. Its WORKDIR moves what is copied to,
//! never what is copied: sources of COPY, ADD and of bind mounts begin at the context's root, and
//! no variable holds it (seen with podman, read in BuildKit's source). USER, SHELL and the rest
//! concern what runs.
//!
//! | file | from → to |
//! | --- | --- |
//! | `parse` | text → lines, directives, heredocs |
//! | `instruction` | line → keyword, flags, arguments |
//! | `expand`, `pattern` | word and variables → word |
//! | `globals` | ARGs before the first FROM |
//! | `stages` | instructions → stages reached |
//! | `sources`, `mount`, `environment` | stages reached → what they read |
//! | `instructions` | text → where each instruction stands |
//! | `text` | stages reached → bytes for the key |
//! | `marks` | stages reached → lines that keep podman's cache honest |
//! | `select`, `glob` | sources and a tree → chosen entries |
//! | `wildcard` | `*`, `?` and sets against text, for `pattern` and `glob` |

mod environment;
mod budget;
mod expand;
pub mod glob;
mod globals;
mod instruction;
mod instructions;
mod marks;
mod mount;
mod parse;
mod pattern;
mod select;
mod sources;
mod stages;
#[cfg(test)]
mod tests;
mod text;
mod wildcard;

use std::collections::BTreeMap;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use instructions::{Span, instructions};
pub use marks::{LayerCache, Mark};
pub use select::{Kind, Root, Selection, Tree, select};
pub use sources::clean;

/// What is asked of a Dockerfile.
pub struct Request<'a> {
    /// Name of a stage in any case, or (podman only) its number; the last stage if `None`.
    pub target: Option<&'a str>,
    /// Build args given, declared or not.
    pub args: &'a BTreeMap<String, String>,
    /// The platform built for: `TARGETPLATFORM` and its parts.
    pub platform: Platform,
    /// The platform built on: `BUILDPLATFORM` and its parts.
    pub build_platform: Platform,
    /// The config of an external image, by its name in the Dockerfile, if known.
    pub base: &'a dyn Fn(&str) -> Option<BaseConfig>,
}

/// A platform; `variant` is empty for most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    pub os: String,
    pub arch: String,
    pub variant: String,
}

/// What an image hands to the stages built on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseConfig {
    pub env: Vec<(String, String)>,
    pub onbuild: Vec<String>,
}

/// What a target reads and is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// What it can read of the main context.
    pub sources: Sources,
    /// The external images it uses, in order, each once.
    pub bases: Vec<Base>,
    /// Declared build args with the value used, defaults included, and those that switch the engine
    /// undeclared; those without a value are left out, and proxy settings nobody declares.
    pub args: BTreeMap<String, String>,
    /// Names of the stages reached, numbers for those without.
    pub stages: Vec<String>,
    /// The text as far as the target uses it, in a form of its own, for the key.
    pub text: Vec<u8>,
    /// What podman's layer cache needs to be right.
    pub layer_cache: LayerCache,
    /// What ADD fetches and nothing holds to a content: line and address.
    pub fetched: Vec<(usize, String)>,
    /// The first line with a heredoc.
    pub heredoc: Option<usize>,
    /// Ids of the secrets mounted.
    pub secrets: Vec<String>,
    /// Ids of the SSH agents mounted.
    pub ssh: Vec<String>,
    /// Line and text.
    pub warnings: Vec<(usize, String)>,
}

/// What a target can read of its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sources {
    /// Anything: the text does not tell.
    Whole { reason: String, line: usize },
    /// These, and nothing if there are none.
    Paths(Vec<Source>),
}

/// One source of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Cleaned, relative to the context; empty is its root. With wildcards for
    /// [`SourceKind::Copy`].
    pub pattern: String,
    /// The line of its instruction.
    pub line: usize,
    pub kind: SourceKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceKind {
    /// COPY or ADD. `parents`: a pattern below `pattern` for what is copied, of `--parents`.
    Copy { exclude: Vec<String>, parents: Option<String> },
    /// The source of a `RUN --mount=type=bind`; no wildcards.
    Bind,
}

/// An external image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// After expansion, as the Dockerfile names it.
    pub name: String,
    /// Of `FROM --platform`, expanded.
    pub platform: Option<String>,
    /// The line that names it first.
    pub line: usize,
    pub role: Role,
}

/// What names an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    From,
    CopyFrom,
    MountFrom,
    /// `# syntax=`: reads the Dockerfile; engines other than BuildKit pay no heed.
    Frontend,
}

/// What the engine would refuse, too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    pub line: usize,
    pub message: String,
}

impl Reading {
    /// Why all of the context counts, if it does: not understood, or named as a source.
    pub fn whole_context(&self) -> Option<(String, usize)> {
        match &self.sources {
            Sources::Whole { reason, line } => Some((reason.clone(), *line)),
            Sources::Paths(sources) => {
                let root = sources.iter().find(|source| source.is_root())?;
                Some(("an instruction reads the context's root".to_owned(), root.line))
            }
        }
    }
}

impl Source {
    /// The pattern with that of `--parents` below it.
    pub fn whole_pattern(&self) -> String {
        match &self.kind {
            SourceKind::Copy { parents: Some(parents), .. } if self.pattern.is_empty() => {
                parents.clone()
            }
            SourceKind::Copy { parents: Some(parents), .. } => {
                format!("{}/{parents}", self.pattern)
            }
            _ => self.pattern.clone(),
        }
    }

    fn is_root(&self) -> bool {
        let all = match &self.kind {
            SourceKind::Bind => true,
            SourceKind::Copy { exclude, parents } => exclude.is_empty() && parents.is_none(),
        };
        all && self.pattern.is_empty()
    }
}

/// Reads a Dockerfile. All faults are reported at once, by line.
pub fn read(text: &[u8], request: &Request<'_>) -> Result<Reading, Vec<Fault>> {
    let decoded = decode(text);
    let frontend = frontend(&decoded, request);
    let doubt = doubt(text, frontend.as_ref());
    let mut reading = match understand(&decoded, request) {
        Ok(reading) => reading,
        // Only its own frontend can say whether such a text is wrong.
        Err(faults) if doubt.is_some() => opaque(&faults),
        Err(mut faults) => {
            faults.sort();
            faults.dedup();
            return Err(faults);
        }
    };
    if let Some((reason, line)) = doubt {
        reading.sources = Sources::Whole { reason, line };
        reading.text = text.to_vec();
    }
    if let Some((name, line)) = frontend {
        stages::check_reference(&name).map_err(|message| vec![Fault { line, message }])?;
        reading.text = text::under_frontend(&name, &reading.text);
        reading.bases.insert(0, Base { name, platform: None, line, role: Role::Frontend });
    }
    Ok(reading)
}

fn understand(text: &str, request: &Request<'_>) -> Result<Reading, Vec<Fault>> {
    let file = parse::parse(text)?;
    let (graph, globals) = stages::build(file, request)?;
    let found = sources::collect(&graph, &globals, request)?;
    let used = globals.closure(&found.globals_used);
    let mut args = found.args;
    args.extend(globals.values_of(&used, request.args));
    Ok(Reading {
        sources: found.sources,
        bases: found.bases,
        args,
        stages: graph.reached.iter().map(|index| graph.stages[*index].label(*index)).collect(),
        text: text::serialise(&graph, &globals, &used),
        layer_cache: marks::of(text, &graph, &globals, request),
        fetched: found.fetched,
        heredoc: graph.first_heredoc(),
        secrets: found.secrets,
        ssh: found.ssh,
        warnings: graph.warnings.into_iter().chain(found.warnings).collect(),
    })
}

fn opaque(faults: &[Fault]) -> Reading {
    Reading {
        sources: Sources::Paths(Vec::new()),
        bases: Vec::new(),
        args: BTreeMap::new(),
        stages: Vec::new(),
        text: Vec::new(),
        layer_cache: LayerCache::Unusable {
            reason: "its text is not understood".to_owned(),
            line: faults.first().map_or(1, |fault| fault.line),
        },
        fetched: Vec::new(),
        heredoc: None,
        secrets: Vec::new(),
        ssh: Vec::new(),
        warnings: Vec::new(),
    }
}

/// The frontend's image; the build arg goes before the text.
fn frontend(text: &str, request: &Request<'_>) -> Option<(String, usize)> {
    let given = request.args.get("BUILDKIT_SYNTAX").filter(|name| !name.is_empty());
    given.map(|name| (name.clone(), 1)).or_else(|| parse::frontend(text))
}

/// Why the text cannot be relied on at all.
fn doubt(text: &[u8], frontend: Option<&(String, usize)>) -> Option<(String, usize)> {
    if let Some((name, line)) = frontend.filter(|(name, _)| !is_dockers(name)) {
        return Some((format!("the frontend `{name}` may read the text in its own way"), *line));
    }
    // Characters that stand for bytes are nobody's own.
    let has_own = text.utf8_chunks().any(|chunk| chunk.valid().contains(is_byte));
    has_own.then(|| ("the text has characters of the last private plane".to_owned(), 1))
}

/// Characters for the bytes of a text that are no UTF-8, so that it can be read and two texts stay
/// two.
const BYTES: std::ops::RangeInclusive<char> = '\u{10ff00}'..='\u{10ffff}';

fn is_byte(ch: char) -> bool {
    BYTES.contains(&ch)
}

/// The text, with a character of its own for each byte that is no UTF-8.
fn decode(text: &[u8]) -> String {
    let mut decoded = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        decoded.push_str(chunk.valid());
        let bytes = chunk.invalid().iter().map(|byte| 0x10_ff00 + u32::from(*byte));
        decoded.extend(bytes.filter_map(char::from_u32));
    }
    decoded
}

/// `docker/dockerfile` or `docker/dockerfile-upstream`, with any tag or digest.
fn is_dockers(frontend: &str) -> bool {
    let name = frontend.trim_start_matches("index.").trim_start_matches("docker.io/");
    let name = name.split(['@', ':']).next().unwrap_or_default();
    matches!(name, "docker/dockerfile" | "docker/dockerfile-upstream")
}
