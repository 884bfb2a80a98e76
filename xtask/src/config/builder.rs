//! `[[builders]]`: engines elsewhere that build, too.

use super::document::At;
use super::table::Table;
use super::{Builder, BuilderAt};

/// The builders of a file, in its order.
pub(super) fn builders(outermost: &mut Table<'_>) -> Vec<Builder> {
    let mut builders: Vec<Builder> = Vec::new();
    let mut taken = vec!["local"];
    for mut table in outermost.tables("builders", "builder") {
        let name = table.required("name");
        let at = at(&mut table);
        let memory = table.size("memory");
        let jobs = table.number("jobs", 1..=1024).map(|jobs| jobs.value);
        if memory.is_none() && matches!(at, Some(BuilderAt::BuildKit(_))) {
            let hint = "memory = \"4 GiB\": BuildKit does not say what it has".to_owned();
            table.missing("does not say what its builds may hold", Some(hint));
        }
        if let Some(name) = &name {
            super::check::plain_name(&table, name);
            if taken.contains(&name.value) {
                let message = format!("the name `{}` is taken", name.value);
                table.fault(&name.place, message, Some("`local` is this machine".to_owned()));
            }
            taken.push(name.value);
        }
        table.end();
        if let (Some(name), Some(at)) = (name, at) {
            builders.push(Builder { name: name.value.to_owned(), at, memory, jobs });
        }
    }
    builders
}

/// Exactly one of the keys that say where it is.
fn at(table: &mut Table<'_>) -> Option<BuilderAt> {
    let given = ["podman", "docker", "buildkit"].map(|key| {
        table.string(key).inspect(|to| check_address(table, key, to)).map(|to| (key, to))
    });
    let mut given = given.into_iter().flatten();
    let Some((key, to)) = given.next() else {
        let hint = "podman = \"ssh://HOST/…\", podman = \"CONNECTION\", docker = \"CONTEXT\" or \
                    buildkit = \"tcp://HOST:PORT\"";
        table.missing("does not say where it is", Some(hint.to_owned()));
        return None;
    };
    if let Some((other, place)) = given.next() {
        table.fault(&place.place, format!("`{other}` and `{key}` are both given"), None);
        return None;
    }
    let is_url = to.value.contains("://");
    let to = to.value.to_owned();
    Some(match (key, is_url) {
        ("podman", true) => BuilderAt::PodmanUrl(to),
        ("podman", false) => BuilderAt::PodmanConnection(to),
        ("docker", true) => BuilderAt::DockerUrl(to),
        ("docker", false) => BuilderAt::DockerContext(to),
        _ => BuilderAt::BuildKit(to),
    })
}

fn check_address(table: &Table<'_>, key: &str, to: &At<&str>) {
    let user = to.value.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    if user.is_some_and(|(user, _)| user.contains(':')) {
        let hint = "a key of ssh's, or a connection or context that has it".to_owned();
        table.fault(&to.place, format!("`{key}` holds a password"), Some(hint));
    }
    if to.value.is_empty() {
        table.fault(&to.place, format!("`{key}` is empty"), None);
    }
}
