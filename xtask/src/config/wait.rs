//! `wait`: a table or a list of them, each with exactly one thing to wait for, or `"none"`.
//!
//! The rollouts of a step's own workloads are waited for before anything else, and also without a
//! `wait`: what answers until then may be the pods of before. Only `"none"` leaves them out.
//!
//! | key | value |
//! | --- | --- |
//! | `rollout` | `deployment/NAME`, `statefulset/NAME`, `daemonset/NAME` |
//! | `job` | name of a Job |
//! | `endpoint` | name of a Service |
//! | `http` | URL, or `{PORT}/path`; with `status` (200); https with `ca` (PEM file) or `insecure = true` |
//! | `tcp` | `HOST:PORT` or `{PORT}` |
//! | `condition` | `KIND/NAME=CONDITION`, or with its status, `KIND/NAME=CONDITION=False` |
//!
//! `{NAME}` is the address of that entry of `[ports]`.

use std::time::Duration;

use super::document::At;
use super::suite::{Scope, within};
use super::table::Table;
use super::{Trust, Wait, WaitFor, defaults};

const FORMS: [&str; 6] = ["rollout", "job", "endpoint", "http", "tcp", "condition"];
/// Says that nothing is waited for.
const NONE: &str = "none";

const ROLLOUTS: [&str; 3] = ["deployment", "statefulset", "daemonset"];

/// How long the step's rollouts may take (none: they are not waited for), and its waits.
pub(super) fn waits(step: &mut Table<'_>, scope: &Scope<'_>) -> (Option<Duration>, Vec<Wait>) {
    let default = defaults::WAIT_TIMEOUT.min(scope.limit);
    let Some(value) = step.get("wait") else { return (Some(default), Vec::new()) };
    if let Some(word) = value.get_ref().as_str() {
        if word != NONE {
            let hint = format!(
                "write \"{NONE}\", a table like {{ rollout = \"deployment/NAME\" }}, or a list"
            );
            step.fault(&value.span(), format!("`wait` cannot be `{word}`"), Some(hint));
        }
        return (None, Vec::new());
    }
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        let hint =
            format!("leave the key out to wait for the rollouts; \"{NONE}\" waits for nothing");
        step.fault(&value.span(), "`wait` is empty", Some(hint));
    }
    let tables = step.table_or_tables("wait", "wait");
    let waits: Vec<Wait> = tables.into_iter().filter_map(|table| wait(table, scope)).collect();
    let longest = waits.iter().map(|wait| wait.timeout).max();
    (Some(longest.unwrap_or(default)), waits)
}

fn wait(mut table: Table<'_>, scope: &Scope<'_>) -> Option<Wait> {
    let [rollout, job, endpoint, http, tcp, condition] = FORMS.map(|key| table.string(key));
    let status = table.number("status", 100..=599);
    if FORMS.iter().filter(|key| table.has(key)).count() != 1 {
        let forms = FORMS.map(|key| format!("`{key}`")).join(", ");
        table.missing(&format!("exactly one of {forms} is needed"), None);
    }
    if let (Some(status), false) = (&status, table.has("http")) {
        table.fault(&status.place, "`status` belongs to `http`", None);
    }
    let trust = trust(&mut table, http.as_ref());
    let timeout = within(&mut table, scope, defaults::WAIT_TIMEOUT);
    let status = status.map_or(defaults::HTTP_STATUS, |status| status.value);
    let on = rollout
        .and_then(|object| self::rollout(&table, &object))
        .or(job.map(|name| WaitFor::Job(name.value.to_owned())))
        .or(endpoint.map(|name| WaitFor::Endpoint(name.value.to_owned())))
        .or_else(|| Some(self::http(&table, &http?, status, trust, scope)))
        .or_else(|| self::tcp(&table, &tcp?, scope))
        .or_else(|| self::condition(&table, &condition?));
    table.end();
    Some(Wait { on: on?, timeout })
}

