//! The steps from text to sources, and the traps on the way.

use super::*;

#[test]
fn what_reads_the_context_and_what_does_not() {
    table(
        &case(),
        &[
            ("copy", "FROM scratch\nCOPY a b/ /x", &["a", "b"]),
            ("add", "FROM scratch\nADD a /x", &["a"]),
            ("nothing", "FROM scratch\nRUN cp /a /b\nCMD a\nLABEL a=b", &[]),
            ("copy text inside run", "FROM scratch\nRUN COPY a b", &[]),
            ("another stage", "FROM scratch AS a\nFROM scratch\nCOPY --from=a /a /b", &[]),
            ("an image", "FROM scratch\nCOPY --from=alpine /a /b", &[]),
            ("heredocs", "FROM scratch\nCOPY <<a b <<c /x/\nCOPY d e\na\nADD f g\nc\n", &["b"]),
            ("a run heredoc", "FROM scratch\nRUN <<EOF\nCOPY a b\nEOF", &[]),
            (
                "mounts that are no bind",
                "FROM scratch\n\
          RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/t \
          --mount=type=secret,id=s --mount=type=ssh x",
                &[],
            ),
        ],
    );
}

#[test]
fn trap_8_bind_mounts_read_the_context() {
    table(
        &case(),
        &[
            ("no source is all", "FROM scratch\nRUN --mount=target=/src x", &["bind:"]),
            ("bind is the default", "FROM scratch\nRUN --mount=source=a,target=/a x", &["bind:a"]),
            ("src", "FROM scratch\nRUN --mount=type=bind,src=./a/../b,dst=/a x", &["bind:b"]),
            ("any case", "FROM scratch\nRUN --mount=Type=BIND,Source=a,target=/a x", &["bind:a"]),
            (
                "two",
                "FROM scratch\nRUN --mount=src=a,dst=/a --mount=src=b,dst=/b x",
                &["bind:a", "bind:b"],
            ),
            ("expanded", "FROM scratch\nARG D=a\nRUN --mount=src=$D,dst=/a x", &["bind:a"]),
            ("an expanded type", "FROM scratch\nARG T=cache\nRUN --mount=type=$T,dst=/a x", &[]),
            ("no wildcards", "FROM scratch\nRUN --mount=src=a*,dst=/a x", &["bind:a*"]),
            ("from a stage", "FROM scratch AS a\nFROM scratch\nRUN --mount=from=a,dst=/a x", &[]),
            ("behind an argument", "FROM scratch\nRUN x --mount=target=/src", &[]),
            ("podman's switches", "FROM scratch\nRUN --mount=src=a,dst=/a,z,rw x", &["bind:a"]),
            ("no plain list", "FROM scratch\nRUN --mount=src=a,\\\"x=y\\\",dst=/a x", &["WHOLE:2"]),
            ("an unknown type", "FROM scratch\nRUN --mount=type=devpts,dst=/a x", &["WHOLE:2"]),
        ],
    );
}

#[test]
fn trap_9_an_empty_word_is_the_root() {
    table(
        &case(),
        &[
            ("unset", "FROM scratch\nARG D\nCOPY $D /x", &[""]),
            ("quotes", "FROM scratch\nCOPY \"\" /x", &[""]),
            ("json", "FROM scratch\nCOPY [\"\", \"/x\"]", &[""]),
            ("a dot", "FROM scratch\nCOPY . /x", &[""]),
            ("slash", "FROM scratch\nCOPY / /x", &[""]),
            ("dots stop at the root", "FROM scratch\nCOPY ../../a ../b/../.. /x", &["a", ""]),
        ],
    );
    let reading = case().read("FROM scratch\nCOPY a /a\nCOPY . /x");
    assert_eq!(reading.whole_context().unwrap().1, 3);
    assert_eq!(case().read("FROM scratch\nCOPY --exclude=a . /x").whole_context(), None);
}

