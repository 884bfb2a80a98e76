//! What types cannot say: forms of names, ports used twice, steps that wait for each other, files
//! that are not there, timeouts that do not nest.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::At;
use super::near;
use super::table::Table;
use super::{Port, Step};

/// What Kubernetes accepts as a `NodePort`, unless told otherwise.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// A node is called `NAME-control-plane`, and a host name has at most 63 characters.
const CLUSTER_NAME_LENGTH: usize = 63 - "-control-plane".len();

/// The longest value of a label in Kubernetes.
const LABEL_LENGTH: usize = 63;

/// The rule of a path component in an image reference; no `/`, for the name is also a folder's.
pub(super) fn image_name(table: &Table<'_>, name: &At<&str>) {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separated = name
        .value
        .split(fine)
        .filter(|part| !part.is_empty())
        .all(|part| matches!(part, "." | "_" | "__") || part.chars().all(|c| c == '-'));
    if !separated || !name.value.starts_with(fine) || !name.value.ends_with(fine) {
        let hint = "small letters and digits, with `-`, `_` or `.` between them";
        table.fault(&name.place, "not a name an image can have", Some(hint.to_owned()));
    }
}

/// What kind accepts.
pub(super) fn cluster_name(table: &Table<'_>, name: &At<String>) {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = name.value.chars().all(|c| fine(c) || matches!(c, '-' | '.'));
    if !inner || !name.value.starts_with(fine) || !name.value.ends_with(fine) {
        let hint = "small letters and digits, with `-` or `.` between them".to_owned();
        let message = format!("`{}` is not a name a kind cluster can have", name.value);
        table.fault(&name.place, message, Some(hint));
    } else if name.value.len() > CLUSTER_NAME_LENGTH {
        let message = format!("name `{}` is longer than kind can make a host name of", name.value);
        let hint = format!("at most {CLUSTER_NAME_LENGTH} characters");
        table.fault(&name.place, message, Some(hint));
    }
}

/// What Kubernetes takes as the value of a label.
pub(super) fn label(table: &Table<'_>, key: &str, label: &At<String>) {
    if label.value.is_empty() || label.value != label_of(&label.value) {
        let hint =
            format!("at most {LABEL_LENGTH} letters and digits, with `-`, `_` or `.` between");
        table.fault(&label.place, format!("`{key}` is not a value a label can have"), Some(hint));
    }
}

fn label_of(text: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let text: String = text.chars().map(fine).take(LABEL_LENGTH).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

/// Names of suites and steps are names of folders and logs.
pub(super) fn plain_name(table: &Table<'_>, name: &At<&str>) {
    let inner = name.value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !inner || !name.value.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        let hint = "letters and digits, with `-`, `_` or `.` between them".to_owned();
        table.fault(&name.place, "not a name a log file can have", Some(hint));
    }
}

/// Whether a text is the way to a field of an object: `spec.image`, `spec.env[].value`.
pub fn is_field(text: &str) -> bool {
    text.split('.').all(|key| {
        let key = key.strip_suffix("[]").unwrap_or(key);
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    })
}

/// What Kubernetes takes as a key of a Secret or `ConfigMap`.
pub(super) fn data_key(table: &Table<'_>, key: &str, place: &Range<usize>) {
    if !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) || key.is_empty() {
        let hint = "letters and digits, with `-`, `_` or `.` between them".to_owned();
        table.fault(place, format!("`{key}` is not a key that data can have"), Some(hint));
    }
}

/// Names of ports become variables (`gateway-metrics` is in `GATEWAY_METRICS_URL`), each its own.
pub(super) fn port_name(table: &Table<'_>, name: &At<&str>) {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !name.value.chars().all(inner) || !name.value.starts_with(|c: char| c.is_ascii_lowercase()) {
        let hint = "small letters, digits and `-`, a letter first".to_owned();
        table.fault(&name.place, "not a name a variable can be made of", Some(hint));
    }
}

/// The port's `node`.
pub(super) fn node_port(table: &mut Table<'_>) -> Option<At<u16>> {
    let node = table.number("node", 1..=u16::MAX)?;
    if !NODE_PORTS.contains(&node.value) {
        let message = format!("node port {} is not from 30000 to 32767", node.value);
        // Above them lies the band the API server hands out by itself.
        let hint = "30000 to 30085 are never given to another service".to_owned();
        table.fault(&node.place, message, Some(hint));
    }
    Some(node)
}

