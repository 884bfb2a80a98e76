//! Bundles against a real podman: carried to another checkout and another store, damaged in every
//! way, and refused with nothing changed: `cargo test -p xtask --test bundle -- --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest as _, Sha256};
use support::{Case, Ran};
use xtask::engine::Bundle;

const BASE: &str = "docker.io/library/debian:bookworm-slim";

/// A checkout with two images of its own names, and the podman of the machine; its images go with
/// it.
struct Checkout {
    case: Case,
    names: [String; 2],
    /// podman's settings where the store is another one.
    store: Option<PathBuf>,
}

impl Checkout {
    /// Two images with a layer in common.
    fn new(base: &str) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |kind: &str| format!("xtask-bundle-{kind}-{}-{number}", std::process::id());
        Self::called([name("api"), name("web")], base)
    }

    fn called(names: [String; 2], base: &str) -> Self {
        let [api, web] = &names;
        let case = Case::with_real_engine()
            .config(&format!(
                "[images.{api}]\ndockerfile = 'api.Dockerfile'\n\
                 [images.{web}]\ndockerfile = 'web.Dockerfile'\n"
            ))
            .file("api.Dockerfile", &format!("FROM {base}\nCOPY common /common\nCOPY api /api\n"))
            .file("web.Dockerfile", &format!("FROM {base}\nCOPY common /common\nCOPY web /web\n"))
            .file("common/text", &"the same in both\n".repeat(9))
            .file("api/text", "api")
            .file("web/text", "web");
        Self { case, names, store: None }
    }

    /// The same files at another path, on a machine that never built anything.
    fn elsewhere(&self, base: &str) -> Self {
        let mut other = Self::called(self.names.clone(), base);
        let home = other.case.engine("store");
        fs_err::create_dir_all(&home).unwrap();
        let home = home.display();
        let conf = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{home}/graph\"\nrunroot = \"{home}/run\"\n"
        );
        other.case.tell_engine("store/storage.conf", &conf);
        other.store = Some(other.case.engine("store/storage.conf"));
        other
    }

    fn run(&self, args: &[&str]) -> Ran {
        let mut command = self.case.command(args);
        if let Some(store) = &self.store {
            command.env("CONTAINERS_STORAGE_CONF", store);
        }
        support::ran(&mut command)
    }

    fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        ran
    }

    fn bundle(&self) -> String {
        let file = self.case.path("images.tar").display().to_string();
        self.ok(&["images", "--bundle", &file]);
        file
    }

    /// Every image of the store with these names: repository, tag, id.
    fn held(&self) -> BTreeSet<String> {
        let filter = format!("reference=localhost/xtask-bundle-*-{}*", std::process::id());
        let args = ["images", "--no-trunc", "--filter", &filter];
        let format = ["--format", "{{.Repository}}:{{.Tag}} {{.ID}}"];
        let listed = self.podman(&[&args[..], &format].concat());
        let mine = |line: &&str| self.names.iter().any(|name| line.contains(&format!("/{name}:")));
        listed.lines().filter(mine).map(str::to_owned).collect()
    }

    /// What podman says; asked again while it fails, since an image that another test removes just
    /// now makes it give up.
    fn podman(&self, args: &[&str]) -> String {
        let ask = || {
            let mut podman = self.case.other_command("podman", args);
            if let Some(store) = &self.store {
                podman.env("CONTAINERS_STORAGE_CONF", store);
            }
            support::ran(&mut podman)
        };
        let mut ran = ask();
        for _ in 0..20 {
            if ran.code == Some(0) {
                break;
            }
            ran = ask();
        }
        ran.stdout
    }

    fn remove_images(&self) {
        for line in self.held() {
            self.podman(&["rmi", "--force", line.split(' ').next().unwrap()]);
        }
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        if self.store.is_some() {
            // The store goes with its folder, once podman's mount over it is gone.
            let graph = self.case.engine("store/graph/overlay").display().to_string();
            support::ran(&mut self.case.other_command("umount", &[&graph]));
        } else {
            self.remove_images();
        }
    }
}

/// The members of an archive, the seal left out.
fn members(file: &Path) -> Vec<(String, Vec<u8>)> {
    let mut archive = tar::Archive::new(fs_err::File::open(file).unwrap());
    let members = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (entry.path().unwrap().display().to_string(), bytes)
    });
    members.filter(|(name, _)| name != "xtask-bundle.sha256").collect()
}