#[test]
fn trap_9_what_only_an_unknown_base_could_set_widens() {
    table(
        &case(),
        &[
            ("unset", "FROM base\nCOPY $D /x", &["WHOLE:2"]),
            ("declared, not set", "FROM base\nARG D\nCOPY $D /x", &["WHOLE:3"]),
            ("with a default", "FROM base\nCOPY ${D:-a} /x", &["WHOLE:2"]),
            ("in a mount", "FROM base\nRUN --mount=src=$D,dst=/x x", &["WHOLE:2"]),
            ("through ENV", "FROM base\nENV A=$D/x\nCOPY $A /x", &["WHOLE:3"]),
            ("through a stage", "FROM base AS a\nFROM a\nCOPY $D /x", &["WHOLE:3"]),
            ("set here", "FROM base\nENV D=a\nCOPY $D /x", &["a"]),
            ("set after all", "FROM base\nENV D=$D\nENV D=a\nCOPY $D b /x", &["a", "b"]),
            ("not in sources", "FROM base\nENV P=$P:/a\nCOPY a $P/", &["a"]),
            ("PATH", "FROM scratch\nCOPY $PATH /x", &["WHOLE:2"]),
        ],
    );
    let known = case().base("base", &[("D", "dir")], &[]);
    table(
        &known,
        &[
            ("a known base", "FROM base\nCOPY $D $E/x /x", &["dir", "x"]),
            ("with a default", "FROM base\nCOPY ${D:-a} ${E:-b} /x", &["dir", "b"]),
            ("through a stage", "FROM base AS a\nFROM a\nCOPY $D /x", &["dir"]),
        ],
    );
    let Sources::Whole { reason, .. } = case().read("FROM base\nCOPY $D /x").sources else {
        panic!("not widened");
    };
    assert_eq!(reason, "`$D` may be set by `base`, whose ENV is not known");
}

#[test]
fn step_5_variables_along_a_stage() {
    table(
        &case(),
        &[
            (
                "env of a line uses values before it",
                "FROM scratch\nENV a=1\nENV a=2 b=$a\n\
          COPY $b /x",
                &["1"],
            ),
            ("arg words see each other", "FROM scratch\nARG a=1 b=$a\nCOPY $b /x", &["1"]),
            ("env after arg", "FROM scratch\nARG a=1\nENV a=2\nCOPY $a /x", &["2"]),
            ("arg after env", "FROM scratch\nENV a=2\nARG a=1\nCOPY $a /x", &["1"]),
            ("an arg without value keeps env", "FROM scratch\nENV a=2\nARG a\nCOPY $a /x", &["2"]),
            ("globals need an ARG", "ARG a=1\nFROM scratch\nCOPY $a/x /x", &["x"]),
            ("globals with an ARG", "ARG a=1\nFROM scratch\nARG a\nCOPY $a/x /x", &["1/x"]),
            ("a default before the global", "ARG a=1\nFROM scratch\nARG a=2\nCOPY $a /x", &["2"]),
            ("before the line", "FROM scratch\nCOPY ${a:-0} /x\nARG a=1\nCOPY $a /x", &["0", "1"]),
            (
                "a child inherits both",
                "FROM scratch AS p\nARG a=1\nENV b=2\nFROM p\nCOPY $a $b /x",
                &["1", "2"],
            ),
            (
                "a sibling does not",
                "FROM scratch AS p\nARG a=1\nFROM scratch\nCOPY x/$a /x",
                &["x"],
            ),
            ("the old form of ENV", "FROM scratch\nENV a  b c\nCOPY $a /x", &["b c"]),
            ("env names expand", "FROM scratch\nENV n=a\nENV $n=1\nCOPY $a /x", &["1"]),
        ],
    );
    let given = case().arg("a", "given");
    table(
        &given,
        &[
            ("a build arg", "FROM scratch\nARG a=1\nCOPY $a /x", &["given"]),
            ("over a global", "ARG a=1\nFROM scratch\nARG a\nCOPY $a /x", &["given"]),
            ("not declared", "FROM scratch\nCOPY x/$a /x", &["x"]),
            ("env after it", "FROM scratch\nARG a\nENV a=2\nCOPY $a /x", &["2"]),
        ],
    );
    let warned = case().read("FROM scratch\nENV a=2\nARG a=1\nCOPY $a /x").warnings;
    assert_eq!(warned.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3]);
}

