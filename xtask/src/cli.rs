//! The command line: what may be typed, and nothing of what it does.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::suite::Shard;

/// Builds container images that changed, within the memory there is, and runs end-to-end suites on
/// kind.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 the work failed, 2 usage or configuration, \
    3 environment, 4 internal error, 130/143 stopped by a signal.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The heading in `--help` for the options that every command has.
const EVERY_COMMAND: &str = "Options of every command";

/// Flags of every command; they stand before or after it.
#[derive(Args, Clone, Debug)]
pub struct Global {
    /// Configuration file [default: xtask.toml here or in a folder above]
    #[arg(long, global = true, value_name = "FILE", help_heading = EVERY_COMMAND)]
    pub config: Option<PathBuf>,
    /// Engine that builds [default: the configuration's]
    #[arg(long, global = true, value_enum, help_heading = EVERY_COMMAND)]
    pub engine: Option<EngineName>,
    /// Form of what is printed
    #[arg(long, global = true, value_enum, default_value = "human", help_heading = EVERY_COMMAND)]
    pub format: Format,
    /// Print only failures and the summary
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = EVERY_COMMAND)]
    pub quiet: bool,
    /// Print more; twice: every line of every build
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = EVERY_COMMAND)]
    pub verbose: u8,
    /// When to use colour (`NO_COLOR` is honoured)
    #[arg(long, global = true, value_enum, default_value = "auto", help_heading = EVERY_COMMAND)]
    pub color: Color,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineName {
    Auto,
    Podman,
    Docker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Human,
    Json,
    /// A chart for documents: `plan --suite` only
    Mermaid,
    /// `lint` only: for code scanning
    Sarif,
    /// `plan`: lines for `GITHUB_OUTPUT`; `lint`: annotations of a job
    Github,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    E2e(E2e),
    Images(Images),
    Plan(Plan),
    Why(Why),
    Context(Context),
    Cluster(Cluster),
    Lint(Lint),
    Doctor(Doctor),
    Timings(Timings),
    Gc(Gc),
    Test(Test),
    Init(Init),
    Completions(Completions),
    Man(Man),
}

/// Run a suite: images, cluster, load, apply, wait, test
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask e2e gateway                      the whole run
  cargo xtask e2e gateway --keep               keep the cluster; the next run uses it again
  cargo xtask e2e gateway --keep-on-failure    the same, but only of a run that fails
  cargo xtask e2e nightly --shard 1/3          a third of the tests of a suite that has a `shard`
  cargo xtask e2e gateway --bootstrap          install what is missing first
  cargo xtask e2e gateway -- --nocapture cors  arguments for the test command")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct E2e {
    /// Suite of the configuration
    pub suite: String,
    /// Keep the cluster when the run is over
    #[arg(long)]
    pub keep: bool,
    /// Keep the cluster if the run fails, to look into it
    #[arg(long)]
    pub keep_on_failure: bool,
    /// Run one part of the tests, as the suite's `shard` says
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// Stop before the tests
    #[arg(long)]
    pub no_test: bool,
    /// Fail before anything is started if an image would have to be built
    #[arg(long)]
    pub require_prebuilt: bool,
    /// Run `doctor --fix` first
    #[arg(long)]
    pub bootstrap: bool,
    #[command(flatten)]
    pub build: Build,
    /// Arguments for the test command
    #[arg(last = true)]
    pub args: Vec<String>,
}

impl E2e {
    /// The run of a suite without any option.
    pub(crate) fn of(suite: &str) -> Self {
        let build = Build { jobs: None, fail_fast: false, force: false, pull: false, cache: None };
        Self {
            suite: suite.to_owned(),
            keep: false,
            keep_on_failure: false,
            shard: None,
            no_test: false,
            require_prebuilt: false,
            bootstrap: false,
            build,
            args: Vec::new(),
        }
    }
}

fn shard(text: &str) -> Result<Shard, String> {
    let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
    match parts {
        Some((index, total)) if (1..=total).contains(&index) => Ok(Shard { index, total }),
        _ => Err("write it like 1/3: which part, of how many".to_owned()),
    }
}

