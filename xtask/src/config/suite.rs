//! `[suites.NAME]` and its steps: tables of its own, and names of those it shares ([`shared`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::document::At;
use super::near;
use super::shared::{self, Shared};
use super::table::{Item, Table};
use super::{
    Cluster, Existing, Port, Restarts, Step, Suite, Test, action, check, defaults, image, wait,
};

/// The names a suite may use.
pub(super) struct Known<'k> {
    pub(super) images: &'k [&'k str],
    pub(super) clusters: &'k BTreeMap<String, Cluster>,
    pub(super) ports: &'k [Port],
    pub(super) steps: &'k Shared<'k>,
    /// Whether there is a registry that images go through.
    pub(super) has_cache: bool,
}

/// What the parts of one suite are checked against.
pub(super) struct Scope<'k> {
    pub(super) ports: &'k [Port],
    pub(super) cluster: Option<&'k str>,
    /// The suite's timeout.
    pub(super) limit: Duration,
    /// The images the suite lists.
    pub(super) images: Vec<String>,
    /// How messages call the suite.
    pub(super) suite: String,
}

pub(super) fn suites(outermost: &mut Table<'_>, known: &Known<'_>) -> BTreeMap<String, Suite> {
    outermost
        .named("suites", "suite")
        .into_iter()
        .map(|(name, mut table)| {
            check::plain_name(&table, &name);
            let suite = suite(&mut table, name.value, known);
            table.end();
            (suite.name.clone(), suite)
        })
        .collect()
}

fn suite(table: &mut Table<'_>, name: &str, known: &Known<'_>) -> Suite {
    let cluster = table.required("cluster");
    if let Some(cluster) = &cluster {
        let names: Vec<&str> = known.clusters.keys().map(String::as_str).collect();
        table.known_name("cluster", cluster, "clusters", &names);
    }
    let cluster = cluster.map(|cluster| cluster.value);
    let limit = table.duration("timeout").map_or(defaults::SUITE_TIMEOUT, |timeout| timeout.value);
    let images = table.names("images", "images", known.images);
    if let Some(existing) = cluster.and_then(|name| known.clusters.get(name)?.existing.as_ref()) {
        on_others(table, existing, &images, limit, known.has_cache);
    }
    let restarts = [("warn", Restarts::Warn), ("fail", Restarts::Fail)];
    let restarts = table.choice("restarts", &restarts).unwrap_or(defaults::RESTARTS);
    let suite = "the suite".to_owned();
    let scope = Scope { ports: known.ports, cluster, limit, images, suite };
    Suite {
        name: name.to_owned(),
        // An empty name never leaves: a suite without a cluster is a fault.
        cluster: cluster.unwrap_or_default().to_owned(),
        steps: steps(table, &scope, known),
        test: test(table, &scope),
        restarts,
        timeout: limit,
        images: scope.images,
    }
}

/// What a suite on a cluster that others run has to have.
fn on_others(
    table: &Table<'_>,
    existing: &Existing,
    images: &[String],
    limit: Duration,
    has_cache: bool,
) {
    if !images.is_empty() && !has_cache {
        let hint = "nothing is loaded onto nodes that are not ours: `[cache] registry` is where they \
                    pull from";
        let message = "a suite on a cluster that is there has its `images` from a registry";
        table.missing(message, Some(hint.to_owned()));
    }
    if existing.ttl < limit {
        let message = "the `ttl` of its cluster is over before the suite's timeout";
        table.missing(message, None);
    }
}

fn test(table: &mut Table<'_>, scope: &Scope<'_>) -> Option<Test> {
    let mut inner = table.table("test", table.qualified("test"))?;
    if !inner.has("run") {
        inner.missing("missing key `run`", None);
    }
    let run = action::command(&mut inner, "run").unwrap_or_default();
    let shard = inner.strings("shard").map(|words| shard(&inner, &words));
    let junit = inner.path("junit").map(|path| path.value);
    let inputs = inner.has("inputs").then(|| image::inputs(&mut inner));
    let counted = inner.choice("counts", &[("tests", true), ("none", false)]).unwrap_or(true);
    let timeout = within(&mut inner, scope, defaults::TEST_TIMEOUT);
    inner.end();
    Some(Test { run, shard, junit, counted, inputs, timeout })
}

/// Arguments for `--shard`; some that name no shard would run everything in each.
fn shard(table: &Table<'_>, words: &[At<&str>]) -> Vec<String> {
    let named = |word: &At<&str>| word.value.contains("{index}") || word.value.contains("{total}");
    if let Some(first) = words.first()
        && !words.iter().any(named)
    {
        let hint = "write it like [\"--partition\", \"count:{index}/{total}\"]; [] if the command \
                    reads XTASK_SHARD_INDEX and XTASK_SHARD_TOTAL itself"
            .to_owned();
        table.fault(&first.place, "`shard` says nothing of {index} or {total}", Some(hint));
    }
    words.iter().map(|word| word.value.to_owned()).collect()
}

