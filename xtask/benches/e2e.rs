//! The gateway suite for real, as a graph and in phases: the same tool on one machine in one run.
//!
//! `cargo bench --bench e2e`, or `just bench-e2e`; a quarter of an hour, with nothing else on the
//! machine. Phases are what a script does: `images`, then `cluster up`, then `e2e` on what is
//! there.
//!
//! | case | before it |
//! | --- | --- |
//! | cold | no cluster; every stage of every image begins with a label it never had, so no layer can be used. Cache mounts are kept: crates need not be fetched, and what of them was compiled is used |
//! | kept | the cluster of the case before, nothing changed |
//! | changed | likewise; one line of gateway's source is new |
//!
//! It works on a copy of the last commit in `target/bench-e2e`, whose tests are compiled before
//! anything is measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark that cannot go on has failed"
)]
#![allow(clippy::print_stdout, reason = "a benchmark's result is what it prints")]
#![expect(clippy::disallowed_methods, reason = "a benchmark's own children")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Instant, SystemTime};

use clap::Parser as _;
use xtask::cli::Cli;
use xtask::error::Exit;

const SUITE: &str = "gateway";

fn main() {
    let copy = copy();
    let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let mut rows = Vec::new();
    for (phases, stamp) in [(true, stamp), (false, stamp + 1)] {
        down(&copy);
        age_images(&copy, stamp);
        let cold = e2e(&copy, phases);
        let kept = e2e(&copy, phases);
        change_gateway(&copy, stamp);
        let changed = e2e(&copy, phases);
        rows.push([cold, kept, changed]);
    }
    down(&copy);
    println!("{:<10} {:>10} {:>10} {:>7}", "", "phases", "graph", "ratio");
    for (at, name) in ["cold", "kept", "changed"].into_iter().enumerate() {
        let (phases, graph) = (rows[0][at], rows[1][at]);
        println!("{name:<10} {phases:>8.1} s {graph:>8.1} s {:>7.2}", graph / phases);
    }
}

/// Seconds of one run.
fn e2e(copy: &Path, phases: bool) -> f64 {
    let started = Instant::now();
    if phases {
        for before in [["images", "--suite", SUITE], ["cluster", "up", SUITE]] {
            assert_eq!(xtask::run(parsed(copy, &before)), Exit::Done);
        }
    }
    assert_eq!(xtask::run(parsed(copy, &["e2e", SUITE, "--keep"])), Exit::Done);
    started.elapsed().as_secs_f64()
}

fn down(copy: &Path) {
    assert_eq!(xtask::run(parsed(copy, &["cluster", "down", SUITE])), Exit::Done);
}

fn parsed(copy: &Path, args: &[&str]) -> Cli {
    let config = copy.join("xtask.toml");
    let config = ["xtask", "--config", config.to_str().unwrap()];
    Cli::parse_from(config.iter().chain(args))
}

/// The last commit, with its tests compiled.
fn copy() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let copy = root.join("target/bench-e2e");
    if copy.exists() {
        let last = output(Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root));
        run(Command::new("git")
            .args(["fetch", "--quiet", "origin", last.trim()])
            .current_dir(&copy));
        let reset = ["reset", "--quiet", "--hard", "FETCH_HEAD"];
        run(Command::new("git").args(reset).current_dir(&copy));
    } else {
        run(Command::new("git").args(["clone", "--quiet"]).args([root, &copy]));
    }
    let compile = ["test", "--quiet", "--no-run", "--package", "gateway-e2e"];
    run(Command::new("cargo").args(compile).current_dir(&copy));
    copy
}

/// Begins every stage of every Dockerfile with a label of its own.
fn age_images(copy: &Path, stamp: u64) {
    for image in fs_err::read_dir(copy.join("images")).unwrap() {
        let dockerfile = image.unwrap().path().join("Dockerfile");
        let Ok(text) = fs_err::read_to_string(&dockerfile) else { continue };
        let label = format!("LABEL bench={stamp}");
        let lines = text.lines().filter(|line| !line.starts_with("LABEL bench="));
        let aged = lines.flat_map(|line| {
            let label = line.starts_with("FROM ").then_some(label.as_str());
            std::iter::once(line).chain(label)
        });
        let aged = aged.map(|line| [line, "\n"].concat()).collect::<String>();
        fs_err::write(&dockerfile, aged).unwrap();
    }
}

fn change_gateway(copy: &Path, stamp: u64) {
    let source = copy.join("images/gateway/src/main.rs");
    let text = fs_err::read_to_string(&source).unwrap();
    fs_err::write(&source, format!("{text}// {stamp}\n")).unwrap();
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

fn output(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}
