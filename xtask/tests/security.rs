//! What strangers may put in xtask's way: other users of the machine, and whoever commits to the
//! repository.
#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod support;

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::{Case, Ran};
use xtask::private::PrivatePath;

/// How long a command may take on a busy machine that hangs if it does not end by itself.
const PATIENCE: Duration = Duration::from_mins(1);

/// A temporary folder in the place of `/tmp`, and a home.
struct Shared {
    case: Case,
    folder: tempfile::TempDir,
}

impl Shared {
    fn new() -> Self {
        let shared = Self { case: Case::of_two(), folder: tempfile::tempdir().unwrap() };
        fs_err::create_dir(shared.path("tmp")).unwrap();
        fs_err::create_dir(shared.path("home")).unwrap();
        fs_err::set_permissions(shared.folder.path(), mode(0o755)).unwrap();
        fs_err::set_permissions(shared.path("tmp"), mode(0o1777)).unwrap();
        shared
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// The folder that all runs of this user share, if it is taken from `/tmp`.
    fn machine(&self) -> PathBuf {
        self.path("tmp").join(format!("xtask-{}", rustix::process::geteuid().as_raw()))
    }

    fn victim(&self, name: &str) -> PathBuf {
        let victim = self.path(name);
        fs_err::write(&victim, "precious").unwrap();
        victim
    }

    /// Runs where there is no `XDG_RUNTIME_DIR`: root, cron, CI, containers.
    fn run(&self, args: &[&str]) -> Ran {
        self.case.run_with(args, |command| {
            command
                .env_remove("XDG_RUNTIME_DIR")
                .env_remove("XDG_STATE_HOME")
                .env("TMPDIR", self.path("tmp"))
                .env("HOME", self.path("home"))
        })
    }

    /// The locks of a build and of the ledger, as links to a file each.
    fn plant_locks(&self) -> [PathBuf; 2] {
        let victims = [self.victim("victim1"), self.victim("victim2")];
        let plan = self.case.plan();
        let tag = plan["images"][0]["tag"].as_str().unwrap().replace(['/', ':'], "_");
        for folder in ["memory", "builds"] {
            fs_err::create_dir_all(self.machine().join(folder)).unwrap();
        }
        symlink(&victims[0], self.machine().join("memory/lock")).unwrap();
        let lock = self.machine().join("builds").join(format!("podman-{tag}"));
        symlink(&victims[1], lock).unwrap();
        victims
    }
}

fn mode(bits: u32) -> std::fs::Permissions {
    std::fs::Permissions::from_mode(bits)
}

fn is_precious(victim: &Path) {
    assert_eq!(fs_err::read_to_string(victim).unwrap(), "precious", "{}", victim.display());
}

#[test]
fn a_planted_lock_empties_no_file() {
    let shared = Shared::new();
    let victims = shared.plant_locks();
    let ran = shared.run(&["images"]);
    for victim in &victims {
        is_precious(victim);
    }
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.stderr.contains("is no regular file") && ran.stderr.contains("hint: rm -r"));
}

#[test]
fn a_machine_folder_that_is_a_link_is_not_used() {
    let shared = Shared::new();
    fs_err::create_dir(shared.path("precious")).unwrap();
    symlink(shared.path("precious"), shared.machine()).unwrap();
    let ran = shared.run(&["images"]);
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("is a link") && ran.stderr.contains(".local/state"), "{ran:#?}");
    assert_eq!(shared.path("precious").read_dir().unwrap().count(), 0);
}

#[test]
#[ignore = "needs root"]
fn a_machine_folder_of_another_user_is_not_used() {
    let shared = Shared::new();
    let victims = shared.plant_locks();
    for folder in ["", "memory", "builds"] {
        chown(shared.machine().join(folder), Some(65534), Some(65534)).unwrap();
    }
    let ran = shared.run(&["images"]);
    for victim in &victims {
        is_precious(victim);
    }
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("belongs to user 65534"), "{ran:#?}");
}

#[test]
fn without_a_private_folder_for_the_machine_nothing_runs() {
    let shared = Shared::new();
    symlink(shared.path("home"), shared.machine()).unwrap();
    fs_err::write(shared.path("home/.local"), "no folder").unwrap();
    let ran = shared.run(&["images"]);
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.stderr.contains("hint: set XDG_RUNTIME_DIR"), "{ran:#?}");
}

/// A repository that commits a link below `target/xtask`, to a folder with what looks like stages,
/// runs and clusters.
fn with_a_link(link: &str) -> (Case, tempfile::TempDir) {
    let precious = tempfile::tempdir().unwrap();
    for folder in ["holiday-2019", "20190704-101500-99999999", "kind"] {
        fs_err::create_dir(precious.path().join(folder)).unwrap();
        fs_err::write(precious.path().join(folder).join("a"), "precious").unwrap();
    }
    let case = Case::of_two();
    let at = case.path("target/xtask").join(link);
    fs_err::create_dir_all(at.parent().unwrap()).unwrap();
    symlink(precious.path(), at.components().collect::<PathBuf>()).unwrap();
    (case, precious)
}