fn steps(table: &mut Table<'_>, scope: &Scope<'_>, known: &Known<'_>) -> Vec<Step> {
    let mut items = table.names_and_tables("steps", "step");
    let names: Vec<Option<At<&str>>> =
        items.iter_mut().map(|item| name_of(item, table, known)).collect();
    unique(table, &names);
    let all: BTreeSet<&str> = names.iter().flatten().map(|name| name.value).collect();
    let all: Vec<&str> = all.into_iter().collect();
    let mut steps = Vec::new();
    for (item, name) in items.into_iter().zip(&names) {
        match item {
            Item::Table(mut step) => {
                steps.push(read(&mut step, name.as_ref(), &all, scope));
                step.end();
            }
            Item::Name(name) => steps.extend(shared_step(table, &name, &all, scope, known)),
        }
    }
    if let Some(cycle) = check::cycle(&steps) {
        let first = names.iter().flatten().find(|name| Some(&name.value) == cycle.first());
        let chain: Vec<String> =
            cycle.iter().chain(cycle.first()).map(|name| format!("`{name}`")).collect();
        let message = format!("steps that need each other: {}", chain.join(" needs "));
        table.fault(&first.map_or(table.place.clone(), |name| name.place.clone()), message, None);
    }
    steps
}

/// The name of one entry of `steps`; one that is listed must be there.
fn name_of<'d>(item: &mut Item<'d>, suite: &Table<'_>, known: &Known<'_>) -> Option<At<&'d str>> {
    match item {
        Item::Table(step) => step_name(step, &suite.name),
        Item::Name(name) => {
            suite.known_name("steps", name, "shared steps", &known.steps.names());
            Some(name.clone())
        }
    }
}

/// A step that is listed by name, read for this suite.
fn shared_step(
    suite: &Table<'_>,
    name: &At<&str>,
    all: &[&str],
    scope: &Scope<'_>,
    known: &Known<'_>,
) -> Option<Step> {
    let every_image = known.images.iter().map(|&image| image.to_owned()).collect();
    let Scope { ports, cluster, limit, .. } = *scope;
    let wide = Scope { ports, cluster, limit, images: every_image, suite: suite.name.clone() };
    let step = known.steps.read(name, &wide)?;
    shared::check_lists(suite, name, &step, all, &scope.images);
    Some(step)
}

/// Reads the name first, so that everything said of the step can use it.
fn step_name<'d>(step: &mut Table<'d>, suite: &str) -> Option<At<&'d str>> {
    let name = step.required("name")?;
    step.name = format!("{suite}: step `{}`", name.value);
    check::plain_name(step, &name);
    Some(name)
}

fn unique(table: &Table<'_>, names: &[Option<At<&str>>]) {
    let names: Vec<&At<&str>> = names.iter().flatten().collect();
    for (index, name) in names.iter().enumerate() {
        if let Some(sooner) = names[..index].iter().find(|sooner| sooner.value == name.value) {
            let (line, _) = table.document.line(sooner.place.start);
            let message = format!("two steps are called `{}` (the other: line {line})", name.value);
            table.fault(&name.place, message, None);
        }
    }
}

pub(super) fn read(
    step: &mut Table<'_>,
    name: Option<&At<&str>>,
    all: &[&str],
    scope: &Scope<'_>,
) -> Step {
    let images: Vec<&str> = scope.images.iter().map(String::as_str).collect();
    let timeout = within(step, scope, defaults::STEP_TIMEOUT);
    let (rollouts, waits) = wait::waits(step, scope);
    let images_in = images_in(step);
    Step {
        name: name.map(|name| name.value.to_owned()).unwrap_or_default(),
        action: action::action(step),
        needs: step.names("needs", "steps", all),
        rollouts,
        waits,
        images: step.names("images", &format!("images of {}", scope.suite), &images),
        images_in,
        namespace: step.string("namespace").map(|namespace| namespace.value.to_owned()),
        empty: step.boolean("empty").unwrap_or(false),
        timeout,
    }
}

/// `images-in`, which a step has that applies manifests.
fn images_in(step: &mut Table<'_>) -> Vec<String> {
    let fields = step.set("images-in").unwrap_or_default();
    for field in &fields {
        if !check::is_field(field.value) {
            let hint = "write it like \"spec.image\" or \"spec.env[].value\"".to_owned();
            let message = format!("`images-in`: `{}` is no way to a field", field.value);
            step.fault(&field.place, message, Some(hint));
        } else if !step.has("apply") && !step.has("helm") {
            step.fault(&field.place, "`images-in` is for steps with `apply` or `helm`", None);
        }
    }
    fields.into_iter().map(|field| field.value.to_owned()).collect()
}

/// The table's `timeout`, which must not be longer than the suite's; a default yields to it.
pub(super) fn within(table: &mut Table<'_>, scope: &Scope<'_>, default: Duration) -> Duration {
    let Some(timeout) = table.duration("timeout") else { return default.min(scope.limit) };
    let outer = format!("{}'s timeout", scope.suite);
    check::nests(table, "timeout", &timeout, &outer, scope.limit);
    timeout.value
}

impl Scope<'_> {
    /// Notes a fault if no port of that name is open in the suite's cluster.
    pub(super) fn port(&self, table: &Table<'_>, name: &At<&str>) {
        let open = |port: &&Port| {
            port.cluster.is_none()
                || self.cluster.is_none()
                || port.cluster.as_deref() == self.cluster
        };
        let names: Vec<&str> =
            self.ports.iter().filter(open).map(|port| port.name.as_str()).collect();
        if names.contains(&name.value) {
            return;
        }
        let elsewhere = self.ports.iter().find(|port| port.name == name.value);
        let message = match elsewhere.and_then(|port| port.cluster.as_deref()) {
            Some(other) => format!("port `{}` is cluster `{other}`'s", name.value),
            None => format!("`{}` is not among the ports", name.value),
        };
        table.fault(&name.place, message, Some(near::hint(name.value, "ports", names)));
    }
}
