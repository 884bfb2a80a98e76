//! Images whose builds take memory, and a limit on what they may take together.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use xtask::process::Tool;

use super::machine::{BASE, Group, engine, engine_tool, remove_images};

/// A workspace with some images, a control group to run in, and a ledger of its own; all of it, and
/// what was built, goes when this is dropped.
pub(crate) struct Hungry {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) group: Group,
    pub(crate) images: Vec<String>,
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Hungry {
    /// A limit in bytes; images by name, configured MiB and the RUN line.
    pub(crate) fn new(limit: u64, images: &[(&str, u64, &str)]) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = tempfile::tempdir().unwrap();
        let mut bench =
            Self { folder, group: Group::new(limit), images: Vec::new(), _one_at_a_time: turn };
        let mut config = format!("[engine]\nname = \"{}\"\nreserve = \"64 MiB\"\n", engine());
        for (name, memory, run) in images {
            let name = format!("xtask-mem-{name}-{}", std::process::id());
            let text = format!("FROM {BASE}\nCOPY turn /turn\nRUN {run}\n");
            bench.write(&format!("{name}/Dockerfile"), &text);
            bench.write(&format!("{name}/turn"), &name);
            let image = format!(
                "[images.{name}]\ncontext = \"{name}\"\ndockerfile = \"{name}/Dockerfile\"\n\
                 memory = \"{memory} MiB\"\n"
            );
            config.push_str(&image);
            bench.images.push(name);
        }
        bench.write("xtask.toml", &config);
        bench.write("run/empty", "");
        bench
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let file = self.folder.path().join(path);
        fs_err::create_dir_all(file.parent().unwrap()).unwrap();
        fs_err::write(file, text).unwrap();
    }

    /// Makes everything after the COPY run again.
    pub(crate) fn turn(&self, text: &str) {
        for name in &self.images {
            self.write(&format!("{name}/turn"), &format!("{name} {text}"));
        }
    }

    pub(crate) fn xtask(&self, args: &[&str]) -> Tool {
        let tool = self.group.tool(env!("CARGO_BIN_EXE_xtask")).args(args);
        tool.env("XDG_RUNTIME_DIR", self.folder.path().join("run"))
            .without_env("CARGO_TARGET_DIR")
            .folder(self.folder.path())
            .limit(Duration::from_mins(5))
    }

    /// The engine's own build of an image, in the same control group.
    pub(crate) fn plain_build(&self, name: &str) -> Tool {
        let tool = engine_tool();
        let tool = match engine() {
            "podman" => tool.arg("--cgroup-manager=cgroupfs"),
            _ => tool,
        };
        tool.args(["build", "--no-cache", "--label"])
            .arg(format!("dev.xtask.image={name}"))
            .arg("--cgroup-parent")
            .arg(format!("{}/run", self.group.path))
            .arg(self.folder.path().join(name))
            .limit(Duration::from_mins(2))
    }

    /// Bytes the plan would give the image.
    pub(crate) fn planned(&self, at: usize) -> u64 {
        let plan = self.xtask(&["plan", "--format", "json", &self.images[at]]).read().unwrap();
        let plan: Value = serde_json::from_str(&plan).unwrap();
        plan["images"][0]["memory"].as_u64().unwrap()
    }
}

impl Drop for Hungry {
    fn drop(&mut self) {
        self.images.iter().for_each(|name| remove_images(name));
    }
}

/// A RUN line that takes so much at once and keeps it.
pub(crate) fn take(mib: u64, seconds: u64) -> String {
    format!("perl -e '$n = {mib} << 20; $x = \"a\" x $n; sleep {seconds}'")
}