#[test]
fn a_link_below_xtasks_folder_leads_nowhere() {
    for link in ["stage", "runs", "state", "clusters", "state/records", "state/index", ""] {
        let (case, precious) = with_a_link(link);
        for args in [&["images"][..], &["plan"], &["gc"], &["timings"]] {
            case.run(args);
            for folder in ["holiday-2019", "20190704-101500-99999999", "kind"] {
                is_precious(&precious.path().join(folder).join("a"));
            }
            let names = precious.path().read_dir().unwrap().count();
            assert_eq!(names, 3, "{link} {args:?}: nothing is written there");
        }
    }
}

#[test]
fn xtasks_folder_is_no_link() {
    let (case, _precious) = with_a_link("");
    for args in [&["images"][..], &["plan"], &["gc"]] {
        let ran = case.run(args);
        assert_eq!(ran.code, Some(3), "{ran:#?}");
        assert!(ran.stderr.contains("target/xtask` is a link"), "{ran:#?}");
    }
}

/// What is written below the folder by other commands than runs.
#[test]
fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
    let case = Case::of_two();
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("authorized_keys");
    let names =
        ["timings.html", "doctor-proof", "state/engine.json", "state/memory.json", ".gitignore"];
    for name in names {
        fs_err::write(&victim, "precious").unwrap();
        let at = case.path("target/xtask").join(name);
        fs_err::create_dir_all(at.parent().unwrap()).unwrap();
        fs_err::remove_file(&at).ok();
        symlink(&victim, &at).unwrap();
        for args in [&["plan"][..], &["images", "--force"], &["timings", "--html"], &["doctor"]] {
            case.run(args);
            is_precious(&victim);
        }
    }
}

#[test]
fn what_looks_like_a_stage_and_is_none_stays() {
    let case = Case::of_two();
    let names = ["holiday-2019", "20190704-101500-99999999", "since-99999999"];
    for name in names {
        case.write(&format!("target/xtask/stage/{name}/a"), "precious");
    }
    case.ok(&["images"]);
    for name in names {
        is_precious(&case.path("target/xtask/stage").join(name).join("a"));
    }
}

#[test]
fn what_git_tracks_below_xtasks_folder_is_refused() {
    let case = Case::of_two();
    case.write("target/xtask/state/records/api", "{}");
    assert!(case.tool("git", &["init", "--quiet"]));
    assert!(case.tool("git", &["add", "--force", "target/xtask/state/records/api"]));
    for args in [&["images"][..], &["gc"]] {
        let ran = case.run(args);
        assert_eq!(ran.code, Some(3), "{ran:#?}");
        assert!(
            ran.stderr.contains("git tracks") && ran.stderr.contains("records/api"),
            "{ran:#?}"
        );
    }
}