/// Writes members as a bundle with a seal that fits.
fn sealed(file: &Path, members: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(Vec::new());
    let add = |builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o444);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, bytes).unwrap();
    };
    for (name, bytes) in members {
        add(&mut builder, name, bytes);
    }
    let seal = hex::encode(Sha256::digest(builder.get_ref()));
    add(&mut builder, "xtask-bundle.sha256", seal.as_bytes());
    fs_err::write(file, builder.into_inner().unwrap()).unwrap();
}

fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap()
}

#[test]
#[ignore = "needs podman"]
fn what_one_checkout_bundled_another_on_an_empty_machine_does_not_build() {
    let here = Checkout::new(BASE);
    let file = here.bundle();
    let there = here.elsewhere(BASE);
    assert_eq!(there.run(&["images", "--check"]).code, Some(1));
    let ran = there.ok(&["images", "--from-bundle", &file, "--format", "json"]);
    let summary = json(ran.stdout.lines().last().unwrap().as_bytes());
    assert_eq!([&summary["built"], &summary["loaded"], &summary["skipped"]], [0, 2, 2]);
    assert_eq!(there.held(), here.held());
    there.ok(&["images", "--check"]);
    // The records came too: what changed since is named.
    there.case.write("api/text", "changed");
    let why = there.ok(&["why", &there.names[0]]).stdout;
    assert!(why.contains("changed api/text"), "{why}");
    // With its state lost, an image of a base that is not held cannot be known for what it is.
    there.case.write("api/text", "api");
    fs_err::remove_dir_all(there.case.path("target/xtask/state")).unwrap();
    assert_eq!(there.run(&["images", "--check"]).code, Some(1));
    there.ok(&["images", "--from-bundle", &file, "--check"]);
}

#[test]
#[ignore = "needs podman"]
fn only_what_is_missing_and_belongs_to_this_checkout_is_loaded() {
    let here = Checkout::new("scratch");
    let file = here.bundle();
    let all = here.held();
    let again = here.bundle();
    assert_eq!(fs_err::read(&file).unwrap(), fs_err::read(&again).unwrap(), "not deterministic");
    let api = all.iter().find(|line| line.contains("-api-")).unwrap().clone();
    here.podman(&["rmi", api.split(' ').next().unwrap()]);
    let ran = here.ok(&["images", "--from-bundle", &file, "--format", "json"]);
    assert_eq!(json(ran.stdout.lines().last().unwrap().as_bytes())["loaded"], 1);
    assert_eq!(here.held(), all);
    here.remove_images();
    here.case.write("web/text", "newer");
    let ran = here.ok(&["images", "--from-bundle", &file]);
    assert!(ran.stderr.contains("is stale and not used: changed web/text"), "{ran:#?}");
    assert_eq!(here.held(), BTreeSet::from([api]));
    assert_eq!(here.run(&["images", "--from-bundle", &file, "--check"]).code, Some(1));
}

#[test]
#[ignore = "needs podman"]
fn a_flipped_byte_and_a_cut_anywhere_are_refused() {
    let here = Checkout::new("scratch");
    let file = here.bundle();
    let good = fs_err::read(&file).unwrap();
    assert_eq!(Bundle::open(Path::new(&file)).unwrap().list.images.len(), 2);
    let bad_file = here.case.path("bad.tar");
    let mut bad = good.clone();
    // Every byte of the heads and small members, every 7th of the rest.
    for at in (0..good.len()).step_by(if good.len() > 60_000 { 7 } else { 1 }) {
        bad[at] ^= 1 << (at % 8);
        fs_err::write(&bad_file, &bad).unwrap();
        assert!(Bundle::open(&bad_file).is_err(), "byte {at} of {}", good.len());
        bad[at] = good[at];
    }
    for at in (0..good.len()).step_by(511) {
        fs_err::write(&bad_file, &good[..at]).unwrap();
        assert!(Bundle::open(&bad_file).is_err(), "cut at {at}");
    }
    fs_err::write(&bad_file, [&good[..], &[0; 512]].concat()).unwrap();
    assert!(Bundle::open(&bad_file).is_err(), "longer");
    // Through the command line, with nothing changed.
    here.remove_images();
    bad[good.len() / 2] ^= 1;
    fs_err::write(&bad_file, &bad).unwrap();
    let ran = here.run(&["images", "--from-bundle", &bad_file.display().to_string()]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("it is damaged or cut short"), "{ran:#?}");
    assert_eq!(here.held(), BTreeSet::new());
}

