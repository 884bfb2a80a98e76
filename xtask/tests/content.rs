//! The content is the key's: after each of many random edits the image that xtask leaves is
//! compared with the one the engine makes of the same inputs without any cache: every path with its
//! type, mode, owner and content, and the configuration.
//!
//! Needs an engine (podman; `XTASK_ENGINE=docker` for docker),
//! `docker.io/library/debian:bookworm-slim`, and root to read images. A seed is a Dockerfile with
//! its files and a series of edits, some of which go back to an earlier state. `XTASK_TRIALS` says
//! how many seeds, or which (`7..8`); a difference is printed with its seed and edit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "all of this is a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::Path;

use fastrand::Rng;
use serde_json::Value;
use support::machine::{BASE, engine, engine_tool, remove_images, trials};
use support::{Case, Ran};

const EDITS: usize = 10;
const ARGS: [&str; 4] = ["A", "B", "G", "H"];
const VALUES: [&str; 3] = ["1", "2", "3"];
const FILES: [&str; 6] = ["f", "g.txt", "h.txt", "src/a", "src/sub/b", "src/c.txt"];
const MODES: [u32; 6] = [0o644, 0o755, 0o600, 0o640, 0o444, 0o664];
/// The label of all that the engine is told to build by this test itself.
const OWN: &str = "content.xtask.test";

/// A Dockerfile, what it is built with, and the files beside it.
#[derive(Clone)]
struct State {
    globals: Vec<(&'static str, Option<&'static str>)>,
    stages: Vec<Stage>,
    given: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, (String, u32)>,
    folder_mode: u32,
    link: &'static str,
}

#[derive(Clone)]
struct Stage {
    /// The number of an earlier stage; none: `scratch`, or the base.
    on: Option<usize>,
    has_shell: bool,
    steps: Vec<String>,
}

impl State {
    fn new(rng: &mut Rng) -> Self {
        let mut state = Self {
            globals: vec![("G", Some("1")), ("H", None)],
            stages: Vec::new(),
            given: BTreeMap::new(),
            files: FILES.iter().map(|path| (*path, ((*path).to_owned(), 0o644))).collect(),
            folder_mode: 0o755,
            link: "f",
        };
        for at in 0..rng.usize(2..=3) {
            let on = (at > 0 && rng.bool()).then(|| rng.usize(..at));
            let has_shell = on.map_or_else(|| rng.u8(..4) > 0, |on| state.stages[on].has_shell);
            state.stages.push(Stage { on, has_shell, steps: Vec::new() });
            for _ in 0..rng.usize(2..=4) {
                let step = state.step(rng, at);
                state.stages[at].steps.push(step);
            }
        }
        state
    }

