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
    assert_eq!(output.stdout.len(), 3 << 20);
}

#[test]
fn a_failure_names_command_code_tail_and_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("logs/a.log");
    let failure = sh("seq 1 30 >&2; echo last words >&2; exit 3").log(&log).run().unwrap_err();
    assert_eq!(failure.ending, Ending::Code(3));
    assert!(failure.tail.contains(&"last words".to_owned()) && failure.tail.len() == lines::TAIL);
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
    let failure = sh("echo gone >&2; exit 5").pipe_into(&sh("cat >/dev/null; exit 6")).unwrap_err();
    assert_eq!(failure.tail, ["gone"], "the reason of the one that failed first");
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

#[test]
fn output_that_is_read_late_is_whole() {
    // Far more than a pipe holds, and an owner who gets to it long after the child has ended.
    let dawdling = |lines: u32| {
        let mut count = 0;
        let tool = sh(&format!("seq 1 {lines}; seq 1 {lines} >&2"));
        let end = tool.stream(|_, _| {
            count += 1;
            if count == 1 {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        (count, end.map(drop))
    };
    assert!(matches!(dawdling(10), (20, Ok(()))));
    assert!(matches!(dawdling(100_000), (200_000, Ok(()))));
}

#[test]
fn a_child_that_ended_while_its_owner_was_busy_has_left_nobody() {
    // Its last line and its end are seen at once.
    let mut child: Option<String> = None;
    let script = sh("echo $$; sleep 0.1; echo last");
    let output = script.stream(|_, line| {
        let id = child.get_or_insert_with(|| String::from_utf8_lossy(line).into_owned());
        let stat = format!("/proc/{}/stat", id.trim());
        while fs_err::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            std::thread::yield_now();
        }
    });
    assert!(!output.unwrap().held);
    // Somebody outside the group has it.
    let mut stays = None;
    let output = sh("setsid sleep 60 & echo $!").stream(|_, line| {
        stays = String::from_utf8_lossy(line).trim().parse().ok();
    });
    assert!(output.unwrap().held);
    let stays = stays.and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(stays, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn output_is_whole_on_a_crowded_machine() {
    std::thread::scope(|scope| {
        for number in 0..60 {
            scope.spawn(move || {
                let text = sh(&format!("seq 1 3000; echo {number}; exec >&-; exit 0")).read();
                let text = text.unwrap();
                let mut lines = text.lines();
                assert_eq!(lines.next_back(), Some(number.to_string().as_str()));
                assert_eq!(lines.count(), 3000);
            });
        }
    });
}

#[test]
fn a_stream_elsewhere_is_whole_though_it_is_read_late() {
    let late = |from: &mut dyn std::io::Read| {
        std::thread::sleep(Duration::from_secs(1));
        let mut text = String::new();
        from.read_to_string(&mut text)?;
        Ok(text)
    };
    assert_eq!(sh("echo a; echo b").read_by(late).unwrap(), "a\nb\n");
    // Somebody outside the group holds it.
    assert_eq!(sh("setsid sleep 60 & echo a").read_by(late).unwrap(), "a\n");
}

#[test]
fn what_the_group_says_after_its_leader_counts() {
    let script = "(sleep 1; echo late) & echo early";
    assert_eq!(sh(script).grace(Duration::from_secs(20)).read().unwrap(), "early\nlate");
}

#[test]
fn who_is_left_of_the_group_is_ended_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let tool = sh("sleep 601 & echo done").grace(Duration::from_millis(300)).log(&log);
    let output = tool.run().unwrap();
    assert_eq!(output.stdout, b"done\n");
    let named = "ended what this command left running: `sleep 601`";
    assert!(output.tail.iter().any(|line| line.contains(named)), "{:?}", output.tail);
    assert!(fs_err::read_to_string(&log).unwrap().contains(named));
}

#[test]
fn one_who_prints_for_ever_reaches_its_limit() {
    let tool = Tool::new("yes").limit(Duration::from_millis(300));
    let ending = tool.stream(|_, _| {}).unwrap_err().ending;
    assert_eq!(ending, Ending::TimedOut(Duration::from_millis(300)));
    let tool = Tool { most: 1 << 20, ..Tool::new("yes") };
    let failure = tool.run().unwrap_err();
    assert_eq!(failure.ending, Ending::TooMuch(1 << 20));
    assert!(failure.to_string().contains("1.0 MiB that are taken into memory"), "{failure}");
    // The same as lines is no trouble.
    let tool = sh("head -c 3000000 /dev/zero");
    let mut longest = 0;
    tool.stream(|_, line| longest = line.len()).unwrap();
    assert!(longest < 66_000, "{longest}");
}

#[test]
fn a_child_that_serves_is_read_and_ends_with_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let said = folder.path().join("said");
    // More than a pipe holds, before the file is there.
    let script = format!("seq 1 100000; touch {}; exec sleep 602", said.display());
    let child = sh(&script).serve().unwrap();
    while !said.exists() {
        std::thread::yield_now();
    }
    let id = child.id();
    drop(child);
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn a_log_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    sh("echo a").log(&log).run().unwrap();
    assert_eq!(fs_err::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn output_that_nobody_holds_is_at_its_end_however_late_its_end_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let go = folder.path().join("go");
    let script = format!("echo a; while ! test -e {}; do sleep 0.01; done; echo b", go.display());
    let mut child = sh(&script).start().unwrap();
    let stat = format!("/proc/{}/stat", child.id());
    let mut seen = Vec::new();
    // The last line and the end of the stream are both there before either is read.
    let ended = child.wait(|_, line| {
        seen.extend_from_slice(line);
        fs_err::write(&go, "").unwrap();
        while !fs_err::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let ended = ended.unwrap();
    assert_eq!((seen.as_slice(), ended.held), (b"ab".as_slice(), false));
}
