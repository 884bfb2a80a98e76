//! What a command of the user's learns of the run, by its environment alone: no address is ever
//! typed into a test or a hook.
//!
//! | variable | value |
//! | --- | --- |
//! | `KUBECONFIG` | the cluster's private kubeconfig |
//! | `XTASK_SUITE` | the suite's name |
//! | `XTASK_ARTIFACTS` | a folder for what it wants kept (`JUnit` files, traces) |
//! | `NAME_URL`, `NAME_HOST`, `NAME_PORT` | one set for each port |
//! | `NAME_IMAGE` | for each image, its full reference |
//!
//! Names are in capitals, with `_` for `-` and `.`.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::Address;
use crate::process::Tool;

/// Where a command runs, and what it is told.
#[derive(Clone, Copy, Debug)]
pub struct Environment<'a> {
    pub suite: &'a str,
    /// Where the command runs: the folder of the config.
    pub root: &'a Path,
    pub kubeconfig: &'a Path,
    pub artifacts: &'a Path,
    /// By port name.
    pub addresses: &'a BTreeMap<String, Address>,
    /// By image name.
    pub images: &'a BTreeMap<String, String>,
}

impl Environment<'_> {
    /// The command with all of it; the folder for artifacts is made.
    pub(super) fn command<'w>(
        &self,
        words: impl IntoIterator<Item = &'w String>,
    ) -> anyhow::Result<Tool> {
        fs_err::create_dir_all(self.artifacts)?;
        let mut words = words.into_iter();
        let mut tool = Tool::new(words.next().map_or("", String::as_str))
            .args(words)
            .folder(self.root)
            .env("KUBECONFIG", self.kubeconfig)
            .env("XTASK_SUITE", self.suite)
            .env("XTASK_ARTIFACTS", self.artifacts);
        for (name, Address { host, port }) in self.addresses {
            let name = variable(name);
            tool = tool
                .env(format!("{name}_URL"), format!("http://{host}:{port}"))
                .env(format!("{name}_HOST"), host)
                .env(format!("{name}_PORT"), port.to_string());
        }
        let images = self.images.iter();
        Ok(images.fold(tool, |tool, (name, tag)| tool.env(variable(name) + "_IMAGE", tag)))
    }
}

fn variable(name: &str) -> String {
    name.to_uppercase().replace(['-', '.'], "_")
}
