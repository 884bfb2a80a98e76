//! `RUN --mount=…`: a comma-separated list of `key=value` and switches.

use super::expand::Expanded;

/// A mount with its values expanded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    /// `bind` if not given.
    pub(super) kind: String,
    pub(super) from: Option<String>,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) id: Option<String>,
}

/// Why a mount could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The engine refuses it, too.
    Fault(String),
    /// It may mean anything.
    Unclear(String),
}

/// The stage or image a mount is taken from, variables not expanded (engines do not do it there).
pub(super) fn from(value: &str) -> Option<String> {
    let mut fields = value.split(',').filter_map(|field| field.split_once('='));
    let (_, from) = fields.rfind(|(key, _)| key.eq_ignore_ascii_case("from"))?;
    (!from.is_empty()).then(|| from.to_owned())
}

/// Reads a mount. Keys that only one of the engines knows (`z`, `U`, `relabel`) are passed over.
pub(super) fn read(
    value: &str,
    expand: &dyn Fn(&str) -> Result<Expanded, String>,
    doubt: &dyn Fn(&str) -> String,
) -> Result<Mount, Trouble> {
    if value.contains('"') {
        return Err(Trouble::Unclear(format!("the mount `{value}` is no plain list")));
    }
    let mut mount = Mount { kind: "bind".to_owned(), from: from(value), ..Mount::default() };
    for (key, word) in value.split(',').filter_map(|field| field.split_once('=')) {
        let expanded = expand(word).map_err(Trouble::Fault)?;
        if let Some(name) = &expanded.unknown {
            match key.to_ascii_lowercase().as_str() {
                "type" | "source" | "src" => return Err(Trouble::Unclear(doubt(name))),
                _ => continue,
            }
        }
        match key.to_ascii_lowercase().as_str() {
            "type" => mount.kind = expanded.text.to_ascii_lowercase(),
            "source" | "src" => mount.source = expanded.text,
            "target" | "dst" | "destination" => mount.target = expanded.text,
            "id" => mount.id = Some(expanded.text).filter(|id| !id.is_empty()),
            _ => {}
        }
    }
    match mount.kind.as_str() {
        "bind" | "cache" | "tmpfs" | "secret" | "ssh" => Ok(mount),
        kind => Err(Trouble::Unclear(format!("`{kind}` is not a known type of mount"))),
    }
}

impl Mount {
    /// The id of a secret or of an SSH agent.
    pub(super) fn secret_id(&self) -> String {
        if let Some(id) = &self.id {
            return id.clone();
        }
        if self.kind == "ssh" {
            return "default".to_owned();
        }
        if self.source.is_empty() {
            return self.target.rsplit('/').next().unwrap_or_default().to_owned();
        }
        self.source.clone()
    }
}