#[test]
fn git_does_not_see_xtasks_folder() {
    let case = Case::of_two();
    assert!(case.tool("git", &["init", "--quiet"]));
    case.ok(&["images"]);
    let status = case.other_command("git", &["status", "--porcelain", "target"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "");
}

#[test]
fn a_stage_of_a_live_run_stays_until_the_run_is_over() {
    let case = Case::of_two();
    let home = PrivatePath::below_others(&case.path(""), "target", "xtask");
    let stage = home.join("stage/20260101-000000-1");
    let claim = stage.claim().unwrap();
    case.ok(&["images"]);
    assert!(stage.exists(), "its run lives");
    drop(claim);
    case.write("src/a", "2");
    case.ok(&["images"]);
    assert!(!stage.exists(), "nobody's any more");
}

#[test]
fn the_stage_of_a_killed_run_is_removed_by_the_next() {
    let case = Case::of_two().engine_file("mode", "slow");
    let mut first = case.start(&["images"]);
    let stages = || case.path("target/xtask/stage").read_dir().map_or(0, Iterator::count);
    let until = Instant::now() + PATIENCE;
    while stages() == 0 && Instant::now() < until {
        std::thread::yield_now();
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // As a run leaves it that is killed while it marks its stage.
    for stage in case.path("target/xtask/stage").read_dir().unwrap() {
        let stage = stage.unwrap().path();
        fs_err::remove_dir_all(&stage).unwrap();
        fs_err::create_dir(&stage).unwrap();
        fs_err::write(stage.join(".new-0123456789abcdef0123456789abcdef"), "").unwrap();
    }
    case.write("src/a", "2");
    case.ok(&["images"]);
    assert_eq!(stages(), 0);
}

/// The words of a build on the command line of somebody else's program.
#[test]
fn a_process_that_only_reads_like_a_dead_runs_build_lives_on() {
    let case = Case::of_two().engine_file("mode", "slow");
    let mut first = case.start(&["images"]);
    let stages = || case.path("target/xtask/stage").read_dir().into_iter().flatten().flatten();
    let until = Instant::now() + PATIENCE;
    let run = loop {
        if let Some(stage) = stages().next() {
            break stage.file_name().into_string().unwrap();
        }
        assert!(Instant::now() < until, "nothing was staged");
        std::thread::yield_now();
    };
    first.kill().unwrap();
    first.wait().unwrap();
    for group in [format!("/ci/xtask-{run}-api/run"), "/ci/xtask-lab-9999/run".to_owned()] {
        let script = "read wait; :";
        let words = ["-c", script, "editor", "notes.txt", "--cgroup-parent", &group];
        let mut bystander = case.other_command("bash", &words);
        let mut bystander = bystander.stdin(std::process::Stdio::piped()).spawn().unwrap();
        case.write("src/a", &group);
        case.ok(&["images"]);
        assert_eq!(bystander.try_wait().unwrap(), None, "{group}");
        drop(bystander.stdin.take());
        // It ends by itself, since nobody writes to it any more.
        assert_eq!(bystander.wait().unwrap().code(), Some(0), "{group}");
    }
}

#[test]
fn figures_that_nobody_wrote_end_nothing() {
    let case = Case::of_two();
    case.ok(&["images"]);
    let record = case.path("target/xtask/state/records/api");
    let text = fs_err::read_to_string(&record).unwrap();
    let at = text.find("\"seconds\":").unwrap() + "\"seconds\":".len();
    let end = at + text[at..].find(',').unwrap();
    let subject = r#""image":"api","engine":"podman","platform":"linux/amd64","dockerfile":"x""#;
    for (seconds, peak) in [("1e300", "1"), ("-1", "-1"), ("1", "18446744073709551615")] {
        fs_err::write(&record, format!("{}{seconds}{}", &text[..at], &text[end..])).unwrap();
        let figures = format!(r#"{{"figures":[{{{subject},"bytes":{peak},"well":{peak}}}]}}"#);
        case.write("target/xtask/state/memory.json", &figures);
        case.write("src/a", seconds);
        for args in [&["plan"][..], &["why", "api"], &["images"]] {
            case.ok(args);
        }
    }
}

/// The one ledger that a case's engine has, which is there after the first build.
fn ledger(case: &Case) -> PathBuf {
    let user = format!("xtask-{}", rustix::process::geteuid().as_raw());
    let ledgers = case.path("../runtime").join(user).join("memory");
    fs_err::read_dir(ledgers).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn what_lies_in_the_ledger_hangs_no_run_and_decides_for_none() {
    let case = Case::of_two();
    case.ok(&["images"]);
    let ledger = ledger(&case);
    assert!(case.tool("mkfifo", &[&ledger.join("run-fifo").display().to_string()]));
    symlink("/dev/zero", ledger.join("run-zero")).unwrap();
    let page = ledger.join("run-x");
    fs_err::write(&page, r#"{"budget":1,"held":{"a":17446744073709551615}}"#).unwrap();
    let held = std::fs::File::open(&page).unwrap();
    held.lock().unwrap();
    case.write("src/a", "2");
    assert!(ends(&case, &["plan"]).is_some_and(|ran| ran.code == Some(0)));
    let ran = ends(&case, &["images"]).unwrap();
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert!(ran.stderr.contains("run-x` is not believed") || ran.stderr.contains("not believed"));
}

#[test]
fn a_ledger_that_is_kept_locked_hangs_no_plan() {
    let case = Case::of_two();
    case.ok(&["images"]);
    let gate = std::fs::File::open(ledger(&case).join("lock")).unwrap();
    gate.lock().unwrap();
    case.write("src/a", "2");
    assert!(ends(&case, &["plan"]).is_some_and(|ran| ran.code == Some(0)));
}

/// Runs a command that must end by itself; none if it did not.
fn ends(case: &Case, args: &[&str]) -> Option<Ran> {
    let xtask = support::xtask();
    let mut limited = vec!["--kill-after=1", "60", &*xtask];
    limited.extend(args);
    let ran = case.run_program("timeout", &limited);
    (ran.code != Some(124) && ran.code != Some(137)).then_some(ran)
}

/// Root is not asked for its rights everywhere; whoever is not has to be refused as well.
#[test]
#[ignore = "needs root"]
fn all_of_this_holds_for_nobody_too() {
    assert!(support::passed_as_nobody() >= 15);
}
