//! xtask builds container images that changed, within the memory there is, and runs end-to-end
//! suites on kind.
//!
//! The folders are the stages, in running order. A stage uses the stages before it only through
//! their types; `verbs` alone calls the functions of more than one.

pub mod config; //   [1] text → checked `Config`
pub mod context; //  [2] what goes into an image: ignore rules, Dockerfile inputs, walk, index, key
pub mod plan; //     [3] (Config, keys, what the engine holds) → `Plan` with reasons; pure
pub mod schedule; // [4] graph + budget → running order; knows nothing of containers
pub mod engine; //   [5] build, inspect, save: podman, docker
pub mod cluster; //  [6] kind: nodes, images on them
pub mod deploy; //   [7] apply in order, wait, fail fast
pub mod suite; //    [8] run the tests, collect what they leave
pub mod report; //   [9] records of runs and what they tell

pub mod doctor; //   before anything: what a run needs of this machine, and how it is mended
pub mod event; //    the vocabulary the stages speak
pub mod exit; //     exit codes, and how an error says which
pub mod identity; // what tells one thing from another of the same name
pub mod paths; //    the only module that knows where things lie
pub mod figure; //   numbers read from files, each with a bound
pub mod private; //  files and folders that nobody else can turn against us
pub mod process; //  the only module that starts processes
mod fault; //        a panic is a fault of ours, and said to be
pub mod kubernetes; // the only module that starts kubectl and helm
mod kernel; //       what the kernel's files say of this host
mod plain_file; //   a file of a repository, read within bounds
mod port; //         who holds a port of this host
mod reference; //    what an image is called
mod secret_name; //  which names are those of secrets
pub mod init; //     a first configuration, drafted from what a repository holds
pub mod repository; // what lies in a repository, for `lint` and `init`
pub mod lint; //     rules a repository is held to before a commit; pure
pub mod ui; //       the only module that prints

pub mod cli; //     what may be typed
mod verbs; //       one short file a verb

#[cfg(test)]
mod fixture; //     what unit tests put on disk

/// Does what the command line asks for; what went wrong is said, and the exit code says it too.
pub fn run(cli: cli::Cli) -> exit::Exit {
    ui::init(match cli.global.color {
        cli::Color::Auto => ui::Color::Auto,
        cli::Color::Always => ui::Color::Always,
        cli::Color::Never => ui::Color::Never,
    });
    let result =
        process::stop::listen(ui::stopping).and_then(|()| fault::caught(|| verbs::run(cli)));
    let exit = match &result {
        Ok(exit) => *exit,
        Err(error) => {
            ui::error(error);
            exit::code(error)
        }
    };
    exit::after_signal(process::stop::signal()).unwrap_or(exit)
}