/// No two ports of one cluster may have the same host port; a port without a cluster is in all, one
/// with host 0 was reported.
pub(super) fn host_ports(table: &Table<'_>, ports: &[At<Port>]) {
    let mut ports: Vec<&At<Port>> = ports.iter().collect();
    ports.sort_by_key(|port| port.place.start);
    for (index, later) in ports.iter().enumerate() {
        let clash = ports[..index].iter().find(|sooner| {
            later.value.host != 0
                && sooner.value.host == later.value.host
                && share_a_cluster(&sooner.value, &later.value)
        });
        if let Some(sooner) = clash {
            let (line, _) = table.document.line(sooner.place.start);
            let message = format!(
                "port `{}`: host port {} is that of port `{}` (line {line})",
                later.value.name, later.value.host, sooner.value.name
            );
            table.document.fault(&later.place, message, None);
        }
    }
}

fn share_a_cluster(a: &Port, b: &Port) -> bool {
    a.cluster == b.cluster || a.cluster.is_none() || b.cluster.is_none()
}

/// A time within another must not be longer; `outer` says what the other is.
pub(super) fn nests(
    table: &Table<'_>,
    key: &str,
    inner: &At<Duration>,
    outer: &str,
    limit: Duration,
) {
    if inner.value > limit {
        let message = format!(
            "`{key}` of {} is longer than {outer} of {}",
            humantime::format_duration(inner.value),
            humantime::format_duration(limit)
        );
        table.fault(&inner.place, message, None);
    }
}

/// Steps that wait for each other, in that order; none if all can run. A name that is no step's is
/// passed over: it was reported where it stands.
pub(super) fn cycle(steps: &[Step]) -> Option<Vec<&str>> {
    let mut done = BTreeSet::new();
    steps.iter().find_map(|step| visit(steps, step, &mut Vec::new(), &mut done))
}

fn visit<'s>(
    steps: &'s [Step],
    step: &'s Step,
    above: &mut Vec<&'s str>,
    done: &mut BTreeSet<&'s str>,
) -> Option<Vec<&'s str>> {
    let name = step.name.as_str();
    if let Some(start) = above.iter().position(|other| *other == name) {
        return Some(above[start..].to_vec());
    }
    if !done.insert(name) {
        return None;
    }
    above.push(name);
    let needed = step.needs.iter().filter_map(|need| steps.iter().find(|step| step.name == *need));
    let found = needed.into_iter().find_map(|step| visit(steps, step, above, done));
    above.pop();
    found
}

pub(super) fn is_file(table: &Table<'_>, key: &str, path: &At<PathBuf>) {
    if !path.value.is_file() {
        there(table, key, path, "file");
    }
}

pub(super) fn is_folder(table: &Table<'_>, key: &str, path: &At<PathBuf>) {
    if !path.value.is_dir() {
        there(table, key, path, "folder");
    }
}

pub(super) fn exists(table: &Table<'_>, key: &str, path: &At<PathBuf>) {
    if !path.value.exists() {
        there(table, key, path, "file or folder");
    }
}

fn there(table: &Table<'_>, key: &str, path: &At<PathBuf>, what: &str) {
    let root = &table.document.root;
    let shown = path.value.strip_prefix(root).unwrap_or(&path.value).display();
    let message = if path.value.exists() {
        format!("`{key}`: `{shown}` is not a {what}")
    } else {
        format!("`{key}`: there is no {what} `{shown}`")
    };
    table.fault(&path.place, message, similar(root, &path.value));
}

/// The path somebody meant: up to the first part that is not there, then the nearest name to it.
fn similar(root: &Path, path: &Path) -> Option<String> {
    let missing = path.ancestors().take_while(|part| !part.exists()).last()?;
    let word = missing.file_name()?.to_str()?;
    let names: Vec<String> = fs_err::read_dir(missing.parent()?)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let near = near::nearest(word, names.iter().map(String::as_str))?;
    let rest = path.strip_prefix(missing).ok()?;
    let meant: PathBuf = missing.with_file_name(near).join(rest).components().collect();
    let meant = if meant.exists() { meant } else { missing.with_file_name(near) };
    Some(format!("did you mean `{}`?", meant.strip_prefix(root).unwrap_or(&meant).display()))
}
