//! `cargo xtask init`: looks at a repository, drafts its `xtask.toml`, and reads the draft as
//! `plan` would before it is written.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};

use crate::cli;
use crate::config;
use crate::error::{ErrorExt as _, Exit};
use crate::init::{self, read};
use crate::session::Session;
use crate::text::plural;
use crate::ui;

/// Where it is written, unless `--config` says otherwise.
const NAME: &str = "xtask.toml";

pub(crate) fn run(session: &Session, args: &cli::Init) -> Result<Exit> {
    let file = session.config_file.clone().unwrap_or_else(|| PathBuf::from(NAME));
    if file.exists() && !args.print {
        let message = format!("`{}` is there already", file.display());
        return Err(anyhow!("failed to write the configuration: {message}"))
            .hint("cargo xtask init --print shows what would be written")
            .exit(Exit::Usage);
    }
    let file = std::path::absolute(&file)?;
    let root = file.parent().unwrap_or(Path::new("/"));
    let mut facts = read::facts(root);
    if facts.dockerfiles.is_empty() {
        let message = format!("failed to find a Dockerfile in `{}`", root.display());
        return Err(anyhow!(message))
            .hint("run it at the top of a repository; what git ignores is not looked at")
            .exit(Exit::Usage);
    }
    facts.not_narrowed = read::too_narrow(&init::draft(&facts).text, &file)?;
    let draft = init::draft(&facts);
    config::parse(&draft.text, &file)
        .context("failed to draft a configuration that can be read")
        .exit(Exit::Internal)?;
    if args.print {
        ui::data(draft.text.as_bytes())?;
    } else {
        fs_err::write(&file, &draft.text)?;
        ui::say(&format!(
            "wrote {}: {}",
            file.display(),
            plural(draft.images.len() as u64, "image")
        ));
        for path in &draft.unread {
            ui::say(&format!("left out, see the comment there: {path}"));
        }
        ui::say("next: cargo xtask plan");
    }
    Ok(Exit::Done)
}