#[test]
fn step_6_words_are_not_split_after_expansion() {
    table(
        &case(),
        &[
            ("one word", "FROM scratch\nENV a=\"b c\"\nCOPY $a /x", &["b c"]),
            ("json expands", "FROM scratch\nENV a=b\nCOPY [\"$a c\", \"/x\"]", &["b c"]),
            ("a backslash escapes", "FROM scratch\nCOPY a\\$b /x", &["a$b"]),
            ("unless it is plain", "# escape=`\nFROM scratch\nCOPY a\\b /x", &["a\\b"]),
            ("exclude is not expanded", "FROM scratch\nENV a=b\nCOPY --exclude=$a c /x", &["c"]),
            ("control characters", "FROM scratch\nCOPY [\"a\\u0000\", \"/x\"]", &["WHOLE:2"]),
            ("flags that are not ASCII", "FROM scratch\nCOPY --exclude=ü a /x", &["WHOLE:2"]),
        ],
    );
    let reading = case().read("FROM scratch\nENV a=b\nCOPY --exclude=$a c /x");
    let Sources::Paths(sources) = reading.sources else { panic!("widened") };
    let exclude = vec!["$a".to_owned()];
    assert_eq!(sources[0].kind, SourceKind::Copy { exclude, parents: None });
    assert_eq!(case().faults("FROM scratch\nCOPY ${a /x"), [2]);
    assert_eq!(case().faults("FROM scratch\nCOPY ${a:?no} /x"), [2]);
}

#[test]
fn step_7_parents_split_at_the_pivot() {
    table(
        &case(),
        &[
            ("none", "FROM scratch\nCOPY --parents a/*/b /x", &["/./a/*/b"]),
            ("pivot", "FROM scratch\nCOPY --parents a/./b/c /x", &["a/./b/c"]),
            ("switched off", "FROM scratch\nCOPY --parents=false a/./b /x", &["a/b"]),
        ],
    );
}

#[test]
fn what_is_fetched_without_a_checksum_is_told() {
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let text = format!(
        "FROM scratch\nARG V=1\nADD https://a/$V /x\nADD --checksum=sha256:1 https://a/c /x\n\
         ADD https://a/b.git#{commit}:sub /x\nADD https://a/b.git#v1 /x\nADD f /x"
    );
    let fetched = case().read(&text).fetched;
    assert_eq!(fetched, [(3, "https://a/1".to_owned()), (6, "https://a/b.git#v1".to_owned())]);
}

#[test]
fn a_base_whose_variable_has_no_value_is_refused() {
    for from in ["x:$V", "x:${V}", "x@$V", "$V/x", "x:$V@sha256:1", "$V"] {
        assert_eq!(case().faults(&format!("ARG V\nFROM {from}\nRUN x")), [2], "{from}");
    }
}

#[test]
fn urls_are_no_sources() {
    table(
        &case(),
        &[
            ("http", "FROM scratch\nADD https://a/b http://a/b.tgz /x", &[]),
            ("git", "FROM scratch\nADD https://a/b.git#v1:sub git@a.b:c/d.git git://a/b /x", &[]),
            ("ssh", "FROM scratch\nADD ssh://git@a/b /x", &[]),
            (
                "no scheme is a path",
                "FROM scratch\nADD github.com/a/b.git /x",
                &["github.com/a/b.git"],
            ),
            ("no known scheme", "FROM scratch\nADD ftp://a/b /x", &["ftp:/a/b"]),
            ("an at sign", "FROM scratch\nADD a@b c@d.tar /x", &["a@b", "c@d.tar"]),
            ("a variable", "FROM scratch\nARG U=https://a/b\nADD $U /x", &[]),
        ],
    );
    assert_eq!(case().faults("FROM scratch\nCOPY https://a/b /x"), [2]);
}

