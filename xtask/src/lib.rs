//! xtask builds container images that changed, within the memory there is, and runs end-to-end
//! suites on kind.
//!
//! The modules stand in their order: each may use those above it. A test holds the order.

pub mod figure; //           numbers read from files, each with a bound
pub mod identity; //     random ids: what tells one thing from another of the same name
mod kernel; //           what the kernel's files say of this host
mod reference; //        what an image is called
mod secret_name; //      which names are those of secrets
pub mod text; //         how figures and words are written

pub mod private; //      files and folders that nobody else can turn against us
pub mod error; //        what failed, how it is mended, and the exit code
pub mod process; //      the only module that starts processes
pub mod event; //        what a run says while it goes on
mod plain_file; //       a file of a repository, read within bounds
mod yaml; //             YAML, on a stack that holds it
pub mod paths; //        the only module that knows where things lie
mod fault; //            a panic is a fault of ours, and said to be
mod port; //             who holds a port of this host
pub mod kubernetes; //   the only module that starts kubectl and helm
pub mod ui; //           the only module that prints

pub mod config; //       text → checked `Config`
pub mod context; //      what goes into an image: ignore rules, Dockerfile, walk, index, key
pub mod plan; //         (Config, keys, local images) → `Plan` with reasons; pure
pub mod schedule; //     graph + budget → running order; knows nothing of containers
pub mod engine; //       podman, docker: facts, images, builds
pub mod memory; //       facts → budget → reservation → learned peaks
pub mod cluster; //      kind: nodes, images on them
pub mod deploy; //       apply in order, wait, fail fast
pub mod suite; //        run the tests, collect what they leave
pub mod report; //       records of runs and what they tell
pub mod repository; //   what lies in a repository, for `lint` and `init`
pub mod lint; //         rules a repository is held to before a commit; pure
pub mod init; //         a first configuration, drafted from a repository
pub mod doctor; //       what a run needs of this machine, and how it is mended

pub mod cli; //          the command line
mod session; //          what every command begins with
mod run; //              a run: evaluate → graph → execute
mod print; //            results as text and JSON
mod chores; //           what only our own tests need
mod commands; //         one file a command

#[cfg(test)]
mod fixture; //     what unit tests put on disk
#[cfg(test)]
mod fuzz; //        inputs that nobody thought of

/// Does what the command line asks for; what went wrong is said, and the exit code says it too.
pub fn run(cli: cli::Cli) -> error::Exit {
    ui::init(match cli.global.color {
        cli::Color::Auto => ui::Color::Auto,
        cli::Color::Always => ui::Color::Always,
        cli::Color::Never => ui::Color::Never,
    });
    let result =
        process::stop::listen(ui::stopping).and_then(|()| fault::caught(|| commands::run(cli)));
    let exit = match &result {
        Ok(exit) => *exit,
        Err(error) => {
            ui::error(error);
            error::code(error)
        }
    };
    error::after_signal(process::stop::signal()).unwrap_or(exit)
}
