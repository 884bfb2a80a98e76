//! `BuildKit` at an address of its own, spoken to by `buildctl`: a builder that holds no images.
//!
//! What an image is built on goes there as an OCI layout, under the reference its Dockerfile names,
//! so `BuildKit` asks no registry for it; of a layout it asks for the blobs it does not have, each
//! once. What was built comes back as a docker-archive into the engine at home, by the id
//! `BuildKit` says it has made.
//!
//! It says what it builds for, but neither what memory it has nor how many CPUs: the configuration
//! does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow};
use parking_lot::Mutex;
use serde_json::Value;

use crate::error::{ErrorExt as _, Exit};
use crate::event::{Event, Events, seconds};
use crate::process::{self, Tool};
use crate::secret_name;

use super::away::{SIGN_OF_LIFE, STREAM};
use super::build::{Attempt, beside};
use super::command::{BUNDLE_SECRET, HOST_BUNDLE, dockerfile, secret};
use super::oom::{self, Evidence};
use super::registry::Wanted;
use super::{BuildError, BuildRequest, Built, Engine};

const PROGRAM: &str = "buildctl";

/// A daemon at an address. Holds the layouts that were made for it.
#[derive(Debug)]
pub struct BuildKit {
    address: String,
    /// By the id of the base.
    layouts: Mutex<BTreeMap<String, Layout>>,
}

/// A base as `buildctl` can send it.
#[derive(Debug)]
struct Layout {
    folder: tempfile::TempDir,
    /// Of its manifest.
    digest: String,
}

/// A base under the reference a Dockerfile has it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub reference: String,
    pub folder: PathBuf,
    pub digest: String,
}

impl BuildKit {
    /// The daemon at that address; it is not asked whether it is there.
    pub fn at(address: &str) -> anyhow::Result<Self> {
        process::find(PROGRAM)
            .with_context(|| format!("failed to find `{PROGRAM}` on PATH"))
            .exit(Exit::Environment)?;
        Ok(Self { address: address.to_owned(), layouts: Mutex::default() })
    }

    /// `buildctl`, ready for a command.
    pub fn tool(&self) -> Tool {
        Tool::new(PROGRAM).args(["--addr", &self.address])
    }

    /// Its version and the platform it builds for when not told otherwise; an error says why it does not answer.
    pub fn facts(&self) -> anyhow::Result<(String, String)> {
        let told = self.tool().args(["debug", "info"]).limit(SIGN_OF_LIFE).read();
        let told = told.with_context(|| format!("failed to reach {}", self.address))?;
        let workers = self.tool().args(["debug", "workers", "--format", "{{json .}}"]);
        let workers = workers.limit(SIGN_OF_LIFE).read()?;
        let platform = platform(&workers).context("failed to understand `buildctl`'s workers")?;
        Ok((version(&told).to_owned(), platform))
    }

    /// Lays out the base that `home` holds by that id, to be sent with each build that wants it;
    /// `sends` is called if it was not yet. The layout is put beside `stage`, where a killed run's
    /// is found.
    pub fn supply(
        &self,
        home: &Engine,
        id: &str,
        stage: &Path,
        log: &Path,
        sends: impl FnOnce(),
    ) -> anyhow::Result<()> {
        let mut layouts = self.layouts.lock();
        if layouts.contains_key(id) {
            return Ok(());
        }
        sends();
        let folder = beside(stage)?;
        let save = home.tool().args(["save", "--quiet", "--format", "oci-dir", "--output"]);
        save.arg(folder.path()).arg(id).limit(STREAM).log(log).run()?;
        let index = fs_err::read(folder.path().join("index.json"))?;
        let digest = manifest(&index).context("failed to read the index of an OCI layout")?;
        layouts.insert(id.to_owned(), Layout { folder, digest });
        Ok(())
    }

    /// Builds `order` on what was supplied and has `home` hold it, proved.
    pub fn build(
        &self,
        order: &BuildRequest,
        home: &Engine,
        wanted: &Wanted,
        events: &Events,
    ) -> Result<Built, BuildError> {
        let started = Instant::now();
        let aside = beside(order.stage).map_err(BuildError::Environment)?;
        let archive = aside.path().join("image.tar");
        let tool = self
            .named(order)
            .and_then(|bases| command(order, self.tool(), &bases, aside.path(), &archive))
            .map_err(BuildError::Environment)?;
        let (id, tail) = attempt(&tool, order, &aside.path().join(METADATA), events).judge()?;
        let missing = || BuildError::Missing { tag: order.tag.to_owned(), tail };
        let id = id.ok_or_else(missing)?;
        let load = home.tool().arg("load").arg("--input").arg(&archive).limit(STREAM);
        load.log(order.log).run().map_err(|failure| BuildError::Environment(anyhow!(failure)))?;
        let held = home.accept(&id, wanted).map_err(BuildError::Environment)?;
        Ok(Built {
            id: held.id,
            peak_memory: None,
            partly_cached: false,
            seconds: seconds(started.elapsed()),
            repeated_without_cache: false,
        })
    }

