//! Stage 8: the suite, any command at all.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `environment` | what a command is told of the run |
//! | `hook` | a step that is a command |
//! | `counts` | the closing lines of the test runners, for people |
//! | `junit` | the report a runner leaves |
//!
//! Its output goes live to the events and whole to a log. What it came to is its exit code; the
//! counts come from its `JUnit` report or, without one, from its closing lines.

mod counts;
mod environment;
mod hook;
mod junit;

use std::path::Path;
use std::time::{Instant, SystemTime};

use crate::config::Test;
use crate::event::{Event, Events, seconds};
use crate::process::{Ending, Failure, Tool};

pub use counts::{Counts, Reader};
pub use environment::Environment;
pub use hook::hook;

/// What a suite is run with.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    pub test: &'a Test,
    pub environment: Environment<'a>,
    pub shard: Option<Shard>,
    /// Appended to the command.
    pub args: &'a [String],
    pub log: &'a Path,
}

/// One part of a suite's tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 1.
    pub index: u32,
    pub total: u32,
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
    let words = words(given.test, given.shard, given.args);
    let tool = command(given, &words)?;
    let command = words.join(" ");
    let suite = given.environment.suite.to_owned();
    events.emit(Event::TestStarted { suite: suite.clone(), command });
    let (begun, at) = (Instant::now(), SystemTime::now());
    let mut reader = counts::Reader::default();
    let result = tool.stream(|_, line| {
        let line = String::from_utf8_lossy(line);
        reader.read(&line);
        events.emit(Event::TestLine { line: line.into_owned() });
    });
    let counts = report(given, at, events).unwrap_or_else(|| reader.counts());
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

/// The counts of the report, once it is kept; one that is not there is worth a warning: the exit
/// code still says how the suite ended.
fn report(given: &Given<'_>, begun: SystemTime, events: &Events) -> Option<Counts> {
    let report = given.test.junit.as_ref()?;
    let kept = junit::keep(report, begun, &given.environment.artifacts.join("junit.xml"));
    kept.inspect_err(|error| events.warn(format!("{error:#}"), None)).ok()
}

/// The test command as it is told and recorded.
pub fn command_line(test: &Test, shard: Option<Shard>, args: &[String]) -> String {
    words(test, shard, args).join(" ")
}

fn words(test: &Test, shard: Option<Shard>, args: &[String]) -> Vec<String> {
    let shard = shard.iter().flat_map(|shard| {
        let words = test.shard.iter().flatten();
        words.map(|word| {
            word.replace("{index}", &shard.index.to_string())
                .replace("{total}", &shard.total.to_string())
        })
    });
    test.run.iter().cloned().chain(shard).chain(args.iter().cloned()).collect()
}

fn command(given: &Given<'_>, words: &[String]) -> anyhow::Result<Tool> {
    let tool = given.environment.command(words)?.log(given.log).limit(given.test.timeout);
    Ok(match given.shard {
        Some(shard) => tool
            .env("XTASK_SHARD_INDEX", shard.index.to_string())
            .env("XTASK_SHARD_TOTAL", shard.total.to_string()),
        None => tool,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::config::Address;
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
        run_in(folder.path(), script, args, None)
    }

    fn run_in(
        folder: &Path,
        script: &str,
        args: &[&str],
        shard: Option<Shard>,
    ) -> (Outcome, Vec<Event>) {
        let test = Test {
            run: ["sh", "-c", script, "suite"].map(str::to_owned).to_vec(),
            shard: Some(vec!["count:{index}/{total}".to_owned()]),
            junit: Some(folder.join("report.xml")),
            timeout: Duration::from_millis(1500),
        };
        let address = Address { host: "127.0.0.1".to_owned(), port: 30040 };
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let environment = Environment {
            suite: "gateway",
            root: folder,
            kubeconfig: Path::new("/k/config"),
            artifacts: &folder.join("artifacts"),
            addresses: &BTreeMap::from([("data-storage".to_owned(), address)]),
            images: &BTreeMap::from([("web".to_owned(), "localhost/web:1".to_owned())]),
            namespaces: &BTreeMap::from([("web".to_owned(), "web-1".to_owned())]),
            labels: &[("a", "b".to_owned()), ("c", "d".to_owned())],
        };
        let log = &folder.join("test.log");
        let given = Given { test: &test, environment, shard, args: &args, log };
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
                      $DATA_STORAGE_PORT $WEB_IMAGE $WEB_NAMESPACE \
                      $XTASK_LABELS \"$@\"; test -d \"$XTASK_ARTIFACTS\"";
        let (outcome, events) = run_script(script, &["--filter", "a b"]);
        assert!(outcome.ok());
        assert_eq!(
            lines(&events),
            ["/k/config gateway http://127.0.0.1:30040 127.0.0.1 30040 localhost/web:1 web-1 \
                 a=b,c=d --filter a b"]
        );
    }

    #[test]
    fn a_shard_is_named_by_arguments_and_by_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo $XTASK_SHARD_INDEX $XTASK_SHARD_TOTAL \"$@\"";
        let shard = Shard { index: 2, total: 3 };
        let (_, events) = run_in(folder.path(), script, &["-q"], Some(shard));
        assert_eq!(lines(&events), ["2 3 count:2/3 -q"]);
    }

    #[test]
    fn the_report_is_kept_and_its_counts_are_the_runs() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo '<testsuite tests=\"3\" failures=\"1\"/>' > report.xml; \
                      echo 'test result: ok. 9 passed'; exit 1";
        let (outcome, _) = run_in(folder.path(), script, &[], None);
        assert_eq!(outcome.counts, Counts { passed: 2, failed: 1 });
        assert!(folder.path().join("artifacts/junit.xml").exists());
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
