//! Stage 8: the suite, any command at all.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `environment` | what a command is told of the run |
//! | `hook` | a step that is a command |
//! | `counts` | how many tests there were, off the output of the test runners |
//! | `junit` | the report a runner leaves |
//! | `verdict` | whether a command that ended well has passed |
//!
//! Its output goes live to the events and whole to a log. It has passed if its exit code says so
//! and tests are known to have run, of which none failed.

mod counts;
mod environment;
mod hook;
mod junit;
mod verdict;

use std::path::Path;
use std::time::Instant;

use crate::config::Test;
use crate::event::{Event, Events, seconds};
use crate::process::{Ending, Failure, Tool};

pub use counts::{Counts, Read, Reader};
pub use environment::Environment;
pub use hook::hook;

use verdict::Known;

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
#[derive(Debug)]
pub struct Outcome {
    pub counts: Counts,
    /// How it ended, unless well.
    pub failure: Option<Failure>,
    /// Why it has not passed all the same.
    pub fault: Option<anyhow::Error>,
}

impl Outcome {
    pub fn ok(&self) -> bool {
        self.failure.is_none() && self.fault.is_none()
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
    let report = given.test.junit.as_deref();
    let artifacts = given.environment.artifacts;
    if let Some(report) = report {
        junit::set_aside(report, &artifacts.join("earlier"))?;
    }
    let begun = Instant::now();
    let mut reader = counts::Reader::default();
    let result = tool.stream(|_, line| {
        let line = String::from_utf8_lossy(line);
        reader.read(&line);
        events.emit(Event::TestLine { line: line.into_owned() });
    });
    let seconds = seconds(begun.elapsed());
    let (ended, failure) = match result {
        Ok(output) => (Some(output), None),
        Err(failure) => (None, Some(failure)),
    };
    let (left, held) = ended.map(|output| (output.left, output.held)).unwrap_or_default();
    let kept = report.map(|report| junit::keep(report, artifacts));
    let known = Known {
        read: reader.finish(),
        report: kept,
        shard: given.shard.is_some(),
        uncounted: !given.test.counted,
        left,
        held,
    };
    let counts = known.counts();
    let fault = if failure.is_none() { known.fault() } else { None };
    let outcome = Outcome { counts, failure, fault };
    let (ok, Counts { passed, failed, skipped }) = (outcome.ok(), counts);
    events.emit(Event::TestFinished { suite, ok, passed, failed, skipped, seconds });
    if outcome.ok() {
        say(&known, given, events);
    }
    match outcome.failure {
        Some(failure) if matches!(failure.ending, Ending::NotStarted(_) | Ending::Stopped) => {
            Err(failure.into())
        }
        _ => Ok(outcome),
    }
}

/// What is worth knowing of a suite that passed.
fn say(known: &Known, given: &Given<'_>, events: &Events) {
    if let Some(left) = known.told_left() {
        let hint = "what it goes on doing is not part of the result";
        events.warn(format!("the test command {left}"), Some(hint.to_owned()));
    }
    if let Some(Shard { index, total }) = given.shard.filter(|_| known.is_empty_shard()) {
        events.note(format!("shard {index}/{total} has no test"));
    }
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
    let artifacts = given.environment.artifacts.display();
    let own = std::env::var("GOFLAGS").ok();
    let flags = environment::go_flags(own.as_deref(), environment::go_file().as_deref());
    let tool = given.environment.command(words)?.log(given.log).limit(given.test.timeout);
    let tool = tool.env("GOFLAGS", flags).names_left(format!("XTASK_TEST={artifacts}"));
    let tool = tool.env("XTASK_TEST", artifacts.to_string());
    Ok(match given.shard {
        Some(shard) => tool
            .env("XTASK_SHARD_INDEX", shard.index.to_string())
            .env("XTASK_SHARD_TOTAL", shard.total.to_string()),
        None => tool,
    })
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::Address;
    use crate::event::{Sink, Stamped};

    struct Seen(Arc<Mutex<Vec<Event>>>);

    impl Sink for Seen {
        fn receive(&self, event: &Stamped) {
            self.0.lock().push(event.event.clone());
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
            junit: fs_err::exists(folder.join("with-report"))
                .unwrap()
                .then(|| folder.join("report.xml")),
            counted: true,
            inputs: None,
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
        let events = events.lock().clone();
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
        assert_eq!(outcome.code(), Some(0));
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
        fs_err::write(folder.path().join("with-report"), "").unwrap();
        fs_err::write(folder.path().join("report.xml"), "<testsuite tests=\"9\"/>").unwrap();
        let script = "echo '<testsuite tests=\"3\" failures=\"1\"/>' > report.xml; \
                      echo 'test result: ok. 9 passed'; exit 1";
        let (outcome, _) = run_in(folder.path(), script, &[], None);
        assert_eq!(outcome.counts, Counts { passed: 2, failed: 1, skipped: 0 });
        assert!(folder.path().join("artifacts/junit.xml").exists());
    }

    #[test]
    fn failed_tests_are_an_outcome_with_the_exit_code_and_the_counts() {
        let script = "echo 'test result: FAILED. 14 passed; 2 failed; 0 ignored'; exit 101";
        let (outcome, events) = run_script(script, &[]);
        assert_eq!((outcome.ok(), outcome.code()), (false, Some(101)));
        assert_eq!(outcome.counts, Counts { passed: 14, failed: 2, skipped: 0 });
        assert!(matches!(
            events.last(),
            Some(Event::TestFinished { ok: false, passed: 14, failed: 2, .. })
        ));
    }

    #[test]
    fn a_command_that_ends_well_has_passed_only_with_tests_that_ran() {
        let passed = "test result: ok. 1 passed; 0 failed; 0 ignored";
        let stays = "exec sleep 600";
        for (script, fault) in [
            (format!("echo '{passed}'"), None),
            ("true".to_owned(), Some("were not counted")),
            ("echo 'test result: ok. 0 passed; 0 failed'".to_owned(), Some("no test ran")),
            ("echo 'test result: FAILED. 1 passed; 2 failed'".to_owned(), Some("2 of its tests")),
            ("printf 'ok  \\tx/a\\t(cached)\\n'".to_owned(), Some("runner's cache")),
            (format!("({stays}) & echo '{passed}'"), Some("which still had its output open")),
            (format!("({stays}) >/dev/null 2>&1 & echo '{passed}'"), None),
        ] {
            let (outcome, events) = run_script(&script, &[]);
            let found = outcome.fault.as_ref().map(ToString::to_string).unwrap_or_default();
            assert!(found.contains(fault.unwrap_or_default()), "{script}: {found}");
            assert_eq!((outcome.ok(), outcome.code()), (fault.is_none(), Some(0)), "{script}");
            let finished = events.iter().find_map(|event| match event {
                Event::TestFinished { ok, .. } => Some(*ok),
                _ => None,
            });
            assert_eq!(finished, Some(fault.is_none()), "{script}");
        }
        let (_, events) = run_script(&format!("({stays}) >/dev/null 2>&1 & echo '{passed}'"), &[]);
        let named = events.iter().any(|event| match event {
            Event::Warning { text, .. } => text.starts_with("the test command left 1 process: "),
            _ => false,
        });
        assert!(named, "{events:?}");
    }

    #[test]
    fn a_report_that_does_not_come_fails_and_a_shard_without_a_test_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let shard = Some(Shard { index: 1, total: 2 });
        let none = "echo 'test result: ok. 0 passed; 0 failed; 0 ignored'";
        let (outcome, events) = run_in(folder.path(), none, &[], shard);
        assert!(outcome.ok(), "{outcome:?}");
        let says = |event: &Event| matches!(event, Event::Note { text } if text == "shard 1/2 has no test");
        assert!(events.iter().any(says), "{events:?}");
        fs_err::write(folder.path().join("with-report"), "").unwrap();
        fs_err::write(folder.path().join("report.xml"), "<testsuite tests=\"9\"/>").unwrap();
        let (outcome, _) = run_in(folder.path(), "echo '9 passed in 0.1s'", &[], None);
        assert!(outcome.fault.unwrap().to_string().contains("left no JUnit report"));
    }

    #[test]
    fn go_test_is_told_not_to_answer_from_its_cache() {
        let (_, events) = run_script("echo \"$GOFLAGS\"", &[]);
        assert!(lines(&events)[0].split(' ').any(|flag| flag.starts_with("-count=")));
    }

    #[test]
    fn a_suite_that_hangs_is_ended() {
        let (outcome, _) = run_script("sleep 600", &[]);
        assert_eq!(outcome.code(), None);
        assert!(matches!(outcome.failure.unwrap().ending, Ending::TimedOut(_)));
    }
}