    /// What an order is built on, by the references it has that by.
    fn named(&self, order: &BuildRequest) -> anyhow::Result<Vec<Named>> {
        let layouts = self.layouts.lock();
        let bases = order.bases.iter().filter_map(|(base, id)| Some((base, id.as_ref()?)));
        let named = bases.map(|(base, id)| {
            let layout = layouts.get(id).with_context(|| format!("`{base}` was not laid out"))?;
            let (folder, digest) = (layout.folder.path().to_owned(), layout.digest.clone());
            Ok(Named { reference: base.clone(), folder, digest })
        });
        named.collect()
    }
}

fn attempt(tool: &Tool, order: &BuildRequest, metadata: &Path, events: &Events) -> Attempt {
    let end = tool.stream(|_, line| {
        let line = String::from_utf8_lossy(line).into_owned();
        events.emit(Event::BuildLine { image: order.image.to_owned(), line });
    });
    let failure = end.as_ref().err();
    let killed = oom::judge(&Evidence {
        own_kills: 0,
        victim: None,
        open_kills: None,
        lines: failure.map(|failure| failure.tail.as_slice()).unwrap_or_default(),
        ending: failure.map(|failure| &failure.ending),
    });
    let id = fs_err::read(metadata).ok().and_then(|text| id_in(&text));
    Attempt { end, id, layers: Vec::new(), peak: None, asked: None, cached: false, killed }
}

/// `BuildKit: github.com/moby/buildkit v0.17.3 4c9b…` → `v0.17.3`
fn version(told: &str) -> &str {
    let line = told.lines().find(|line| line.starts_with("BuildKit:")).unwrap_or(told);
    line.split_whitespace().find(|word| word.starts_with('v')).unwrap_or("of unknown version")
}

/// The first platform of the first worker.
fn platform(workers: &str) -> Option<String> {
    let workers: Value = serde_json::from_str(workers).ok()?;
    let platform = workers.pointer("/0/platforms/0")?;
    let of = |key: &str| platform[key].as_str();
    Some(format!("{}/{}", of("os")?, of("architecture")?))
}

/// The digest of the one manifest of a layout's index.
fn manifest(index: &[u8]) -> Option<String> {
    let index: Value = serde_json::from_slice(index).ok()?;
    Some(index.pointer("/manifests/0/digest")?.as_str()?.to_owned())
}

/// The id of the image in what `buildctl` says of a build.
fn id_in(metadata: &[u8]) -> Option<String> {
    let metadata: Value = serde_json::from_slice(metadata).ok()?;
    let digest = metadata["containerimage.config.digest"].as_str()?;
    Some(digest.trim_start_matches("sha256:").to_owned())
}

/// Where `buildctl` is told to write what it has made.
const METADATA: &str = "metadata.json";

/// The command for `order` to `BuildKit`, whose client is `buildctl`; it writes the image to
/// `archive`.
fn command(
    order: &BuildRequest,
    buildctl: Tool,
    bases: &[Named],
    aside: &Path,
    archive: &Path,
) -> anyhow::Result<Tool> {
    if let Some(name) = order.args.keys().find(|name| secret_name::is_secret(name)) {
        let image = order.image;
        return Err(anyhow!(
            "build argument `{name}` of `{image}` looks like a secret, and `buildctl` shows its value to all users of \
             this machine"
        ))
        .hint("give it as one of `secrets`: cargo xtask lint");
    }
    let text = fs_err::read(order.dockerfile).context("failed to read the Dockerfile")?;
    let (_, trusted) = dockerfile(order, aside, &text)?;
    let mut tool = buildctl.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
    // BuildKit keeps a context under the name of the folder its client runs in: that has to be of
    // this run alone.
    tool = tool.folder(order.stage);
    let local = |name: &str, folder: &Path| format!("{name}={}", folder.display());
    tool = tool.arg("--local").arg(local("context", order.stage));
    tool = tool.arg("--local").arg(local("dockerfile", aside));
    let mut options = vec![("filename".to_owned(), "Dockerfile")];
    options.extend(order.labels.iter().map(|(name, value)| (format!("label:{name}"), &**value)));
    options.extend(order.args.iter().map(|(name, value)| (format!("build-arg:{name}"), &**value)));
    options.extend(order.target.map(|target| ("target".to_owned(), target)));
    options.extend(order.platform.map(|platform| ("platform".to_owned(), platform)));
    for (name, value) in options {
        tool = tool.arg("--opt").arg(format!("{name}={value}"));
    }
    for (at, base) in bases.iter().enumerate() {
        let (name, digest) = (familiar(&base.reference), &base.digest);
        tool = tool.arg("--oci-layout").arg(local(&format!("base{at}"), &base.folder));
        tool = tool.arg("--opt").arg(format!("context:{name}=oci-layout://base{at}@{digest}"));
    }
    if trusted {
        tool = tool.arg("--secret").arg(format!("id={BUNDLE_SECRET},src={HOST_BUNDLE}"));
    }
    for (id, file) in order.secrets {
        tool = tool.arg("--secret").arg(secret(id, file, aside)?);
    }
    if order.no_cache {
        tool = tool.arg("--no-cache");
    }
    tool = tool.arg("--output").arg(format!("type=docker,dest={}", archive.display()));
    tool = tool.arg("--metadata-file").arg(aside.join(METADATA)).log(order.log);
    Ok(match order.timeout {
        Some(timeout) => tool.limit(timeout),
        None => tool,
    })
}