#[test]
fn step_3_bases_are_expanded_with_global_args() {
    let names = |case: &Case, text: &str| -> Vec<String> {
        case.read(text).bases.into_iter().map(|base| base.name).collect()
    };
    assert_eq!(names(&case(), "ARG v=1\nFROM a:$v"), ["a:1"]);
    assert_eq!(names(&case().arg("v", "2"), "ARG v=1\nFROM a:$v"), ["a:2"]);
    assert_eq!(names(&case().arg("v", "2"), "FROM a:${v:-3}"), ["a:3"], "not declared");
    assert_eq!(names(&case(), "FROM a AS b\nARG v=1\nFROM c:1$v"), ["c:1"], "not a stage's");
    assert_eq!(names(&case(), "FROM scratch\nFROM SCRATCH"), ["SCRATCH"]);
    assert_eq!(names(&case(), "FROM a AS B\nFROM b"), ["a"], "names are kept in lower case");
    assert_eq!(names(&case(), "FROM a AS b\nFROM B"), ["B"], "FROM is exact");
    assert_eq!(names(&case(), "FROM a AS b\nFROM c AS b\nFROM b"), ["c"], "the latest wins");
    assert_eq!(names(&case(), "FROM a AS a\nFROM a"), ["a"]);
    assert_eq!(names(&case(), "FROM x-$TARGETARCH"), ["x-amd64"], "needs no declaration");
    let arm = case().platform(platform("arm", "v7"));
    let text = "FROM --platform=$BUILDPLATFORM a AS b\nFROM c\nCOPY --from=b /a /b\n\
                ARG TARGETPLATFORM TARGETVARIANT\nCOPY bin/$TARGETPLATFORM/$TARGETVARIANT /x";
    let reading = arm.read(text);
    assert_eq!(show(&reading.sources), ["bin/linux/arm/v7/v7"]);
    assert_eq!(reading.bases[0].platform.as_deref(), Some("linux/amd64"));
    assert_eq!(case().faults("FROM $nothing"), [1]);
}

#[test]
fn step_4_only_what_the_target_needs_counts() {
    let text = "FROM x AS a\nCOPY a /\nFROM x AS b\nCOPY b /\nFROM x AS c\nCOPY c /\n\
                FROM a AS d\nCOPY --from=b /b /\nRUN --mount=from=C,dst=/c x\nCOPY d /\nFROM y AS e";
    assert_eq!(case().target("d").sources(text), ["a", "b", "c", "d"]);
    assert_eq!(case().target("D").sources(text), ["a", "b", "c", "d"], "in any case");
    assert_eq!(case().target("b").sources(text), ["b"]);
    assert_eq!(case().target("b").read(text).stages, ["b"]);
    assert_eq!(case().sources(text), [""; 0], "the last stage");
    assert_eq!(case().target("2").sources(text), ["c"], "podman takes a number");
    assert_eq!(case().target("2").read(text).warnings.len(), 1);
    assert!(case().target("f").bytes(text.as_bytes()).is_err());
    let number = "FROM x\nCOPY a /\nFROM x\nCOPY b /\nFROM x\nCOPY --from=1 /b /";
    assert_eq!(case().sources(number), ["b"]);
    assert_eq!(case().read(number).stages, ["1", "2"]);
}

#[test]
fn links_to_stages_that_cannot_be_are_refused() {
    assert_eq!(case().faults("FROM x\nCOPY --from=1 /a /"), [2]);
    assert_eq!(case().faults("FROM x AS a\nCOPY --from=a /a /"), [2], "itself");
    assert_eq!(case().target("a").faults("FROM x AS a\nCOPY --from=b /a /\nFROM x AS b"), [2]);
    assert_eq!(case().faults("ARG v=a\nFROM x\nCOPY --from=$v /a /"), [3], "no variables");
    assert_eq!(case().faults("COPY a b\nFROM x"), [1]);
    assert_eq!(case().faults("ARG a"), [1], "no stage");
}