    /// One instruction for a stage.
    fn step(&self, rng: &mut Rng, stage: usize) -> String {
        let word =
            |rng: &mut Rng| *rng.choice(&["$A", "${B:-b}", "$G", "$H", "$X", "${Y}", "k"]).unwrap();
        let file =
            *rng.choice(&["f", "g.txt", "*.txt", "src", "src/", "src/sub", "link", "."]).unwrap();
        let one = word(rng);
        let n = rng.u8(..3);
        let from = (stage > 0).then(|| rng.usize(..stage));
        let kinds = if self.stages[stage].has_shell { 24 } else { 16 };
        match (rng.u8(..kinds), from) {
            (0 | 1, _) => {
                let name = *rng.choice(&ARGS).unwrap();
                let forms = [format!("ARG {name}"), format!("ARG {name}={}", n + 1), format!("ARG {name}=$X{n}")];
                rng.choice(forms).unwrap()
            }
            (2 | 3, _) => format!("ENV {}={one}{n}", rng.choice(["X", "Y", "Z"]).unwrap()),
            (4, _) => format!("LABEL l{n}={one}"),
            (5, _) => format!("WORKDIR {}", rng.choice([format!("/w{one}"), format!("r{n}"), "/w".to_owned()]).unwrap()),
            (6, _) => rng.choice([format!("EXPOSE 80{n}"), format!("STOPSIGNAL {}", n + 1), format!("CMD [\"{one}\"]"), format!("ENTRYPOINT e{one}"), format!("VOLUME /v{n}")]).unwrap(),
            (7 | 8, _) => format!("COPY {file} /d{one}/"),
            (9, _) => format!("COPY {file} d{one}/"),
            (10, _) => format!("COPY --chown=1{n}:{n} {file} /o{one}/"),
            (11, _) => format!("COPY --chmod=7{n}5 f /m{one}"),
            (12, _) => format!("ADD {} /a{one}/", if n == 0 { "archive.tar" } else { file }),
            (13, _) => format!("COPY [\"g.txt\", \"f\", \"/j{one}/\"]"),
            (14, Some(from)) => format!("COPY --from=s{from} / /s{one}/"),
            (15, Some(from)) => format!("COPY --from={from} --chown={n} /tmp /t{one}"),
            (16 | 17, Some(from)) => format!("RUN --mount=type=bind,from=s{from},target=/mnt ls /mnt/* /mnt/tmp > /tmp/m{n} 2>&1"),
            (18, _) => format!("RUN --mount=type=bind,source=src,target=/mnt cat /mnt/* > /tmp/b{n} 2>&1 || true"),
            (19, _) => "RUN --mount=type=cache,id=content-test,target=/c --mount=type=secret,id=token cat /run/secrets/token > /tmp/s".to_owned(),
            (20, _) => format!("RUN umask 0{n}7 && mkdir -p /tmp/u{n} && echo {one} > /tmp/u{n}/x"),
            (21, _) => "RUN env | grep -v HOSTNAME | sort > /tmp/env".to_owned(),
            (22, _) => format!("USER 10{n}"),
            (14..=24, _) if self.stages[stage].has_shell => format!("RUN echo \"$A $B $G $H $X $Y\" > /tmp/r{n}"),
            _ => format!("COPY f /n{n}"),
        }
    }

    fn edit(&mut self, rng: &mut Rng) -> String {
        let stage = rng.usize(..self.stages.len());
        let value = *rng.choice(&VALUES).unwrap();
        match rng.u8(..13) {
            0..=2 => {
                let name = *rng.choice(&ARGS).unwrap();
                if rng.u8(..4) == 0 {
                    self.given.remove(name)
                } else {
                    self.given.insert(name, value)
                };
                format!("given {name}: {:?}", self.given.get(name))
            }
            3 | 4 => {
                let global = rng.usize(..self.globals.len());
                self.globals[global].1 = (rng.u8(..3) > 0).then_some(value);
                format!("global {:?}", self.globals[global])
            }
            5 | 6 => {
                let path = *rng.choice(&FILES).unwrap();
                let (text, _) = self.files.entry(path).or_insert((String::new(), 0o644));
                value.clone_into(text);
                format!("{path} is {value}")
            }
            7 => {
                let (path, mode) = (*rng.choice(&FILES).unwrap(), *rng.choice(&MODES).unwrap());
                let text = self.files.get(path).map_or_else(String::new, |(text, _)| text.clone());
                self.files.insert(path, (text, mode));
                format!("mode of {path} {mode:o}")
            }
            8 => {
                self.folder_mode = *rng.choice(&[0o755, 0o700, 0o750]).unwrap();
                self.link = rng.choice(["f", "g.txt", "src/a"]).unwrap();
                format!("mode of src/sub {:o}, link to {}", self.folder_mode, self.link)
            }
            9 => {
                let path = *rng.choice(&["h.txt", "src/c.txt"]).unwrap();
                if self.files.remove(path).is_none() {
                    self.files.insert(path, (value.to_owned(), 0o644));
                }
                format!("{path} comes or goes")
            }
            10 => {
                let step = self.step(rng, stage);
                let at = rng.usize(..=self.stages[stage].steps.len());
                self.stages[stage].steps.insert(at, step);
                format!("a step more in s{stage}")
            }
            11 if self.stages[stage].steps.len() > 1 => {
                let at = rng.usize(..self.stages[stage].steps.len());
                format!("without {}", self.stages[stage].steps.remove(at))
            }
            _ => {
                let at = rng.usize(..self.stages[stage].steps.len());
                self.stages[stage].steps[at] = self.step(rng, stage);
                format!("now {}", self.stages[stage].steps[at])
            }
        }
    }