/// A change to a bundle that gets a seal that fits, and what is said of it.
type Fraud = (&'static str, fn(&mut Vec<(String, Vec<u8>)>), &'static str);

fn edit(
    members: &mut [(String, Vec<u8>)],
    name: &str,
    change: impl FnOnce(&mut serde_json::Value),
) {
    let member = members.iter_mut().find(|(member, _)| member == name).unwrap();
    let mut value = json(&member.1);
    change(&mut value);
    member.1 = serde_json::to_vec(&value).unwrap();
}

fn layers(members: &[(String, Vec<u8>)]) -> Vec<usize> {
    let is_layer = |at: &usize| Path::new(&members[*at].0).extension().is_some_and(|e| e == "tar");
    (0..members.len()).filter(is_layer).collect()
}

const FRAUDS: [Fraud; 9] = [
    (
        "a layer left out",
        |m| {
            let first = layers(m)[0];
            m.remove(first);
        },
        "is not in it",
    ),
    (
        "two layers swapped",
        |m| {
            let layers = layers(m);
            let first = std::mem::take(&mut m[layers[0]].1);
            let second = std::mem::replace(&mut m[layers[1]].1, first);
            m[layers[0]].1 = second;
        },
        "its layers are not those of its configuration",
    ),
    (
        "two layers in another order",
        |m| edit(m, "manifest.json", |v| v[0]["Layers"].as_array_mut().unwrap().reverse()),
        "its layers are not those of its configuration",
    ),
    (
        "another key in the list",
        |m| edit(m, "xtask-bundle.json", |v| v["images"][0]["key"] = "0".repeat(64).into()),
        "its label is not the key",
    ),
    (
        "another id in the list",
        |m| edit(m, "xtask-bundle.json", |v| v["images"][0]["id"] = "0".repeat(64).into()),
        "its configuration is not",
    ),
    (
        "one image under the other's name",
        |m| {
            edit(m, "xtask-bundle.json", |v| {
                let name = v["images"][1]["name"].clone();
                v["images"][0]["name"] = name;
            });
        },
        "its tag is not",
    ),
    (
        "an image that is not listed",
        |m| {
            edit(m, "xtask-bundle.json", |v| drop(v["images"].as_array_mut().unwrap().pop()));
        },
        "images that it does not list",
    ),
    ("no list", |m| drop(m.remove(0)), "`xtask-bundle.json` is not in it"),
    (
        "another form",
        |m| edit(m, "xtask-bundle.json", |v| v["version"] = 2.into()),
        "its form is 2",
    ),
];

#[test]
#[ignore = "needs podman"]
fn a_wrong_archive_is_refused_whatever_its_seal_says() {
    let here = Checkout::new("scratch");
    let file = here.bundle();
    let good = members(Path::new(&file));
    here.remove_images();
    let bad_file = here.case.path("bad.tar");
    let bad_path = bad_file.display().to_string();
    for (what, change, said) in FRAUDS {
        let mut members = good.clone();
        change(&mut members);
        sealed(&bad_file, &members);
        let ran = here.run(&["images", "--from-bundle", &bad_path]);
        assert_eq!(ran.code, Some(1), "{what}: {ran:#?}");
        assert!(ran.stderr.contains(said), "{what}: {ran:#?}");
        assert_eq!(here.held(), BTreeSet::new(), "{what}");
    }
    // An honest archive of another platform is not for this machine.
    let platform = "[images.defaults]\nplatform = 'linux/s390x'\n";
    let config = fs_err::read_to_string(here.case.path("xtask.toml")).unwrap();
    here.case.write("xtask.toml", &format!("{config}{platform}"));
    let ran = here.run(&["images", "--from-bundle", &file]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert!(ran.stderr.contains("this machine wants linux/s390x"), "{ran:#?}");
    assert_eq!(here.held(), BTreeSet::new());
}

#[test]
#[ignore = "needs podman"]
fn images_on_one_base_share_it() {
    let here = Checkout::new(BASE);
    let bundle = fs_err::metadata(here.bundle()).unwrap().len();
    let alone: u64 = here
        .names
        .iter()
        .map(|name| {
            let file = here.case.path(name).display().to_string();
            here.ok(&["images", name, "--bundle", &file]);
            fs_err::metadata(&file).unwrap().len()
        })
        .sum();
    assert!(bundle * 100 <= alone * 60, "{bundle} of {alone} bytes");
}
