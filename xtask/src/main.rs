//! The front door: parse, run, say what went wrong, end with the right code.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    xtask::run(xtask::cli::Cli::parse()).into()
}
