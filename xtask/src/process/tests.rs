//! Real children: `sh` and coreutils. (A shell is what is tested here, never what is used.)

use super::*;

fn sh(script: &str) -> Tool {
    Tool::new("sh").arg("-c").arg(script)
}

#[test]
fn output_is_read_and_trimmed() {
    assert_eq!(sh("echo one; echo two >&2; echo three").read().unwrap(), "one\nthree");
}

#[test]
fn input_arrives_and_large_output_does_not_block() {
    let input = vec![b'x'; 3 << 20];
    let output = Tool::new("cat").input(input).run().unwrap();
    assert_eq!(output.stdout.len(), (3 << 20) + 1);
}

#[test]
fn a_failure_names_command_code_tail_and_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("logs/a.log");
    let failure = sh("seq 1 30 >&2; echo last words >&2; exit 3").log(&log).run().unwrap_err();
    assert_eq!(failure.ending, Ending::Code(3));
    assert!(failure.tail.contains(&"last words".to_owned()) && failure.tail.len() == TAIL);
    assert!(fs_err::read_to_string(&log).unwrap().contains("\n1\n"));
    let text = failure.to_string();
    assert!(text.starts_with("failed to run `sh -c 'seq 1 30"), "{text}");
    assert!(text.ends_with(&format!("whole log: {}", log.display())), "{text}");
}

#[test]
fn a_missing_program_is_a_sentence() {
    let failure = Tool::new("no-such-program").run().unwrap_err();
    assert!(failure.to_string().contains("there is no `no-such-program` on PATH"));
}

#[test]
fn secrets_are_not_shown() {
    let tool = Tool::new("login").arg("--password").secret("hunter2").secret_env("TOKEN", "abc");
    assert_eq!(tool.to_string(), "TOKEN=<secret> login --password <secret>");
}

#[test]
fn a_child_must_print_what_it_was_started_for_in_time() {
    let answered = |script: &str| {
        let answer = |line: &str| line.starts_with("answer");
        sh(script).answer(Duration::from_secs(2), answer).limit(Duration::from_mins(1)).run()
    };
    let failure = answered("echo other; exec sleep 600").unwrap_err();
    assert_eq!(failure.ending, Ending::TimedOut(Duration::from_secs(2)));
    answered("echo answer >&2; sleep 3").unwrap();
}

#[test]
fn a_limit_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    let pid = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; echo started; wait", pid.display());
    let failure = sh(&script).limit(Duration::from_secs(3)).run().unwrap_err();
    assert_eq!(failure.ending, Ending::TimedOut(Duration::from_secs(3)));
    let grandchild = fs_err::read_to_string(&pid).unwrap().trim().to_owned();
    // It has been sent KILL; the kernel takes it down in its own time.
    let lives = || {
        let state = fs_err::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
        !state.is_empty() && !state.contains(") Z ")
    };
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while lives() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!lives(), "grandchild {grandchild} lives");
}

#[test]
fn silence_is_a_limit_of_its_own() {
    let tool =
        sh("echo a; sleep 600").silence(Duration::from_millis(200)).limit(Duration::from_mins(1));
    assert_eq!(tool.run().unwrap_err().ending, Ending::Silent(Duration::from_millis(200)));
}

#[test]
fn a_child_deaf_to_term_is_killed() {
    let tool = sh("trap '' TERM; echo ready; while :; do sleep 1; done")
        .limit(Duration::from_millis(200))
        .grace(Duration::from_millis(200));
    assert_eq!(tool.run().unwrap_err().ending, Ending::TimedOut(Duration::from_millis(200)));
}

#[test]
fn a_grandchild_that_keeps_the_pipe_open_does_not_hold_us() {
    let output = sh("setsid sleep 5 & echo done").run().unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(output.took < Duration::from_secs(4));
}

#[test]
fn one_child_is_piped_into_another() {
    let output = sh("seq 1 100000").pipe_into(&sh("wc -l >&2")).unwrap();
    assert_eq!(output.tail, ["100000"]);
    let failure = sh("yes").pipe_into(&sh("head -1; echo no room >&2; exit 9")).unwrap_err();
    assert_eq!(failure.ending, Ending::Code(9));
    let failure = sh("echo half; exit 4").pipe_into(&sh("cat > /dev/null")).unwrap_err();
    assert_eq!(failure.ending, Ending::Code(4));
}

#[test]
fn dropping_a_child_ends_it() {
    let child = Tool::new("sleep").arg("600").start().unwrap();
    let id = child.id();
    drop(child);
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn a_stream_is_read_while_it_comes_and_a_cut_one_is_the_childs_fault() {
    let count = |from: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        Ok(from.read_to_end(&mut bytes)?)
    };
    assert_eq!(sh("printf 'a\\0b'").read_by(count).unwrap(), 3);
    let short = |from: &mut dyn std::io::Read| {
        count(from)?;
        anyhow::bail!("the archive is cut short")
    };
    let error = sh("printf half; exit 3").read_by(short).map(|()| 0).unwrap_err();
    assert_eq!(error.downcast_ref::<Failure>().unwrap().code(), Some(3));
    // A reader that gives up ends a child that would write for ever.
    let full = |_: &mut dyn std::io::Read| -> anyhow::Result<()> { anyhow::bail!("disk full") };
    let error = Tool::new("yes").read_by(full).unwrap_err();
    assert_eq!(error.to_string(), "disk full");
}

#[test]
fn what_is_written_arrives_whole_or_its_child_never_sees_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    let take = sh("cat > \"$0.part\" && mv \"$0.part\" \"$0\"").arg(&file);
    let half = |to: &mut dyn std::io::Write| {
        to.write_all(b"half")?;
        anyhow::bail!("layer is damaged")
    };
    assert_eq!(take.written_by(half).unwrap_err().to_string(), "layer is damaged");
    assert!(!file.exists());
    take.written_by(|to| Ok(to.write_all(b"whole")?)).unwrap();
    assert_eq!(fs_err::read_to_string(&file).unwrap(), "whole");
    let long = |to: &mut dyn std::io::Write| Ok(to.write_all(&vec![0; 1 << 20])?);
    let error = sh("exit 7").written_by(long).unwrap_err();
    assert_eq!(error.downcast_ref::<Failure>().unwrap().code(), Some(7));
}