/// How builds are done, wherever there are any.
#[derive(Args, Clone, Copy, Debug)]
pub struct Build {
    /// At most so many builds at once, whatever the memory allows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Start nothing more after the first failed build
    #[arg(long)]
    pub fail_fast: bool,
    /// Build even what is up to date
    #[arg(long)]
    pub force: bool,
    /// Ask the registries for newer base images
    #[arg(long)]
    pub pull: bool,
    /// What the run may do with the registry of `[cache]` [default: as the configuration says]
    #[arg(long, value_name = "MODE", env = "XTASK_CACHE")]
    pub cache: Option<CacheMode>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CacheMode {
    Off,
    ReadOnly,
    ReadWrite,
}

/// Bring images up to date
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask images                  all images of the configuration
  cargo xtask images gateway          one
  cargo xtask images --prebuild       all that any suite needs
  cargo xtask images --check          exit 1 if anything would be built, for CI
  cargo xtask images --prebuild --bundle images.tar    and write them to one file
  cargo xtask images --from-bundle images.tar          load from it what is missing")]
pub struct Images {
    /// Images of the configuration [default: all]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// All images that any suite needs
    #[arg(long, conflicts_with_all = ["names", "suite"])]
    pub prebuild: bool,
    /// All images of a suite; may be given several times
    #[arg(long, conflicts_with = "names", value_name = "SUITE")]
    pub suite: Vec<String>,
    /// Write the images to one file, each layer once
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    pub bundle: Option<PathBuf>,
    /// Build nothing; load from such a file what is missing and belongs to this checkout. Whoever
    /// wrote it is trusted as whoever builds here is: of a stranger's job, take none
    #[arg(long, value_name = "FILE", conflicts_with_all = ["bundle", "force", "pull"])]
    pub from_bundle: Option<PathBuf>,
    /// Use the file only if it is that one, as `--bundle` printed it where it was written
    #[arg(long, value_name = "HEX", requires = "from_bundle", value_parser = sha256)]
    pub sha256: Option<String>,
    /// Build nothing; exit 1 if anything would be built
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    pub build: Build,
}

fn sha256(text: &str) -> Result<String, String> {
    let is_one = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_one { Ok(text.to_owned()) } else { Err("write 64 hex digits".to_owned()) }
}

/// Show what would be done and why, changing nothing
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask plan                          all images
  cargo xtask plan --suite gateway          a suite: images, steps, critical path
  cargo xtask plan gateway --format json    for scripts
  cargo xtask plan --suite gateway --format mermaid    a chart for documents
  cargo xtask plan --since origin/main      what a change touches: images, suites
  cargo xtask plan --format github >> \"$GITHUB_OUTPUT\"    a matrix for a workflow")]
pub struct Plan {
    /// Images of the configuration [default: all]
    #[arg(value_name = "NAME", conflicts_with = "suite")]
    pub names: Vec<String>,
    /// The images and steps of a suite
    #[arg(long)]
    pub suite: Option<String>,
    /// The images and suites that a change since this revision touches; no engine is asked
    #[arg(long, value_name = "REV", conflicts_with = "suite")]
    pub since: Option<String>,
}

/// Say why an image would be built or skipped, down to the file
#[derive(Args, Debug)]
#[command(after_help = "Example:
  cargo xtask why gateway")]
pub struct Why {
    /// Image of the configuration
    pub image: String,
}

/// Show what is sent to the engine, or check it against budgets
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask context gateway             files, bytes, the largest paths
  cargo xtask context gateway --list      one path a line
  cargo xtask context --check             exit 1 if a context is over its budget
  cargo xtask context --dir . --file build/Dockerfile --list")]
pub struct Context {
    /// Images of the configuration [default: all]
    #[arg(value_name = "IMAGE", conflicts_with = "dir")]
    pub images: Vec<String>,
    /// One path a line, sorted by bytes
    #[arg(long)]
    pub list: bool,
    /// With --list: end paths with NUL instead of newline
    #[arg(short = '0', requires = "list")]
    pub null: bool,
    /// Compare with the budgets; exit 1 if one is exceeded
    #[arg(long, conflicts_with_all = ["dir", "list"])]
    pub check: bool,
    /// A directory outside the configuration
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// With --dir: narrow to what this Dockerfile can read
    #[arg(long, requires = "dir", value_name = "DOCKERFILE")]
    pub file: Option<PathBuf>,
    /// With --file: the stage that would be built
    #[arg(long, requires = "file")]
    pub target: Option<String>,
    /// With --file: a build argument
    #[arg(long, requires = "file", value_name = "K=V")]
    pub build_arg: Vec<String>,
}

