//! `[images.NAME]`, on top of `[images.defaults]`, on top of our own defaults.
//!
//! A key of the image replaces the one below it, except that `args` and `secrets` are merged name
//! by name. What makes an image that image (`dockerfile`, `target`, `inputs`) has no default.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::document::At;
use super::table::Table;
use super::{ContextBudget, Exclude, Image, Inputs, check, defaults};
use crate::paths::Paths;

/// The table that is no image.
const DEFAULTS: &str = "defaults";

/// The keys an image shares with `[images.defaults]`.
#[derive(Clone)]
struct Shared {
    context: PathBuf,
    platform: Option<String>,
    args: BTreeMap<String, String>,
    volatile_args: Vec<String>,
    secrets: BTreeMap<String, PathBuf>,
    trust_host_ca: Option<bool>,
    exclude: Exclude,
    memory: u64,
    timeout: Option<Duration>,
    silence: Duration,
    budget: Option<ContextBudget>,
}

pub(super) fn images(outermost: &mut Table<'_>) -> BTreeMap<String, Image> {
    let (defaults, images): (Vec<_>, Vec<_>) = outermost
        .named("images", "image")
        .into_iter()
        .partition(|(name, _)| name.value == DEFAULTS);
    let ours = Shared::ours(outermost);
    let shared = match defaults.into_iter().next() {
        Some((_, table)) => ours.overlaid(table),
        None => ours,
    };
    images
        .into_iter()
        .map(|(name, mut table)| {
            check::image_name(&table, &name);
            let image = image(&mut table, &name, &shared);
            table.end();
            (image.name.clone(), image)
        })
        .collect()
}

fn image(table: &mut Table<'_>, name: &At<&str>, defaults: &Shared) -> Image {
    let Shared {
        context,
        platform,
        args,
        volatile_args,
        secrets,
        trust_host_ca,
        exclude,
        memory,
        timeout,
        silence,
        budget,
    } = defaults.below(table);
    Image {
        name: name.value.to_owned(),
        dockerfile: dockerfile(table, name),
        context,
        target: table.string("target").map(|target| target.value.to_owned()),
        platform,
        args,
        volatile_args,
        secrets,
        trust_host_ca,
        inputs: inputs(table),
        exclude,
        memory,
        timeout,
        silence,
        budget,
    }
}

/// `dockerfile`; left out, `images/NAME/Dockerfile`.
fn dockerfile(table: &mut Table<'_>, name: &At<&str>) -> PathBuf {
    if let Some(path) = table.path("dockerfile") {
        check::is_file(table, "dockerfile", &path);
        return path.value;
    }
    let usual = format!("images/{}/Dockerfile", name.value);
    let path = table.absolute(&usual);
    if !table.has("dockerfile") && !path.is_file() {
        let hint = format!("it may be left out where `{usual}` is the Dockerfile");
        table.missing("missing key `dockerfile`", Some(hint));
    }
    path
}

pub(super) fn inputs(table: &mut Table<'_>) -> Inputs {
    let Some(value) = table.get("inputs") else { return Inputs::Dockerfile };
    match value.get_ref() {
        DeValue::Array(_) => {
            let hint = "leave the key out to send what the Dockerfile can read";
            let globs = table.filled("inputs", hint).unwrap_or_default();
            Inputs::Globs(globs.into_iter().map(|glob| glob.value.to_owned()).collect())
        }
        DeValue::Table(_) => package(table).unwrap_or(Inputs::Dockerfile),
        _ => {
            let forms = "a list of globs, { cargo = \"PACKAGE\" } or { go = \"./PATH\" }";
            table.wrong_type("`inputs`", forms, value).unwrap_or(Inputs::Dockerfile)
        }
    }
}

fn package(table: &mut Table<'_>) -> Option<Inputs> {
    let mut inner = table.table("inputs", table.qualified("inputs"))?;
    let cargo = inner.string("cargo");
    let go = inner.string("go");
    if inner.has("cargo") == inner.has("go") {
        let hint = "one of { cargo = \"PACKAGE\" } and { go = \"./PATH\" }".to_owned();
        inner.missing("exactly one key is needed", Some(hint));
    }
    let hint = "globs of what the package reads beside its own files";
    let also = inner.filled("also", hint).unwrap_or_default();
    let also: Vec<String> = also.into_iter().map(|glob| glob.value.to_owned()).collect();
    inner.end();
    match (cargo, go) {
        (Some(cargo), _) => Some(Inputs::Cargo { package: cargo.value.to_owned(), also }),
        (None, Some(go)) => Some(Inputs::Go { package: go.value.to_owned(), also }),
        (None, None) => None,
    }
}