fn rollout(table: &Table<'_>, object: &At<&str>) -> Option<WaitFor> {
    match object.value.split_once('/') {
        Some((kind, name)) if ROLLOUTS.contains(&kind) && !name.is_empty() => {
            Some(WaitFor::Rollout(object.value.to_owned()))
        }
        _ => {
            let message = format!("`{}` is nothing that rolls out", object.value);
            let hint =
                "write it like \"deployment/NAME\", \"statefulset/NAME\" or \"daemonset/NAME\"";
            table.fault(&object.place, message, Some(hint.to_owned()));
            None
        }
    }
}

/// Whose certificate is accepted: to be said for https, and for nothing else.
fn trust(table: &mut Table<'_>, http: Option<&At<&str>>) -> Option<Trust> {
    let ca = table.path("ca").map(|file| Trust::Ca(file.value));
    let any = table.boolean("insecure").unwrap_or(false).then_some(Trust::Any);
    let https = http.is_some_and(|url| url.value.starts_with("https://"));
    let said = usize::from(table.has("ca")) + usize::from(any.is_some());
    if https && said != 1 {
        let hint = "`ca` names a file of certificates; `insecure = true` accepts any".to_owned();
        table.missing("https needs one of `ca` and `insecure = true`", Some(hint));
    } else if !https && (table.has("ca") || table.has("insecure")) {
        let hint = "write it like \"https://{gateway}/healthz\"".to_owned();
        table.missing("`ca` and `insecure` belong to https", Some(hint));
    }
    ca.or(any)
}

fn http(
    table: &Table<'_>,
    url: &At<&str>,
    status: u16,
    trust: Option<Trust>,
    scope: &Scope<'_>,
) -> WaitFor {
    let addressed = ["http://", "https://", "{"].iter().any(|start| url.value.starts_with(start));
    if !addressed {
        let hint = "write it like \"{gateway}/healthz\", with a name of [ports]".to_owned();
        table.fault(&url.place, format!("`{}` is not a URL", url.value), Some(hint));
    }
    placeholders(table, url, scope);
    WaitFor::Http { url: url.value.to_owned(), status, trust }
}

fn tcp(table: &Table<'_>, address: &At<&str>, scope: &Scope<'_>) -> Option<WaitFor> {
    let whole = address.value.starts_with('{') && address.value.ends_with('}');
    let numbered = address
        .value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|p| p > 0));
    placeholders(table, address, scope);
    if whole || numbered {
        return Some(WaitFor::Tcp(address.value.to_owned()));
    }
    let hint = "write it like \"{redis}\", with a name of [ports], or \"HOST:PORT\"".to_owned();
    table.fault(&address.place, format!("`{}` is not an address", address.value), Some(hint));
    None
}

fn condition(table: &Table<'_>, text: &At<&str>) -> Option<WaitFor> {
    let (object, rest) = text.value.split_once('=').unwrap_or((text.value, ""));
    let (condition, status) = rest.split_once('=').unwrap_or((rest, "True"));
    let named = object.split_once('/').is_some_and(|(k, n)| !k.is_empty() && !n.is_empty());
    if !named || condition.is_empty() || !["True", "False", "Unknown"].contains(&status) {
        let hint = "write it like \"pod/NAME=Ready\" or \"pod/NAME=Ready=False\"".to_owned();
        table.fault(&text.place, format!("`{}` is not a condition", text.value), Some(hint));
        return None;
    }
    Some(WaitFor::Condition {
        object: object.to_owned(),
        condition: condition.to_owned(),
        status: status.to_owned(),
    })
}

/// Checks each `{NAME}`.
fn placeholders(table: &Table<'_>, text: &At<&str>, scope: &Scope<'_>) {
    let mut rest = text.value;
    while let Some((_, after)) = rest.split_once('{') {
        let Some((name, tail)) = after.split_once('}') else {
            table.fault(&text.place, format!("`{}`: a `{{` is not closed", text.value), None);
            return;
        };
        scope.port(table, &At { value: name, place: text.place.clone() });
        rest = tail;
    }
}