    fn dockerfile(&self, base: &str) -> String {
        let mut text = String::new();
        for (name, default) in &self.globals {
            match default {
                Some(default) => writeln!(text, "ARG {name}={default}").unwrap(),
                None => writeln!(text, "ARG {name}").unwrap(),
            }
        }
        for (at, stage) in self.stages.iter().enumerate() {
            let from = match stage.on {
                Some(on) => format!("s{on}"),
                None if stage.has_shell => base.to_owned(),
                // With what every stage has that another copies from.
                None => "scratch".to_owned(),
            };
            let first = if from == "scratch" { "COPY src /tmp\n" } else { "" };
            writeln!(text, "FROM {from} AS s{at}\n{first}{}", stage.steps.join("\n")).unwrap();
        }
        // An image of nothing is none.
        text + "COPY f /end\n"
    }

    fn write(&self, case: &Case, base: &str) {
        for name in ["src", "g.txt", "h.txt", "f", "link"] {
            let path = case.path(name);
            fs_err::remove_dir_all(&path).or_else(|_| fs_err::remove_file(&path)).ok();
        }
        for (path, (text, mode)) in &self.files {
            case.write(path, text);
            set_mode(&case.path(path), *mode);
        }
        set_mode(&case.path("src/sub"), self.folder_mode);
        symlink(self.link, case.path("link")).unwrap();
        case.write("Dockerfile", &self.dockerfile(base));
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs_err::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// What an image is: a line a path and a line a part of its configuration.
type Image = BTreeMap<String, String>;

struct Bench {
    case: Case,
    name: String,
    base: String,
}

impl Bench {
    fn new(base: &str, seed: u64) -> Self {
        let case = Case::with_real_engine();
        let name = format!("content-{}-{seed}", std::process::id());
        let ignore = ".dockerignore\nDockerfile\nxtask.toml\ntarget\ntoken\n";
        let case = case.file(".dockerignore", ignore).file("token", "secret");
        case.write("archive/x/y", "packed");
        assert!(case.tool("tar", &["-cf", "archive.tar", "--mtime=@0", "archive"]));
        fs_err::remove_dir_all(case.path("archive")).unwrap();
        Self { case, name, base: base.to_owned() }
    }

    fn write(&self, state: &State) {
        state.write(&self.case, &self.base);
        let args: Vec<String> =
            state.given.iter().map(|(name, value)| format!("{name} = '{value}'")).collect();
        self.case.write(
            "xtask.toml",
            &format!(
                "[engine]\nname = '{}'\ntrust-host-ca = false\n[images.{}]\ndockerfile = 'Dockerfile'\n\
                 memory = '64 MiB'\nargs = {{ {} }}\nsecrets = {{ token = 'token' }}\n",
                engine(),
                self.name,
                args.join(", ")
            ),
        );
    }

    /// As xtask makes it; none if it does not.
    fn ours(&self) -> Result<Image, Ran> {
        let ran = self.case.run(&["images"]);
        if ran.code != Some(0) {
            return Err(ran);
        }
        Ok(self.read(self.case.plan()["images"][0]["tag"].as_str().unwrap()))
    }

    /// As the engine makes it by itself.
    fn engines(&self, state: &State) -> Option<Image> {
        let tag = format!("localhost/{}-alone:1", self.name);
        let mut build = engine_tool().args(["build", "--no-cache", "--tag", &tag, "--label", OWN]);
        if engine() == "podman" {
            build = build.args(["--format=docker", "--pull=never"]);
        }
        for (name, value) in &state.given {
            build = build.arg("--build-arg").arg(format!("{name}={value}"));
        }
        let secret = format!("id=token,src={}", self.case.path("token").display());
        // Behind a link of its own: BuildKit keeps a context under the last part of its path, and
        // does not notice another mode of a folder that it has there (moby/buildkit#7176).
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join(folder.path().file_name().unwrap());
        symlink(self.case.path(""), &context).unwrap();
        let built = build.args(["--secret", &secret]).arg(&context).run();
        let image = built.is_ok().then(|| self.read(&tag));
        engine_tool().args(["rmi", "--force", &tag]).run().ok();
        image
    }

    fn read(&self, tag: &str) -> Image {
        let mut image = configuration(tag);
        if engine() == "podman" {
            let root = engine_tool().args(["image", "mount", tag]).read().unwrap();
            tree(Path::new(root.trim()), "", &mut image);
            engine_tool().args(["image", "unmount", tag]).run().unwrap();
        } else {
            let folder = tempfile::tempdir_in(self.case.path("target")).unwrap();
            let container = engine_tool().args(["create", tag, "-"]).read().unwrap();
            let archive = folder.path().join("tar");
            engine_tool()
                .args(["export", "--output"])
                .arg(&archive)
                .arg(container.trim())
                .run()
                .unwrap();
            engine_tool().args(["rm", container.trim()]).run().unwrap();
            let root = folder.path().join("root");
            fs_err::create_dir(&root).unwrap();
            let unpack = xtask::process::Tool::new("tar").args(["--numeric-owner", "-xpf"]);
            unpack.arg(&archive).arg("-C").arg(&root).run().unwrap();
            tree(&root, "", &mut image);
        }
        image
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        remove_images(&self.name);
        remove_own();
    }
}

/// Images of each step of the engine's own builds.
fn remove_own() {
    let list = engine_tool().args(["images", "--all", "--quiet", "--no-trunc", "--filter"]);
    let Ok(ids) = list.arg(format!("label={OWN}")).read() else { return };
    let ids: BTreeSet<&str> = ids.lines().collect();
    if !ids.is_empty() {
        engine_tool().args(["rmi", "--force"]).args(ids).run().ok();
    }
}

fn configuration(tag: &str) -> Image {
    let told = engine_tool().args(["image", "inspect", tag]).read().unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let mut config = told[0]["Config"].clone();
    if let Some(labels) = config["Labels"].as_object_mut() {
        labels.retain(|name, _| {
            !name.starts_with("dev.xtask.") && name != OWN && name != "io.buildah.version"
        });
    }
    let parts = [
        "Env",
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "Labels",
        "ExposedPorts",
        "Volumes",
        "StopSignal",
        "OnBuild",
        "Shell",
        "Healthcheck",
    ];
    // Nothing is written in three ways.
    let part = |name: &str| {
        config[name].to_string().replace("null", "").replace("{}", "").replace("[]", "")
    };
    parts.iter().map(|name| (format!("config {name}"), part(name))).collect()
}

fn tree(folder: &Path, path: &str, image: &mut Image) {
    for entry in fs_err::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{path}/{}", entry.file_name().to_str().unwrap());
        let meta = entry.path().symlink_metadata().unwrap();
        let what = if meta.is_symlink() {
            format!("-> {}", fs_err::read_link(entry.path()).unwrap().display())
        } else if meta.is_dir() {
            tree(&entry.path(), &path, image);
            "folder".to_owned()
        } else {
            let bytes = fs_err::read(entry.path()).unwrap_or_default();
            format!("{} bytes {}", bytes.len(), fingerprint(&bytes))
        };
        image.insert(path, format!("{:o} {}:{} {what}", meta.mode(), meta.uid(), meta.gid()));
    }
}

/// The text itself where it is short.
fn fingerprint(bytes: &[u8]) -> String {
    use std::hash::{Hash as _, Hasher as _};
    if let Ok(text) = str::from_utf8(bytes)
        && text.len() < 300
    {
        return format!("{text:?}");
    }
    let mut hasher = std::hash::DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish().to_string()
}

/// The line that says why.
fn cause(ran: &Ran) -> &str {
    let lines = ran.stderr.lines().rev();
    lines
        .filter(|line| line.contains("  | "))
        .find(|line| line.to_lowercase().contains("error"))
        .unwrap_or(&ran.stderr)
}

fn differences(ours: &Image, engines: &Image) -> String {
    let names: BTreeSet<&String> = ours.keys().chain(engines.keys()).collect();
    let mut text = String::new();
    for name in names.into_iter().filter(|name| ours.get(*name) != engines.get(*name)) {
        writeln!(text, "{name}\n  xtask:  {:?}\n  engine: {:?}", ours.get(name), engines.get(name))
            .unwrap();
    }
    text
}

/// A small base with a shell, ENV and a label, made of Debian's programs.
fn base() -> String {
    let tag = format!("localhost/content-base-{}:1", std::process::id());
    let case = Case::with_real_engine();
    let programs = "sh cat ls mkdir chmod env sort grep";
    let copy = format!(
        "FROM {BASE} AS all\nRUN mkdir -p /r/bin /r/tmp && chmod 1777 /r/tmp && for p in {programs}; do \
         cp -L $(command -v $p) /r/bin/; ldd $(command -v $p) | grep -o '/[^ ]*' | while read l; do \
         mkdir -p /r$(dirname $l); cp -L $l /r$l; done; done\n\
         FROM scratch\nCOPY --from=all /r /\nENV PATH=/bin Y=base\nLABEL base=1\n"
    );
    case.write("Dockerfile", &copy);
    let build = engine_tool().args(["build", "--tag", &tag]);
    let build = if engine() == "podman" { build.arg("--layers=false") } else { build };
    build.arg(case.path("")).run().unwrap();
    tag
}

#[test]
#[ignore = "needs podman, and builds some hundred images"]
fn every_image_is_what_the_engine_makes_without_its_cache() {
    let base = base();
    let (mut edits, mut images) = (0, 0);
    let mut faults = Vec::new();
    for seed in trials(2) {
        let mut rng = Rng::with_seed(seed);
        let bench = Bench::new(&base, seed);
        let mut state = State::new(&mut rng);
        let mut before = vec![state.clone()];
        let mut last_good = state.clone();
        let mut edit = "first".to_owned();
        for number in 0..=EDITS {
            bench.write(&state);
            let (ours, engines) = (bench.ours(), bench.engines(&state));
            let difference = match (&ours, &engines) {
                (Ok(ours), Some(engines)) => differences(ours, engines),
                (Err(ran), None) => {
                    eprintln!("seed {seed}, edit {number}: fails in both: {}", cause(ran));
                    String::new()
                }
                (Err(ran), Some(_)) => format!("xtask fails: {}\n", ran.stderr),
                (Ok(_), None) => "the engine fails by itself\n".to_owned(),
            };
            if engines.is_some() {
                last_good = state.clone();
            } else {
                state = last_good.clone();
            }
            images += usize::from(engines.is_some());
            edits += usize::from(number > 0);
            if !difference.is_empty() {
                let text = state.dockerfile(&base);
                faults.push(format!(
                    "seed {seed}, edit {number} ({edit}), given {:?}:\n{text}{difference}",
                    state.given
                ));
                eprintln!("{}", faults.last().unwrap());
                break;
            }
            if rng.u8(..4) == 0 {
                state = rng.choice(&before).unwrap().clone();
                edit = "back".to_owned();
            } else {
                edit = state.edit(&mut rng);
                before.push(state.clone());
            }
        }
    }
    engine_tool().args(["rmi", "--force", &base]).run().ok();
    remove_own();
    eprintln!("{edits} edits, {images} images compared, {} differ", faults.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(images * 2 > edits, "most states should make an image");
}
