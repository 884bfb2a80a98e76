//! What a run may reach outside its machine: `[cache]`, `[telemetry]`. Without a section it does
//! not.
//!
//! Credentials never stand in the file: the engine has its own (`podman login`).

use super::document::At;
use super::table::Table;
use super::{Cache, CacheMode, Otlp, defaults};

/// `[cache]`; none without a `registry`.
pub(super) fn cache(outermost: &mut Table<'_>) -> Option<Cache> {
    let mut table = outermost.table("cache", "cache".to_owned())?;
    let registry = table.string("registry").inspect(|registry| check_registry(&table, registry));
    let modes = [("read-only", CacheMode::ReadOnly), ("read-write", CacheMode::ReadWrite)];
    let mode = table.choice("mode", &modes).unwrap_or(defaults::CACHE_MODE);
    let insecure = table.boolean("insecure").unwrap_or(false);
    let layers = table.boolean("layers").unwrap_or(false);
    let mut time = |key, default| table.duration(key).map_or(default, |time| time.value);
    let answer = time("answer", defaults::CACHE_ANSWER);
    let transfer = time("transfer", defaults::CACHE_TRANSFER);
    table.end();
    let registry = registry?.value.to_owned();
    Some(Cache { registry, mode, insecure, layers, answer, transfer })
}

/// `[telemetry]`; none without `otlp`.
pub(super) fn telemetry(outermost: &mut Table<'_>) -> Option<Otlp> {
    let mut table = outermost.table("telemetry", "telemetry".to_owned())?;
    let otlp = table.string("otlp");
    let hint = match otlp.as_ref().map(|otlp| otlp.value) {
        Some("environment") | None => None,
        Some(url) if url.starts_with("http://") && url.len() > 7 && !url.contains('@') => None,
        Some(url) if url.starts_with("https://") => {
            Some("a collector on this machine can pass it on over TLS: `http://localhost:4318`")
        }
        Some(_) => Some("write it like \"http://localhost:4318\", or \"environment\""),
    };
    if let (Some(otlp), Some(hint)) = (&otlp, hint) {
        table.fault(&otlp.place, "`otlp` is not the address of a collector", Some(hint.to_owned()));
    }
    table.end();
    otlp.map(|otlp| match otlp.value {
        "environment" => Otlp::Environment,
        endpoint => Otlp::Endpoint(endpoint.to_owned()),
    })
}

/// `HOST[:PORT][/PATH]`, so that no engine takes the host for a part of a path.
fn check_registry(table: &Table<'_>, registry: &At<&str>) {
    let mut parts = registry.value.split('/');
    let host = parts.next().unwrap_or_default();
    let hint = match registry.value {
        text if text.contains("://") => "leave out the scheme; `insecure = true` is plain HTTP",
        text if text.contains('@') => "credentials are the engine's: `podman login HOST`",
        _ if is_host(host) && parts.all(is_path) => return,
        _ => "write it like \"HOST:PORT/PATH\", in small letters",
    };
    // It may hold a password.
    table.fault(&registry.place, "`registry` is not one", Some(hint.to_owned()));
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, "443"));
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let named = !name.is_empty() && name.chars().all(fine);
    let told_apart = name == "localhost" || text.contains(['.', ':']);
    named && told_apart && port.parse::<u16>().is_ok_and(|port| port > 0)
}

fn is_path(part: &str) -> bool {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = part.chars().all(|c| fine(c) || matches!(c, '.' | '_' | '-'));
    inner && part.starts_with(fine) && part.ends_with(fine)
}