impl Shared {
    fn ours(table: &Table<'_>) -> Self {
        Self {
            context: table.absolute(defaults::IMAGE_CONTEXT),
            platform: None,
            args: BTreeMap::new(),
            volatile_args: Vec::new(),
            secrets: BTreeMap::new(),
            trust_host_ca: None,
            exclude: Exclude {
                patterns: Vec::new(),
                defaults: true,
                own: Some(Paths::of(&table.absolute("")).home().to_path_buf()),
            },
            memory: defaults::IMAGE_MEMORY,
            timeout: None,
            silence: defaults::IMAGE_SILENCE,
            budget: None,
        }
    }

    /// `[images.defaults]` on top of these.
    fn overlaid(&self, table: Table<'_>) -> Self {
        let mut table = table.called("images.defaults".to_owned());
        let shared = self.below(&mut table);
        table.end();
        shared
    }

    /// What the table says, and these where it says nothing.
    fn below(&self, table: &mut Table<'_>) -> Self {
        let context = table.path("context");
        if let Some(path) = &context {
            check::is_folder(table, "context", path);
        }
        let mut args = self.args.clone();
        args.extend(arguments(table));
        let mut secrets = self.secrets.clone();
        let own = table.map("secrets");
        secrets.extend(own.iter().map(|(id, path)| (id.to_string(), table.absolute(path.value))));
        let (timeout, silence) = self.times(table);
        Self {
            context: context.map_or_else(|| self.context.clone(), |context| context.value),
            platform: platform(table).or_else(|| self.platform.clone()),
            args,
            volatile_args: list(table, "volatile-args")
                .unwrap_or_else(|| self.volatile_args.clone()),
            secrets,
            trust_host_ca: table.boolean("trust-host-ca").or(self.trust_host_ca),
            exclude: self.excluding(list(table, "exclude")),
            memory: table.size("memory").unwrap_or(self.memory),
            timeout,
            silence,
            budget: budget(table).or(self.budget),
        }
    }

    /// Patterns come on top of the defaults, which may be written out; an empty list is nothing at
    /// all.
    fn excluding(&self, patterns: Option<Vec<String>>) -> Exclude {
        let Some(mut patterns) = patterns else { return self.exclude.clone() };
        let defaults = !patterns.is_empty();
        patterns.retain(|pattern| !Exclude::DEFAULTS.contains(&pattern.as_str()));
        Exclude { patterns, defaults, own: self.exclude.own.clone() }
    }

    fn times(&self, table: &mut Table<'_>) -> (Option<Duration>, Duration) {
        let timeout = table.duration("timeout").map(|timeout| timeout.value).or(self.timeout);
        let Some(silence) = table.duration("silence") else {
            return (timeout, timeout.map_or(self.silence, |timeout| self.silence.min(timeout)));
        };
        if let Some(timeout) = timeout {
            check::nests(table, "silence", &silence, "the timeout", timeout);
        }
        (timeout, silence.value)
    }
}

fn list(table: &mut Table<'_>, key: &'static str) -> Option<Vec<String>> {
    let items = table.strings(key)?;
    Some(items.into_iter().map(|item| item.value.to_owned()).collect())
}

fn arguments(table: &mut Table<'_>) -> Vec<(String, String)> {
    let args = table.map("args");
    args.into_iter().map(|(name, value)| (name.to_owned(), value.value.to_owned())).collect()
}

fn platform(table: &mut Table<'_>) -> Option<String> {
    let platform = table.string("platform")?;
    let parts: Vec<&str> = platform.value.split('/').collect();
    let plain = |part: &&str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric());
    if !matches!(parts.len(), 2 | 3) || !parts.iter().all(plain) {
        let message = format!("`{}` is not a platform", platform.value);
        let hint = "write it like \"linux/amd64\" or \"linux/arm/v7\"".to_owned();
        table.fault(&platform.place, message, Some(hint));
    }
    Some(platform.value.to_owned())
}

fn budget(table: &mut Table<'_>) -> Option<ContextBudget> {
    let mut inner = table.table("budget", table.qualified("budget"))?;
    let budget = ContextBudget {
        files: inner.number("files", 1..=1_000_000_000).map(|files| files.value),
        bytes: inner.size("bytes"),
    };
    if !inner.has("files") && !inner.has("bytes") {
        let hint = "write it like { files = 500, bytes = \"5 MiB\" }".to_owned();
        inner.missing("it limits nothing", Some(hint));
    }
    inner.end();
    Some(budget)
}
