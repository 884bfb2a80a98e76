//! Environments of Python packages, made from the Python index and used again while what is asked
//! for is the same.
//!
//! The file with the packages lies in the environment and is written last, so one that was broken
//! off is made anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::doctor;
use crate::paths::Paths;
use crate::process::Tool;

/// A slow index.
const LIMIT: Duration = Duration::from_mins(10);

/// The folder of an environment that holds these packages, given in the form of a
/// `requirements.txt`. `bootstrap` installs what Python lacks for it.
pub(crate) fn environment(
    paths: &Paths,
    name: &str,
    packages: &str,
    log: &Path,
    bootstrap: bool,
) -> Result<PathBuf> {
    let folder = paths.home().join("python").join(name);
    let held = folder.join("requirements.txt");
    if held.read(packages.len() as u64).is_ok_and(|held| held == packages.as_bytes()) {
        return Ok(folder.into());
    }
    let make = || {
        let python = Tool::new("python3").args(["-m", "venv", "--clear"]).arg(&folder);
        python.limit(LIMIT).log(log).run()
    };
    if let Err(error) = make() {
        if !bootstrap {
            let hint = "hint: apt-get install python3-venv";
            return Err(error).context(format!("failed to make a Python environment\n{hint}"));
        }
        doctor::install_packages(&["python3-venv"], log)?;
        make()?;
    }
    let wanted = folder.join("wanted.txt");
    wanted.write(packages.as_bytes())?;
    let pip = Tool::new(folder.join("bin/pip")).args(["install", "--quiet", "--requirement"]);
    pip.arg(&wanted).limit(LIMIT).log(log).run()?;
    held.write(packages.as_bytes())?;
    Ok(folder.into())
}
