//! `gc` against a real podman, over images of its own names: `cargo test -p xtask --test gc --
//! --ignored`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::Case;

struct Real {
    case: Case,
    image: String,
}

impl Real {
    fn podman(&self, args: &[&str]) -> String {
        support::ran(&mut self.case.other_command("podman", args)).stdout
    }

    /// Builds with this content; gives back the tag.
    fn build(&self, content: &str) -> String {
        self.case.write("src/a", content);
        self.case.ok(&["images"]);
        self.case.plan()["images"][0]["tag"].as_str().unwrap().to_owned()
    }

    fn holds(&self, tag: &str) -> bool {
        self.case.podman(&["image", "exists", tag])
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let container = format!("{}-user", self.image);
        self.case.podman(&["rm", "--force", "--ignore", &container]);
        let filter = format!("label=dev.xtask.image={}", self.image);
        for id in self.podman(&["images", "--quiet", "--filter", &filter]).lines() {
            self.case.podman(&["rmi", "--force", id]);
        }
    }
}

#[test]
#[ignore = "needs podman"]
fn the_newest_and_all_in_use_stay_and_the_rest_goes() {
    let image = format!("xtask-gc-{}", std::process::id());
    let case = Case::with_real_engine()
        .config(&format!("[images.{image}]\ndockerfile = 'Dockerfile'\n"))
        .file("Dockerfile", "FROM scratch\nCOPY src /src\nCMD [\"/src/a\"]\n");
    let real = Real { case, image };
    let tags: Vec<String> = (0..5).map(|n| real.build(&format!("content {n}"))).collect();
    let user = format!("{}-user", real.image);
    assert!(real.case.podman(&["create", "--name", &user, &tags[0]]));
    assert!(real.case.podman(&["tag", &tags[1], &format!("localhost/{}-mine:1", real.image)]));
    // The checkout is back at what it was: its image is old, and what the plan wants.
    real.case.write("src/a", "content 2");
    let dry = real.case.ok(&["gc", "--keep", "1", "--dry-run"]).stdout;
    assert!(dry.contains(&tags[3]) && dry.contains("1 image on podman"), "{dry}");
    assert!(tags.iter().all(|tag| real.holds(tag)), "a dry run frees nothing");
    let ran = real.case.ok(&["gc", "--keep", "1"]);
    assert_eq!(ran.stdout, dry);
    let held: Vec<bool> = tags.iter().map(|tag| real.holds(tag)).collect();
    // Used by a container; named by somebody; wanted by the plan; old; the newest.
    assert_eq!(held, [true, true, true, false, true]);
    assert!(real.case.ok(&["gc", "--keep", "1"]).stdout.starts_with("0 images"));
}

#[test]
#[ignore = "needs podman"]
fn what_is_another_projects_or_a_users_own_stays() {
    let image = format!("xtask-gc-own-{}", std::process::id());
    let project = || {
        let case = Case::with_real_engine()
            .config(&format!("[images.{image}]\ndockerfile = 'Dockerfile'\n"))
            .file("Dockerfile", "FROM scratch\nCOPY src /src\nCMD [\"/src/a\"]\n");
        Real { case, image: image.clone() }
    };
    let (here, there) = (project(), project());
    let theirs: Vec<String> = (0..2).map(|n| there.build(&format!("theirs {n}"))).collect();
    let ours = here.build("ours 0");
    let from = |name: &str, more: &str| {
        let text = format!("FROM {ours}\nLABEL mine={name}\n");
        here.case.write(&format!("{name}/Dockerfile"), &text);
        let words = format!("build --quiet {more} {name}");
        here.podman(&words.split_whitespace().collect::<Vec<_>>()).trim().to_owned()
    };
    let untagged = from("untagged", "");
    let named = format!("localhost/{image}:own");
    from("named", &format!("--tag {named}"));
    let container = here.podman(&["create", &ours]).trim().to_owned();
    let committed = here.podman(&["commit", "--quiet", &container]).trim().to_owned();
    here.podman(&["rm", &container]);
    let tagged = format!("localhost/{image}:mine");
    here.podman(&["tag", &here.build("ours 1"), &tagged]);
    let old = here.build("ours 2");
    let newest = here.build("ours 3");
    here.case.ok(&["gc", "--keep", "1"]);
    for kept in theirs.iter().chain([&untagged, &named, &committed, &tagged, &newest]) {
        assert!(here.holds(kept), "{kept}");
    }
    assert!(!here.holds(&old), "what is old and ours alone goes");
    for own in [&named, &untagged, &committed, &tagged] {
        here.case.podman(&["rmi", "--force", own]);
    }
}