/// The cluster of a suite, alone
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask cluster up gateway
  cargo xtask cluster status gateway
  cargo xtask cluster down gateway")]
pub struct Cluster {
    pub action: ClusterAction,
    /// Suite of the configuration
    pub suite: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClusterAction {
    /// Make it, or use it again
    Up,
    /// Delete it
    Down,
    /// Say what is there
    Status,
}

/// Hold the repository to rules: registries, ports, pull policies, contexts, scripts
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask lint                     exit 1 if there is a finding
  cargo xtask lint --format sarif      for code scanning
  cargo xtask lint --format github     annotations of a job

An exception needs a reason, in xtask.toml:
  [[lint.allow]]
  rule = \"no-cache\"
  path = \"ci/weekly.sh\"
  reason = \"finds base images that moved\"")]
pub struct Lint {}

/// Check everything a run needs; each fault with the one command that mends it
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask doctor          look, change nothing
  cargo xtask doctor --fix    install and make what is missing")]
pub struct Doctor {
    /// Mend what can be mended here
    #[arg(long)]
    pub fix: bool,
}

/// Show how long each step took over past runs
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask timings                       every suite on record
  cargo xtask timings gateway --html        its last run as a page, in target/xtask/timings.html
  cargo xtask timings gateway --gate        exit 1 if a step became slower, beyond the noise seen
  cargo xtask timings gateway --gate=strict    exit 3 if there are too few runs to tell")]
pub struct Timings {
    /// Suite of the configuration [default: all]
    pub suite: Option<String>,
    /// Write the last run as one self-contained page
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    pub html: Option<Option<PathBuf>>,
    /// Exit 1 if a step became slower, and name it; say so where there are too few runs to judge,
    /// which with `strict` is exit 3
    #[arg(long, value_name = "HOW", num_args = 0..=1, require_equals = true, default_missing_value = "known")]
    pub gate: Option<Gate>,
}

/// What a gate makes of a suite that cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Gate {
    /// Only what is known counts.
    Known,
    /// What is not known counts, too.
    Strict,
}

/// Keys of an image that stay where nothing else is said.
pub const KEPT_KEYS: u16 = 3;

/// Free images of earlier builds, on the engine and on kept clusters; says first what goes
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask gc --dry-run    what would be freed
  cargo xtask gc --keep 1     all but the newest key of each image, and what is in use")]
pub struct Gc {
    /// Keys that stay of each image, besides what is in use
    #[arg(long, value_name = "N", default_value_t = KEPT_KEYS)]
    pub keep: u16,
    /// Say what would be freed, free nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Run the project's own tests, as CI runs them
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask test                everything CI runs
  cargo xtask test --bootstrap    install what is missing first (a bare machine)")]
pub struct Test {
    /// Run `doctor --fix` first
    #[arg(long)]
    pub bootstrap: bool,
}

/// Write an xtask.toml for a repository that has none: guesses, each with its reason
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  cargo xtask init                         writes xtask.toml here; what is there is never overwritten
  cargo xtask init --print                 only shows it
  xtask --config REPOSITORY/xtask.toml init")]
pub struct Init {
    /// Print it instead of writing it
    #[arg(long)]
    pub print: bool,
}

/// Write man pages, one a command
#[derive(Args, Debug)]
#[command(after_help = "Example:
  cargo xtask man ~/.local/share/man/man1 && man xtask-e2e")]
pub struct Man {
    /// Folder for the pages; made if it is not there
    pub folder: PathBuf,
}

/// Print completions for a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:
  cargo xtask completions bash > ~/.local/share/bash-completion/completions/xtask")]
pub struct Completions {
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_checksum_has_64_digits_and_belongs_to_a_bundle() {
        let parse = |args: &[&str]| super::Cli::command().try_get_matches_from(args).is_ok();
        let hex = "0aF3".repeat(16);
        assert!(parse(&["xtask", "images", "--from-bundle", "f", "--sha256", &hex]));
        assert!(!parse(&["xtask", "images", "--from-bundle", "f", "--sha256", &hex[1..]]));
        assert!(!parse(&["xtask", "images", "--sha256", &hex]));
    }
}
