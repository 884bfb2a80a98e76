//! Tells the tests whether this machine has a `PostgreSQL` server, so that those which need one
//! show as ignored, with the reason, where there is none.
#![allow(clippy::print_stdout, reason = "how a build script speaks to cargo")]

use std::path::Path;

/// Where Debian's packages put each major version.
const SERVERS: &str = "/usr/lib/postgresql";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SERVERS}");
    println!("cargo::rustc-check-cfg=cfg(postgresql_server)");
    let versions = Path::new(SERVERS).read_dir().into_iter().flatten().flatten();
    if versions.map(|version| version.path()).any(|version| version.join("bin/initdb").exists()) {
        println!("cargo::rustc-cfg=postgresql_server");
    }
}
