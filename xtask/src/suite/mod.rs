//! Stage 8: the suite, any command at all.
//!
//! It learns of the cluster by its environment alone, so that no address is ever typed into a test:
//!
//! | variable | value |
//! | --- | --- |
//! | `KUBECONFIG` | the cluster's private kubeconfig |
//! | `XTASK_SUITE` | the suite's name |
//! | `XTASK_ARTIFACTS` | a folder for what it wants kept (`JUnit` files, traces) |
//! | `NAME_URL`, `NAME_HOST`, `NAME_PORT` | one set for each port, its name in capitals, `-` as `_` |
//!
//! Its output goes live to the events and whole to a log. What it came to is its exit code; the
//! counts are read off the closing lines of the test runners (`counts`), for people.

mod counts;

use std::path::Path;
use std::time::Instant;

use crate::config::{Port, Test};
use crate::event::{Event, Events, seconds};
use crate::process::{Ending, Failure, Tool};

pub use counts::{Counts, Reader};

/// What a suite is run with.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub suite: &'a str,
    pub test: &'a Test,
    /// Where the command runs: the folder of the config.
    pub root: &'a Path,
    pub kubeconfig: &'a Path,
    pub artifacts: &'a Path,
    pub ports: &'a [&'a Port],
    /// Appended to the command.
    pub args: &'a [String],
    pub log: &'a Path,
}

/// What a suite came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub counts: Counts,
    /// How it ended, unless well.
    pub failure: Option<Failure>,
}

impl Outcome {
    pub fn ok(&self) -> bool {
        self.failure.is_none()
    }

    /// The command's own exit code; none if it was ended by a signal or by us.
    pub fn code(&self) -> Option<i32> {
        self.failure.as_ref().map_or(Some(0), Failure::code)
    }
}

/// Runs the suite to its end. Tests that fail are an [`Outcome`]; an error is a command that could
/// not be run.
pub fn run(given: &Given<'_>, events: &Events) -> anyhow::Result<Outcome> {
    fs_err::create_dir_all(given.artifacts)?;
    let tool = command(given);
    let suite = given.suite.to_owned();
    let command = command_line(given.test, given.args);
    events.emit(Event::TestStarted { suite: suite.clone(), command });
    let begun = Instant::now();
    let mut counts = counts::Reader::default();
    let result = tool.stream(|_, line| {
        let line = String::from_utf8_lossy(line);
        counts.read(&line);
        events.emit(Event::TestLine { line: line.into_owned() });
    });
    let counts = counts.counts();
    let (ok, seconds) = (result.is_ok(), seconds(begun.elapsed()));
    let Counts { passed, failed } = counts;
    events.emit(Event::TestFinished { suite, ok, passed, failed, seconds });
    match result {
        Err(failure) if matches!(failure.ending, Ending::NotStarted(_) | Ending::Stopped) => {
            Err(failure.into())
        }
        result => Ok(Outcome { counts, failure: result.err() }),
    }
}

/// The test command as it is told and recorded.
pub fn command_line(test: &Test, args: &[String]) -> String {
    test.run.iter().chain(args).map(String::as_str).collect::<Vec<_>>().join(" ")
}

fn command(given: &Given<'_>) -> Tool {
    let program = given.test.run.first().map_or("", String::as_str);
    let mut tool = Tool::new(program)
        .args(given.test.run.iter().skip(1))
        .args(given.args)
        .folder(given.root)
        .env("KUBECONFIG", given.kubeconfig)
        .env("XTASK_SUITE", given.suite)
        .env("XTASK_ARTIFACTS", given.artifacts)
        .log(given.log)
        .limit(given.test.timeout);
    for port in given.ports {
        let name = port.name.to_uppercase().replace('-', "_");
        tool = tool
            .env(format!("{name}_URL"), format!("http://127.0.0.1:{}", port.host))
            .env(format!("{name}_HOST"), "127.0.0.1")
            .env(format!("{name}_PORT"), port.host.to_string());
    }
    tool
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::event::{Sink, Stamped};

    struct Seen(Arc<Mutex<Vec<Event>>>);

    impl Sink for Seen {
        fn receive(&self, event: &Stamped) {
            self.0.lock().unwrap().push(event.event.clone());
        }
    }

    /// Runs a script as a suite; gives back its outcome and the events.
    fn run_script(script: &str, args: &[&str]) -> (Outcome, Vec<Event>) {
        let folder = tempfile::tempdir().unwrap();
        let test = Test {
            run: ["sh", "-c", script, "suite"].map(str::to_owned).to_vec(),
            timeout: Duration::from_millis(1500),
        };
        let port = Port { name: "data-storage".into(), host: 30040, node: 30040, cluster: None };
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let given = Given {
            suite: "gateway",
            test: &test,
            root: folder.path(),
            kubeconfig: Path::new("/k/config"),
            artifacts: &folder.path().join("artifacts"),
            ports: &[&port],
            args: &args,
            log: &folder.path().join("test.log"),
        };
        let events = Arc::new(Mutex::new(Vec::new()));
        let outcome = run(&given, &Events::to(vec![Box::new(Seen(Arc::clone(&events)))])).unwrap();
        let events = events.lock().unwrap().clone();
        (outcome, events)
    }

    fn lines<'a>(events: &'a [Event]) -> Vec<&'a str> {
        let line = |event: &'a Event| match event {
            Event::TestLine { line } => Some(line.as_str()),
            _ => None,
        };
        events.iter().filter_map(line).collect()
    }

    #[test]
    fn the_environment_says_where_everything_is() {
        let script = "echo $KUBECONFIG $XTASK_SUITE $DATA_STORAGE_URL $DATA_STORAGE_HOST \
                      $DATA_STORAGE_PORT \"$@\"; test -d \"$XTASK_ARTIFACTS\"";
        let (outcome, events) = run_script(script, &["--filter", "a b"]);
        assert!(outcome.ok());
        assert_eq!(
            lines(&events),
            ["/k/config gateway http://127.0.0.1:30040 127.0.0.1 30040 --filter a b"]
        );
    }

    #[test]
    fn failed_tests_are_an_outcome_with_the_exit_code_and_the_counts() {
        let script = "echo 'test result: FAILED. 14 passed; 2 failed; 0 ignored'; exit 101";
        let (outcome, events) = run_script(script, &[]);
        assert_eq!((outcome.ok(), outcome.code()), (false, Some(101)));
        assert_eq!(outcome.counts, Counts { passed: 14, failed: 2 });
        assert!(matches!(
            events.last(),
            Some(Event::TestFinished { ok: false, passed: 14, failed: 2, .. })
        ));
    }

    #[test]
    fn a_suite_that_hangs_is_ended() {
        let (outcome, _) = run_script("sleep 600", &[]);
        assert_eq!(outcome.code(), None);
        assert!(matches!(outcome.failure.unwrap().ending, Ending::TimedOut(_)));
    }
}