#[test]
fn onbuild_counts_one_stage_up() {
    let text = "FROM scratch AS p\nONBUILD COPY a /\nFROM p AS c\nCOPY b /\nFROM c\nCOPY d /";
    assert_eq!(case().target("p").sources(text), [""; 0], "not in the stage itself");
    assert_eq!(case().target("c").sources(text), ["a", "b"], "before its own");
    assert_eq!(case().sources(text), ["a", "b", "d"], "once, in c");
    let stage = "FROM scratch AS s\nCOPY s /\nFROM scratch AS p\nONBUILD COPY --from=s / /\nFROM p";
    assert_eq!(case().sources(stage), ["s"], "adds a stage");
    let heredoc = "FROM scratch AS p\nONBUILD COPY <<E a /\nCOPY b /\nE\nFROM p";
    assert_eq!(case().sources(heredoc), ["a"]);
    let known = case().base("i", &[("D", "dir")], &["COPY $D /x", "RUN --mount=target=/s x"]);
    assert_eq!(known.sources("FROM i"), ["dir", "bind:"]);
    assert_eq!(known.sources("FROM i AS p\nFROM p"), ["dir", "bind:"], "not twice");
    let broken = case().base("i", &[], &["NOPE a"]);
    assert_eq!(broken.faults("FROM scratch\nFROM i"), [2]);
}

#[test]
fn trap_12_lines_are_not_instructions() {
    table(
        &case(),
        &[
            ("a comment inside", "FROM scratch\nCOPY a \\\n# COPY b /\n  c /x", &["a", "c"]),
            ("a doubled backslash", "FROM scratch\nRUN a\\\\\nCOPY b /x", &["b"]),
            ("any case", "from scratch\ncopy a /x", &["a"]),
            ("flags after arguments", "FROM scratch\nCOPY a --parents /x", &["a", "--parents"]),
            ("a double star", "FROM scratch\nCOPY **/*.md /x", &["**/*.md"]),
            ("duplicate names", "FROM scratch AS a\nCOPY b /\nFROM scratch AS a\nCOPY c /", &["c"]),
            ("a numbered heredoc", "FROM scratch\nRUN 3<<E\nCOPY a b\nE\nCOPY c /", &["c"]),
        ],
    );
}

#[test]
fn frontends() {
    table(
        &case(),
        &[
            ("docker's", "# syntax=docker/dockerfile:1.7-labs\nFROM scratch\nCOPY a /", &["a"]),
            (
                "with its host",
                "#syntax=docker.io/docker/dockerfile-upstream@sha256:1\nFROM scratch",
                &[],
            ),
            ("another", "# syntax=other/frontend\nFROM scratch\nCOPY a /", &["WHOLE:1"]),
            ("not docker's", "# syntax=docker/dockerfiles\nFROM scratch", &["WHOLE:1"]),
            ("not to be parsed", "# syntax=other/frontend\nWHATEVER", &["WHOLE:1"]),
            ("a build arg", "# syntax=docker/dockerfile:1\nFROM scratch", &[]),
        ],
    );
    let bases = case().read("# syntax=docker/dockerfile:1\nFROM a").bases;
    assert_eq!(
        bases.iter().map(|base| base.role).collect::<Vec<_>>(),
        [Role::Frontend, Role::From]
    );
    let given = case().arg("BUILDKIT_SYNTAX", "mine");
    assert_eq!(given.sources("FROM scratch\nCOPY a /"), ["WHOLE:1"]);
}

#[test]
fn what_cannot_be_relied_on_widens() {
    let scan = case().arg("BUILDKIT_SBOM_SCAN_CONTEXT", "true");
    assert_eq!(scan.sources("FROM scratch\nCOPY a /"), ["WHOLE:1"]);
    let declared = "FROM scratch\nARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nCOPY a /";
    assert_eq!(case().sources(declared), ["WHOLE:1"]);
    let reading = case().bytes(b"FROM scratch\nCOPY caf\xe9 /").unwrap();
    assert_eq!(show(&reading.sources), ["WHOLE:2"]);
    let mut windows = platform("amd64", "");
    windows.os = "windows".to_owned();
    assert_eq!(case().platform(windows).sources("FROM scratch\nCOPY a\\b /"), ["WHOLE:2"]);
}

