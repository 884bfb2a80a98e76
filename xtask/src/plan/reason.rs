//! Why an image is built or skipped. Every decision has at least one reason.

use std::fmt;

use serde::Serialize;

/// One reason. The JSON form (`kind` in kebab case, `path`, `detail`) is relied on by scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The engine holds an image that carries this very key.
    UpToDate,
    /// Asked for with `--force`.
    Forced,
    /// The engine holds no image of this key.
    NoImage,
    /// What the image was last built from is not known here.
    NoRecord,
    FileAdded {
        path: String,
    },
    FileRemoved {
        path: String,
    },
    FileChanged {
        path: String,
        detail: Option<String>,
    },
    Dockerfile,
    BuildArg {
        name: String,
        detail: String,
    },
    BaseImage {
        reference: String,
        detail: String,
    },
    Target {
        detail: String,
    },
    Platform {
        detail: String,
    },
    /// The ignore rules changed, and with them what is sent.
    IgnoreFile,
    /// ADD fetches something, and what that is today nobody knows who has not fetched it.
    Fetched {
        detail: String,
    },
}

impl Reason {
    pub fn kind(&self) -> &'static str {
        match self {
            Reason::UpToDate => "up-to-date",
            Reason::Forced => "forced",
            Reason::NoImage => "no-image",
            Reason::NoRecord => "no-record",
            Reason::FileAdded { .. } => "file-added",
            Reason::FileRemoved { .. } => "file-removed",
            Reason::FileChanged { .. } => "file-changed",
            Reason::Dockerfile => "dockerfile",
            Reason::BuildArg { .. } => "build-arg",
            Reason::BaseImage { .. } => "base-image",
            Reason::Target { .. } => "target",
            Reason::Platform { .. } => "platform",
            Reason::IgnoreFile => "ignore-file",
            Reason::Fetched { .. } => "fetched",
        }
    }

    pub fn path(&self) -> Option<&str> {
        match self {
            Reason::FileAdded { path }
            | Reason::FileRemoved { path }
            | Reason::FileChanged { path, .. } => Some(path),
            _ => None,
        }
    }

    pub fn detail(&self) -> Option<String> {
        match self {
            Reason::FileChanged { detail, .. } => detail.clone(),
            Reason::BuildArg { name, detail } => Some(format!("{name}: {detail}")),
            Reason::BaseImage { reference, detail } => Some(format!("{reference}: {detail}")),
            Reason::Target { detail }
            | Reason::Platform { detail }
            | Reason::Fetched { detail } => Some(detail.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::UpToDate => write!(f, "up to date"),
            Reason::Forced => write!(f, "forced"),
            Reason::NoImage => write!(f, "no image of this key"),
            Reason::NoRecord => write!(f, "no record of an earlier build"),
            Reason::FileAdded { path } => write!(f, "added {path}"),
            Reason::FileRemoved { path } => write!(f, "removed {path}"),
            Reason::FileChanged { path, detail: None } => write!(f, "changed {path}"),
            Reason::FileChanged { path, detail: Some(how) } => write!(f, "changed {path} ({how})"),
            Reason::Dockerfile => write!(f, "Dockerfile changed"),
            Reason::BuildArg { name, detail } => write!(f, "build arg {name}: {detail}"),
            Reason::BaseImage { reference, detail } => {
                write!(f, "base image {reference}: {detail}")
            }
            Reason::Target { detail } => write!(f, "target: {detail}"),
            Reason::Platform { detail } => write!(f, "platform: {detail}"),
            Reason::IgnoreFile => write!(f, "ignore rules changed"),
            Reason::Fetched { detail } => write!(f, "{detail}"),
        }
    }
}

impl Serialize for Reason {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("kind", self.kind())?;
        if let Some(path) = self.path() {
            map.serialize_entry("path", path)?;
        }
        if let Some(detail) = self.detail() {
            map.serialize_entry("detail", &detail)?;
        }
        map.end()
    }
}
