//! Whose a cluster is: of what carries the cluster's name, only containers with our random id are
//! ever taken down. Programs stand in the place of podman and kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod support;

use support::{Case, Ran};

const UP: [&str; 3] = ["cluster", "up", "s"];
const DOWN: [&str; 3] = ["cluster", "down", "s"];
const STATUS: [&str; 3] = ["cluster", "status", "s"];

/// As a kind that is started by a run which is killed just then.
const KILL: &str = "kill -9 $PPID; exit 1";

fn refused(ran: &Ran, why: &str) {
    assert_eq!(ran.code, Some(3), "{ran:#?}");
    assert!(ran.stderr.contains(why) && ran.stderr.contains("hint: "), "{ran:#?}");
}

/// Neither `up` nor `down` takes what is there, and kind is never told to delete.
fn is_left_alone(case: &Case, containers: &[String], why: &str) {
    for command in [UP, DOWN, UP] {
        refused(&case.run(&command), why);
        assert_eq!(case.containers(), containers, "{command:?}");
    }
    let status = case.run(&STATUS);
    assert!(status.stdout.contains("not ours") && status.stdout.contains(why), "{status:#?}");
    assert_eq!(case.calls("kind delete"), Vec::<String>::new());
}

#[test]
fn a_cluster_is_made_used_again_and_taken_down() {
    let case = Case::with_cluster();
    case.ok(&UP);
    let made = case.containers();
    assert_eq!(made.len(), 1);
    assert!(case.ok(&STATUS).stdout.contains("running"));
    case.ok(&UP);
    assert_eq!(case.containers(), made, "it is used again");
    // `cargo clean` takes what this checkout knows of it, and it is known all the same.
    fs_err::remove_dir_all(case.path("target/xtask")).unwrap();
    assert!(case.ok(&STATUS).stdout.contains("running"));
    case.ok(&DOWN);
    assert_eq!(case.containers(), Vec::<String>::new());
    assert_eq!(case.calls("kind delete"), Vec::<String>::new());
    assert!(case.run(&STATUS).stdout.contains("not there"));
}

#[test]
fn a_start_that_never_came_makes_nobodys_cluster_ours() {
    let case = Case::with_cluster();
    case.tell_engine("kind-before", KILL);
    assert_eq!(case.run(&UP).code, None, "killed");
    assert!(case.path("target/xtask/clusters/c-e2e/cluster.json").exists());
    fs_err::remove_file(case.engine("kind-before")).unwrap();
    let theirs = case.strange_container("control-plane", "");
    is_left_alone(&case, &[theirs], "it was not made by xtask");
}

#[test]
fn what_a_killed_run_has_half_made_is_made_anew() {
    let case = Case::with_cluster();
    case.tell_engine("kind-after", KILL);
    assert_eq!(case.run(&UP).code, None, "killed");
    let half = case.containers();
    assert_eq!(half.len(), 1);
    fs_err::remove_file(case.engine("kind-after")).unwrap();
    let ran = case.ok(&UP);
    assert!(ran.stderr.contains("made anew: it is not whole"), "{ran:#?}");
    let whole = case.containers();
    assert!(whole.len() == 1 && whole != half);
    case.ok(&DOWN);
    assert_eq!(case.containers(), Vec::<String>::new());
}

#[test]
fn the_same_path_with_a_copy_of_the_record_is_another_checkout() {
    let case = Case::with_cluster();
    case.ok(&UP);
    let theirs = case.containers();
    // As in another container: the path is the same, the folder is not.
    let here = case.path("").canonicalize().unwrap();
    let away = here.with_file_name("away");
    fs_err::rename(&here, &away).unwrap();
    let mut copy =
        case.other_command("cp", &["-a", away.to_str().unwrap(), here.to_str().unwrap()]);
    assert_eq!(support::ran(copy.current_dir("/")).code, Some(0));
    is_left_alone(&case, &theirs, "it was made under this path");
    // The folder that made it still has it, wherever it lies now.
    fs_err::remove_dir_all(&here).unwrap();
    fs_err::rename(&away, &here).unwrap();
    case.ok(&DOWN);
    assert_eq!(case.containers(), Vec::<String>::new());
}

#[test]
fn a_node_that_says_our_path_or_carries_another_id_is_not_ours() {
    let case = Case::with_cluster();
    let other = "mount=/kind/xtask-id/0123456789abcdef0123456789abcdef\n";
    let theirs = case.strange_container("control-plane", other);
    let home = case.path("target/xtask");
    let mark = serde_json::json!({ "home": home, "fingerprint": {} });
    case.tell_engine(&format!("marks/{theirs}/xtask"), &mark.to_string());
    is_left_alone(&case, std::slice::from_ref(&theirs), "it was made under this path");
    let elsewhere = serde_json::json!({ "home": "/elsewhere" });
    case.tell_engine(&format!("marks/{theirs}/xtask"), &elsewhere.to_string());
    is_left_alone(&case, &[theirs], "another workspace, `/elsewhere`");
}

#[test]
fn who_loses_a_race_deletes_nothing_of_the_winners() {
    let words = [
        "make $name-control-plane $name",
        "make $name-control-plane $name /kind/xtask-id/0123456789abcdef0123456789abcdef",
        "make $name-control-plane $name; echo 'ERROR: failed to create cluster: node(s) already exist \
         for a cluster with the name' >&2; exit 1",
        "make $name-control-plane $name; echo 'docker: Error response from daemon: Conflict. The \
         container name \"/c-e2e-control-plane\" is already in use by container' >&2; exit 125",
        "make $name-control-plane $name; echo 'ERROR: some other fault' >&2; exit 1",
    ];
    for before in words {
        let case = Case::with_cluster();
        case.tell_engine("kind-before", before);
        let ran = case.run(&UP);
        assert_eq!(ran.code, Some(3), "{ran:#?}");
        assert!(ran.stderr.contains("failed to make cluster `c-e2e`"), "{ran:#?}");
        assert_eq!(case.containers().len(), 1, "{before}");
        let calls = case.calls("");
        assert!(
            calls.iter().any(|call| call.contains("create cluster") && call.contains("--retain"))
        );
        assert!(!calls.iter().any(|call| call.starts_with("rm ") || call.contains("delete")));
    }
}

#[test]
fn of_a_cluster_that_is_partly_ours_our_part_goes() {
    let case = Case::with_cluster();
    case.tell_engine("kind-after", "make $name-worker $name; echo 'ERROR: no' >&2; exit 1");
    let ran = case.run(&UP);
    refused(&ran, "failed to make cluster `c-e2e`");
    assert_eq!(case.containers().len(), 1, "the worker is somebody else's");
    let left =
        fs_err::read_to_string(case.engine("containers").join(&case.containers()[0])).unwrap();
    assert!(left.contains("name=c-e2e-worker"), "{left}");
}

#[test]
fn a_failed_start_of_ours_leaves_nothing() {
    let case = Case::with_cluster();
    case.tell_engine("kind-after", "echo 'ERROR: no space left' >&2; exit 1");
    assert_eq!(case.run(&UP).code, Some(3));
    assert_eq!(case.containers(), Vec::<String>::new());
    assert!(!case.path("target/xtask/clusters/c-e2e").exists());
}
