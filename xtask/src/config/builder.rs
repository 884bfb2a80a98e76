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
    let podman = table.string("podman").inspect(|to| check_address(table, to));
    let docker = table.string("docker");
    match (podman, docker) {
        (Some(to), None) if to.value.contains("://") => {
            Some(BuilderAt::PodmanUrl(to.value.to_owned()))
        }
        (Some(to), None) => Some(BuilderAt::PodmanConnection(to.value.to_owned())),
        (None, Some(to)) => Some(BuilderAt::DockerContext(to.value.to_owned())),
        (None, None) => {
            let hint = "podman = \"ssh://HOST/…\", podman = \"CONNECTION\" or docker = \"CONTEXT\"";
            table.missing("does not say where it is", Some(hint.to_owned()));
            None
        }
        (Some(_), Some(docker)) => {
            table.fault(&docker.place, "`docker` and `podman` are both given", None);
            None
        }
    }
}

fn check_address(table: &Table<'_>, to: &At<&str>) {
    let user = to.value.split_once("://").and_then(|(_, rest)| rest.split_once('@'));
    if user.is_some_and(|(user, _)| user.contains(':')) {
        let hint = "a key of ssh's, or `podman system connection add`".to_owned();
        table.fault(&to.place, "`podman` holds a password", Some(hint));
    }
    if to.value.is_empty() {
        table.fault(&to.place, "`podman` is empty", None);
    }
}