/// A reference as `BuildKit` looks for it: without what docker takes for granted.
fn familiar(reference: &str) -> &str {
    let name = reference.strip_prefix("docker.io/").unwrap_or(reference);
    let name = name.strip_prefix("library/").filter(|_| name != reference).unwrap_or(name);
    name.strip_suffix(":latest").unwrap_or(name)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Duration;

    /// What `buildctl` says.
    pub(in crate::engine) fn fuzz(answer: &[u8]) {
        let text = String::from_utf8_lossy(answer);
        version(&text);
        platform(&text);
        manifest(answer);
        id_in(answer);
    }

    #[test]
    fn what_buildctl_says_is_read() {
        let info = "BuildKit: github.com/moby/buildkit v0.17.3 4c9b0b1\n";
        assert_eq!(version(info), "v0.17.3");
        let workers = r#"[{"id":"x","labels":{},"platforms":[{"architecture":"arm64","os":"linux"},
                          {"architecture":"arm","os":"linux","variant":"v7"}]}]"#;
        assert_eq!(platform(workers).as_deref(), Some("linux/arm64"));
        assert_eq!(platform("[]"), None);
        let index = br#"{"schemaVersion":2,"manifests":[{"digest":"sha256:ab","size":2}]}"#;
        assert_eq!(manifest(index).as_deref(), Some("sha256:ab"));
        let metadata = br#"{"containerimage.config.digest":"sha256:cd"}"#;
        assert_eq!(id_in(metadata).as_deref(), Some("cd"));
        assert_eq!(id_in(b"{}"), None);
    }

    #[test]
    fn a_secret_is_not_given_to_buildctl() {
        let folder = tempfile::tempdir().unwrap();
        let dockerfile = folder.path().join("Dockerfile");
        fs_err::write(&dockerfile, "FROM scratch\nARG NPM_TOKEN\nARG MODE\n").unwrap();
        let args = |name: &str| BTreeMap::from([(name.to_owned(), "hunter2".to_owned())]);
        let build = |args: &BTreeMap<String, String>| {
            let order = BuildRequest {
                image: "api",
                tag: "localhost/api:1",
                labels: &[],
                stage: folder.path(),
                dockerfile: &dockerfile,
                target: None,
                platform: None,
                args,
                bases: &BTreeMap::new(),
                secrets: &BTreeMap::new(),
                no_cache: false,
                layers: None,
                marks: None,
                trust_host_ca: false,
                timeout: None,
                silence: Duration::ZERO,
                cpus: None,
                log: folder.path(),
                run: "1",
            };
            command(&order, Tool::new("buildctl"), &[], folder.path(), folder.path())
        };
        let told = crate::error::told(&build(&args("NPM_TOKEN")).unwrap_err());
        assert!(told.contains("`NPM_TOKEN` of `api`") && told.contains("\nhint: "), "{told}");
        assert!(!told.contains("hunter2"));
        assert!(build(&args("MODE")).unwrap().to_string().contains("build-arg:MODE=hunter2"));
    }

    #[test]
    fn a_base_is_found_by_the_name_buildkit_gives_it() {
        for (reference, name) in [
            ("docker.io/library/debian:bookworm-slim", "debian:bookworm-slim"),
            ("docker.io/kindest/node:latest", "kindest/node"),
            ("localhost/library/base:1", "localhost/library/base:1"),
            ("debian", "debian"),
        ] {
            assert_eq!(familiar(reference), name);
        }
    }
}
