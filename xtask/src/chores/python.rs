//! Environments of Python packages, made from the Python index and used again while what is asked
//! for is the same.
//!
//! The file with the packages lies in the environment and is written last, so one that was broken
//! off is made anew.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use xshell::cmd;

use super::steps::{self, Outcome};
use crate::doctor;
use crate::error::ErrorExt as _;
use crate::paths::Paths;
use crate::process::{self, Tool};
use crate::session::Run;

/// A slow index.
const INDEX_LIMIT: Duration = Duration::from_mins(10);

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
    let sh = process::shell()?;
    let make = || {
        let folder: &Path = &folder;
        let python = Tool::from(cmd!(sh, "python3 -m venv --clear {folder}"));
        python.limit(INDEX_LIMIT).log(log).run()
    };
    if let Err(error) = make() {
        if !bootstrap {
            return Err(error)
                .context("failed to make a Python environment")
                .hint("apt-get install python3-venv");
        }
        doctor::install_packages(&["python3-venv"], log)?;
        make()?;
    }
    let wanted = folder.join("wanted.txt");
    wanted.write(packages.as_bytes())?;
    let pip = Tool::new(folder.join("bin/pip")).args(["install", "--quiet", "--requirement"]);
    pip.arg(&wanted).limit(INDEX_LIMIT).log(log).run()?;
    held.write(packages.as_bytes())?;
    Ok(folder.into())
}

/// The folder of the tests in Python, with the packages they want.
const PYTHON_TESTS: &str = "images/holmesgpt-api/tests";

pub(crate) fn tests(root: &Path, paths: &Paths, run: &Run, bootstrap: bool) -> Result<Outcome> {
    let log = run.paths.log("pytest");
    let tests = root.join(PYTHON_TESTS);
    let packages = fs_err::read_to_string(tests.join("requirements.txt"))?;
    let environment = environment(paths, "pytest", &packages, &log, bootstrap)?;
    let tool = Tool::new(environment.join("bin/python")).args(["-B", "-m", "pytest"]).arg(&tests);
    Ok(steps::counted(&tool.folder(root).limit(steps::LIMIT).log(&log)))
}
