//! The shared cache with real parts: Debian's `docker-registry` on a free port of the loopback, and
//! podman. Fails where either is missing, so that a CI that lost them is noticed: `cargo test -p
//! xtask --test registry -- --ignored`.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]
#![expect(clippy::disallowed_methods, reason = "a test's own children, not ones of the tool's")]

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde_json::Value;
use support::Case;
use support::machine::remove_images;
use support::registry::{PATIENCE, Registry, free_port};

/// `someone`, `open-sesame`, as a login writes them.
const LOGIN: &str = "c29tZW9uZTpvcGVuLXNlc2FtZQ==";

/// Images of names of their own, and checkouts that build them; the images are removed when
/// dropped.
struct Team {
    images: Vec<String>,
    /// As the engine calls them.
    tags: Vec<String>,
    port: u16,
    settings: String,
    /// podman fails at one build if images are removed under it too often: one test at a time.
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Team {
    fn of(images: usize, port: u16, settings: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let team = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let images = (0..images).map(|number| format!("xtask-registry-{team}-{number}")).collect();
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let settings = settings.to_owned();
        let mut team = Self { images, tags: Vec::new(), port, settings, _alone: alone };
        let plan = team.checkout().plan();
        let planned = plan["images"].as_array().unwrap().iter();
        team.tags = planned.map(|image| image["tag"].as_str().unwrap().to_owned()).collect();
        team
    }

    /// A checkout of its own path with nothing remembered.
    fn checkout(&self) -> Case {
        let header = format!(
            "[engine]\nname = 'podman'\n[cache]\nregistry = '127.0.0.1:{}/team'\n\
             insecure = true\n{}\n",
            self.port, self.settings
        );
        let image =
            |image: &String| format!("[images.{image}]\ndockerfile = '{image}/Dockerfile'\n");
        let images: String = self.images.iter().map(image).collect();
        let mut case = Case::with_real_engine().config(&(header + &images));
        for image in &self.images {
            case = case
                .file(&format!("{image}/Dockerfile"), &format!("FROM scratch\nCOPY {image} /\n"))
                .file(&format!("{image}/content"), &format!("of {image}"));
        }
        case
    }

    fn reference(&self, tag: &str) -> String {
        format!("127.0.0.1:{}/team/{tag}", self.port)
    }

    /// Takes the images out of the engine. (Not by listing them: that fails while others remove
    /// theirs.)
    fn forget(&self) {
        for tag in &self.tags {
            let podman = |args: &[&str]| {
                Command::new("podman").args(args).arg(tag).output().unwrap().status.success()
            };
            let started = Instant::now();
            while podman(&["image", "exists"]) {
                podman(&["rmi", "--force"]);
                assert!(started.elapsed() < PATIENCE, "`{tag}` stays");
            }
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.forget();
        // What was built twice has lost its name to the second.
        self.images.iter().for_each(|image| remove_images(image));
    }
}

fn podman(args: &[&str]) -> String {
    let output = Command::new("podman").args(args).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a run told.
struct Told {
    events: Vec<Value>,
    stderr: String,
}

impl Told {
    fn warnings(&self) -> Vec<&str> {
        let warnings = self.events.iter().filter(|event| event["event"] == "warning");
        warnings.filter_map(|event| event["text"].as_str()).collect()
    }

    /// Built, fetched, pushed, skipped.
    fn counts(&self) -> [u64; 4] {
        let summary = self.events.last().unwrap();
        ["built", "fetched", "pushed", "skipped"].map(|count| summary[count].as_u64().unwrap())
    }
}

/// `images`, which must end well.
fn images(case: &Case, more: &[&str], login: Option<&Path>) -> Told {
    let mut command = case.command(&["--format", "json", "images"]);
    command.args(more).env_remove("XTASK_CACHE");
    if let Some(login) = login {
        command.env("REGISTRY_AUTH_FILE", login);
    }
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let events = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Told { events, stderr }
}

const READ_WRITE: &str = "mode = 'read-write'";

#[test]
#[ignore = "needs podman"]
fn a_second_checkout_builds_nothing() {
    let registry = Registry::start(false);
    let team = Team::of(12, registry.port, READ_WRITE);
    let first = images(&team.checkout(), &[], None);
    assert_eq!(first.counts(), [12, 0, 12, 0], "{}", first.stderr);
    team.forget();
    let case = team.checkout();
    let second = images(&case, &[], None);
    assert_eq!(second.counts(), [0, 12, 0, 0], "{}", second.stderr);
    assert_eq!(second.warnings(), Vec::<&str>::new());
    assert_eq!(images(&case, &[], None).counts(), [0, 0, 0, 12]);
    // What is asked for by force is built, and nothing is left under the registry's name.
    let forced = images(&case, &["--force", &team.images[0]], None);
    assert_eq!(forced.counts(), [1, 0, 1, 0]);
    for tag in &team.tags {
        let reference = team.reference(tag.strip_prefix("localhost/").unwrap());
        let there = Command::new("podman").args(["image", "exists", &reference]).status().unwrap();
        assert_eq!(there.code(), Some(1), "{reference}");
    }
    // The second checkout knows what its images were made from, though it built none of them.
    case.write(&format!("{}/content", team.images[1]), "another");
    let (action, reasons) = case.decision(&team.images[1]);
    assert_eq!((action.as_str(), reasons.len()), ("build", 1), "{reasons:?}");
    assert!(reasons[0].starts_with("file-changed"), "{reasons:?}");
}

/// Builds an image and puts it under the tag that the first image of the team is looked for.
fn plant(team: &Team, tag: &str, args: &[&str], labels: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("Dockerfile"), "FROM scratch\nCOPY Dockerfile /\n").unwrap();
    let labels = labels.iter().flat_map(|label| ["--label", label.as_str()]);
    let place = folder.path().display().to_string();
    let build = ["build", "--quiet"].into_iter().chain(args.iter().copied());
    let build: Vec<&str> = build.chain(labels).chain([place.as_str()]).collect();
    let id = podman(&build);
    podman(&["push", "--quiet", "--tls-verify=false", id.trim(), &team.reference(tag)]);
    podman(&["rmi", "--force", id.trim()]);
}

#[test]
#[ignore = "needs podman"]
fn another_image_under_the_tag_is_refused_and_built() {
    let registry = Registry::start(false);
    let team = Team::of(1, registry.port, READ_WRITE);
    let case = team.checkout();
    let plan = case.plan();
    let tag = team.tags[0].replace("localhost/", "");
    let key = format!("dev.xtask.key={}", plan["images"][0]["key"].as_str().unwrap());
    let image = format!("dev.xtask.image={}", team.images[0]);
    let other_key = format!("dev.xtask.key={}", "0".repeat(64));
    let lies: [(&[&str], &[String], &str); 4] = [
        (&[], &[], "its label `dev.xtask.key` is missing"),
        (&[], &[other_key, image.clone()], "its label `dev.xtask.key` is 0000"),
        (&[], &[key.clone(), "dev.xtask.image=other".into()], "its label `dev.xtask.image` is"),
        (&["--platform", "linux/s390x"], &[key, image], "it is for linux/s390x, not linux/"),
    ];
    for (args, labels, why) in lies {
        plant(&team, &tag, args, labels);
        let told = images(&team.checkout(), &[], None);
        assert_eq!(told.counts(), [1, 0, 1, 0], "{why}: {}", told.stderr);
        assert!(told.warnings()[0].contains(why), "{why}: {:?}", told.warnings());
        let here = podman(&["image", "inspect", &format!("localhost/{tag}")]);
        // Only a build of xtask's has it.
        assert!(here.contains("dev.xtask.inputs"), "{why}: {here}");
        team.forget();
    }
    // What was built has taken the place of the last lie.
    assert_eq!(images(&team.checkout(), &[], None).counts(), [0, 1, 0, 0]);
}

#[test]
#[ignore = "needs podman"]
fn another_images_layers_under_the_right_configuration_are_refused() {
    let registry = Registry::start(false);
    let team = Team::of(2, registry.port, READ_WRITE);
    let case = team.checkout();
    images(&case, &[], None);
    team.forget();
    let place = |tag: &String| {
        let (name, key) = tag.strip_prefix("localhost/").unwrap().split_once(':').unwrap();
        (name.to_owned(), key.to_owned())
    };
    let places: Vec<(String, String)> = team.tags.iter().map(place).collect();
    let manifest = |(name, key): &(String, String)| {
        let link = format!("repositories/team/{name}/_manifests/tags/{key}/current/link");
        let digest = fs_err::read_to_string(registry.data().join(link)).unwrap();
        let digest = digest.strip_prefix("sha256:").unwrap();
        let blob = format!("blobs/sha256/{}/{digest}/data", &digest[..2]);
        serde_json::from_slice::<Value>(&fs_err::read(registry.data().join(blob)).unwrap()).unwrap()
    };
    let (mut forged, other) = (manifest(&places[0]), manifest(&places[1]));
    forged["layers"] = other["layers"].clone();
    // The registry takes a manifest only if the layers are in its repository.
    let (name, key) = &places[0];
    let layers = |name: &str| registry.data().join(format!("repositories/team/{name}/_layers"));
    Command::new("cp")
        .arg("-r")
        .arg(layers(&places[1].0).join("sha256"))
        .arg(layers(name))
        .status()
        .unwrap();
    let url = format!("http://127.0.0.1:{}/v2/team/{name}/manifests/{key}", team.port);
    let media = forged["mediaType"].as_str().unwrap();
    let answer = ureq::put(&url).content_type(media).send(forged.to_string()).unwrap();
    assert_eq!(answer.status(), 201);
    let told = images(&team.checkout(), &["--cache", "read-only"], None);
    assert_eq!(told.counts(), [1, 1, 0, 0], "{}", told.stderr);
    assert!(told.warnings()[0].contains("its layers are not those"), "{:?}", told.warnings());
}

#[test]
#[ignore = "needs podman"]
fn a_layer_that_was_altered_in_the_registry_is_refused_and_built() {
    let registry = Registry::start(false);
    let team = Team::of(1, registry.port, READ_WRITE);
    images(&team.checkout(), &[], None);
    team.forget();
    let layers = registry.layers();
    assert_eq!(layers.len(), 1);
    let mut bytes = fs_err::read(&layers[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs_err::write(&layers[0], bytes).unwrap();
    let told = images(&team.checkout(), &["--cache", "read-only"], None);
    assert_eq!(told.counts(), [1, 0, 0, 0], "{}", told.stderr);
    assert!(told.warnings()[0].contains("was refused"), "{:?}", told.warnings());
}

/// A checkout whose only image has a layer that stays and one that does not.
fn of_two_layers(team: &Team, content: &str) -> Case {
    let (case, name) = (team.checkout(), &team.images[0]);
    let copies = format!("FROM scratch\nCOPY {name}/base /\nCOPY {name}/content /\n");
    case.write(&format!("{name}/Dockerfile"), &copies);
    case.write(&format!("{name}/base"), &format!("below {name}"));
    case.write(&format!("{name}/content"), content);
    case
}

#[test]
#[ignore = "needs podman"]
fn layers_come_from_the_registry_and_keep_no_name() {
    let registry = Registry::start(false);
    let settings = format!("{READ_WRITE}\nlayers = true");
    let team = Team::of(1, registry.port, &settings);
    let first = of_two_layers(&team, "one");
    let told = images(&first, &[], None);
    assert_eq!(told.counts(), [1, 0, 1, 0], "{}", told.stderr);
    let tag = first.plan()["images"][0]["tag"].as_str().unwrap().to_owned();
    // With the image go the layers that only it was made of.
    podman(&["rmi", "--force", &tag]);
    let told = images(&of_two_layers(&team, "two"), &["--cache", "read-only"], None);
    assert_eq!(told.counts(), [1, 0, 0, 0], "{}", told.stderr);
    let said = told.events.iter().filter_map(|event| event["line"].as_str());
    let came = said.filter_map(|line| line.strip_prefix("--> Cache pulled from remote "));
    let came: Vec<&str> = came.collect();
    assert_eq!(came.len(), 1, "{:?}", told.events);
    let there = Command::new("podman").args(["image", "exists", came[0]]).status().unwrap();
    assert_eq!(there.code(), Some(1), "{}", came[0]);
}

#[test]
#[ignore = "needs podman"]
fn a_registry_that_takes_no_layers_fails_no_build() {
    let registry = Registry::read_only();
    let settings = format!("{READ_WRITE}\nlayers = true");
    let team = Team::of(1, registry.port, &settings);
    let told = images(&of_two_layers(&team, "one"), &[], None);
    assert_eq!(told.counts(), [1, 0, 0, 0], "{}", told.stderr);
    assert!(told.warnings()[0].contains("without the cache's layers"), "{:?}", told.warnings());
}

#[test]
#[ignore = "needs podman"]
fn a_registry_that_is_down_costs_one_warning() {
    let team = Team::of(3, free_port(), READ_WRITE);
    let told = images(&team.checkout(), &[], None);
    assert_eq!(told.counts(), [3, 0, 0, 0], "{}", told.stderr);
    assert_eq!(told.warnings().len(), 1, "{:?}", told.warnings());
    assert!(told.warnings()[0].contains("connection refused"), "{:?}", told.warnings());
}

#[test]
#[ignore = "needs podman"]
fn a_registry_that_accepts_and_never_answers_is_given_up_once() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let settings = format!("{READ_WRITE}\nanswer = '3s'");
    let team = Team::of(3, port, &settings);
    // Whom nobody takes in the kernel takes in, up to its backlog.
    let told = images(&team.checkout(), &[], None);
    assert_eq!(told.counts(), [3, 0, 0, 0], "{}", told.stderr);
    assert_eq!(told.warnings().len(), 1, "{:?}", told.warnings());
    assert!(told.warnings()[0].contains("left alone for the rest of this run"));
}

#[test]
#[ignore = "needs podman"]
fn nothing_is_put_there_unless_the_mode_says_so() {
    let registry = Registry::start(false);
    let team = Team::of(1, registry.port, "");
    assert_eq!(images(&team.checkout(), &[], None).counts(), [1, 0, 0, 0]);
    assert_eq!(registry.repositories(), 0);
    team.forget();
    let writes = images(&team.checkout(), &["--cache", "read-write"], None);
    assert_eq!(writes.counts(), [1, 0, 1, 0], "{}", writes.stderr);
    assert_eq!(registry.repositories(), 1);
    team.forget();
    assert_eq!(images(&team.checkout(), &["--cache", "off"], None).counts(), [1, 0, 0, 0]);
    team.forget();
    assert_eq!(images(&team.checkout(), &[], None).counts(), [0, 1, 0, 0]);
}

#[test]
#[ignore = "needs podman"]
fn a_login_is_the_engines_and_is_written_nowhere() {
    let registry = Registry::start(true);
    let team = Team::of(1, registry.port, READ_WRITE);
    let login = registry.folder.path().join("auth.json");
    let text = format!("{{\"auths\": {{\"127.0.0.1:{}\": {{\"auth\": \"{LOGIN}\"}}}}}}", team.port);
    fs_err::write(&login, text).unwrap();
    let case = team.checkout();
    let told = images(&case, &[], Some(&login));
    assert_eq!(told.counts(), [1, 0, 1, 0], "{}", told.stderr);
    team.forget();
    let case = team.checkout();
    let told = images(&case, &[], Some(&login));
    assert_eq!(told.counts(), [0, 1, 0, 0], "{}", told.stderr);
    let found = Command::new("grep")
        .args(["--recursive", "--files-with-matches", "--regexp", "open-sesame", "--regexp", LOGIN])
        .arg(case.path(""))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap(), "");
    assert!(!told.stderr.contains(LOGIN));
    team.forget();
    // Without it, the registry is one that does not answer what is asked.
    let empty = registry.folder.path().join("none.json");
    fs_err::write(&empty, "{}").unwrap();
    let told = images(&team.checkout(), &[], Some(&empty));
    assert_eq!(told.counts(), [1, 0, 0, 0], "{}", told.stderr);
    assert_eq!(told.warnings().len(), 1, "{:?}", told.warnings());
}