#[test]
fn args_are_those_declared() {
    let text = "ARG v=1\nARG unused=2\nFROM a:$v\nARG own=$v-3\nARG empty\nARG HTTP_PROXY\n\
                ARG TARGETOS\nARG v";
    let case = case().arg("HTTP_PROXY", "p").arg("not-declared", "x").arg("SOURCE_DATE_EPOCH", "0");
    let case = case.base("a:1", &[], &[]);
    let args = case.read(text).args;
    let shown: Vec<String> = args.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(shown, ["HTTP_PROXY=p", "SOURCE_DATE_EPOCH=0", "TARGETOS=linux", "own=-3", "v=1"]);
}

#[test]
fn secrets_are_named_by_id() {
    let text = "FROM a\nRUN --mount=type=secret,id=one --mount=type=secret,target=/run/two \
                --mount=type=ssh --mount=type=ssh,id=three --mount=type=secret,id=one x";
    let reading = case().read(text);
    assert_eq!(reading.secrets, ["one", "two"]);
    assert_eq!(reading.ssh, ["default", "three"]);
}

#[test]
fn bases_come_in_order_each_once_with_a_line() {
    let text = "FROM a AS x\nFROM b\nCOPY --from=c /a /b\nCOPY --from=c /c /d\n\
                RUN --mount=from=d,dst=/d x\nCOPY --from=x /a /b";
    let bases = case().read(text).bases;
    let shown: Vec<_> = bases.iter().map(|base| (base.line, base.name.as_str())).collect();
    assert_eq!(shown, [(1, "a"), (2, "b"), (3, "c"), (5, "d")]);
}

#[test]
fn what_an_engine_would_take_for_an_option_is_no_reference() {
    for text in [
        "FROM --format=x\n",
        "ARG B=--format={{.Id}}\nFROM ${B}\n",
        "ARG B=-a\nFROM ${B}\n",
        "FROM scratch\nCOPY --from=-x /a /b\n",
        "FROM scratch\nRUN --mount=type=bind,from=--all x\n",
        "FROM scratch\nARG B=\"a b\"\nFROM a\nCOPY --from=--x /a /b\n",
        "ARG B=\"a b\"\nFROM $B\n",
        "# syntax=--debug\nFROM scratch\n",
    ] {
        assert!(case().bytes(text.as_bytes()).is_err(), "{text}");
    }
}

/// A few lines that each make twice as much of a value as the one before.
fn doubling(form: &str, lines: usize) -> String {
    let mut text = String::new();
    for line in 1..=lines {
        let form = form.replace("NEW", &format!("A{line}"));
        text.push_str(&form.replace("OLD", &format!("A{}", line - 1)));
    }
    text
}

#[test]
fn values_that_double_are_not_followed_for_ever() {
    let forms = [
        "ARG NEW=${OLD}${OLD}\n",
        "ENV NEW=$OLD$OLD\n",
        "ENV NEW ${OLD:-x}${OLD:+$OLD}\n",
        "ARG NEW=\"$OLD,${X:-$OLD}\"\n",
        "ENV NEW=${A0//x/$OLD}$OLD\n",
    ];
    for form in forms {
        let lines = doubling(form, 60);
        let text = format!("FROM base\nENV A0=xxxxxxxxxxxxxxxx\n{lines}COPY a$A60 b /x\n");
        let Sources::Whole { reason, line } = case().base("base", &[], &[]).read(&text).sources
        else {
            panic!("not widened: {form}");
        };
        let last = text.lines().count();
        assert!(reason.contains("more than is expanded") && line == last, "{reason} {line}");
        // What nothing uses widens nothing.
        assert_eq!(case().base("base", &[], &[]).sources(&text.replace("a$A60", "a")), ["a", "b"]);
    }
    // Before the first FROM, in a stage of its own, and where each use is short.
    let globals = doubling(forms[0], 60).replace("${A0}", "x");
    let text = format!("{globals}FROM scratch\nARG A60\nCOPY a$A60 /x\n");
    assert_eq!(case().sources(&text), [format!("WHOLE:{}", text.lines().count())]);
    let uses = "COPY f$A16 /x\n".repeat(300);
    let lines = doubling(forms[1], 16);
    let text = format!("FROM scratch\nENV A0=xxxxxxxxxxxxxxxx\n{lines}{uses}");
    assert!(case().sources(&text)[0].starts_with("WHOLE:"));
}
