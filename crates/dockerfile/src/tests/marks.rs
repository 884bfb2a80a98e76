//! Where marks stand, and what they tell apart.

use super::*;

/// Line of each mark, `K` behind it if the key counts, `@base` if a base does; or the reason why
/// there are none.
fn marks(case: &Case, text: &str) -> Vec<String> {
    match case.read(text).layer_cache {
        LayerCache::Unusable { line, .. } => vec![format!("none:{line}")],
        LayerCache::Marked(marks) => marks.iter().map(show).collect(),
    }
}

fn show(mark: &Mark) -> String {
    let base = mark.base.as_ref().map(|base| format!("@{base}")).unwrap_or_default();
    format!("{}{}{base}", mark.line, if mark.keyed { "K" } else { "" })
}

#[test]
fn marks_stand_where_entries_leave_something_out() {
    let rows: [(&str, &str, &[&str]); 15] = [
        ("nothing varies", "FROM scratch\nCOPY a /\nENV A=b", &[]),
        ("a base", "FROM a\nCOPY a /", &["2@a"]),
        ("a base alone", "FROM a", &["2@a"]),
        ("behind ARGs, once", "FROM a\nARG V\nARG W=1\nCOPY f /$V\nENV X=$W", &["4@a"]),
        ("steps before keep theirs", "FROM a\nRUN x\nARG V\nENV X=$V", &["2@a", "4"]),
        ("stage on stage", "FROM scratch AS b\nARG V\nENV X=$V\nFROM b\nENV Y=$X", &["3"]),
        ("an ARG at the end", "FROM scratch AS b\nARG V\n\nFROM b\nCOPY a /", &["4"]),
        ("a mount of the context", "FROM a\nRUN x\nRUN --mount=target=/s x", &["2@a", "3K"]),
        ("a cache", "FROM scratch\nRUN --mount=type=cache,target=/c x", &[]),
        (
            "a cache from elsewhere",
            "FROM scratch\nRUN --mount=type=cache,from=i,target=/c x",
            &["2K"],
        ),
        ("a quoted type", "FROM scratch\nRUN --mount=\"type=cache\",x=y x", &[]),
        (
            "a stage that is shown",
            "FROM scratch AS b\nCOPY a /\nFROM scratch\nRUN --mount=from=b,target=/b x",
            &["3", "4K"],
        ),
        ("flags", "FROM scratch\nADD --chown=1 a /\nCOPY --chown=1 b /", &["2"]),
        ("a heredoc", "FROM scratch\nRUN <<E\nx\nE\nCOPY <<E /\nx\nE", &["2"]),
        ("triggers", "FROM scratch AS b\nONBUILD RUN x\nFROM b\nCOPY a /", &["none:3"]),
    ];
    for (rule, text, expected) in rows {
        assert_eq!(marks(&case(), text), expected, "{rule}:\n{text}");
    }
    let early = "FROM scratch AS b\nCOPY a /\nFROM b\nCOPY c /";
    assert_eq!(marks(&case().target("b"), early), ["3K"]);
}

#[test]
fn a_text_that_podman_may_split_otherwise_gets_none() {
    for text in ["FROM a\nRUN x \\\\\nRUN y", "# escape=`\nFROM a\nRUN x"] {
        assert!(marks(&case(), text)[0].starts_with("none:"), "{text}");
    }
}

/// The records of the one mark.
fn records(case: &Case, text: &str) -> Vec<Vec<String>> {
    match case.read(text).layer_cache {
        LayerCache::Marked(marks) if marks.len() == 1 => marks[0].records.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mark_is_of_all_that_decides_a_value() {
    let text = "ARG G=$H\nARG H=0\nARG N=1\nFROM scratch\nARG V=$D\nARG G\nARG N\nENV X=$V";
    let none = records(&case(), text);
    let mut all = vec![none.clone()];
    for (from, to) in [("V=$D", "V=2"), ("G=$H", "G=1"), ("N=1", "N=2"), ("ARG V=$D", "ARG V")] {
        all.push(records(&case(), &text.replace(from, to)));
    }
    for name in ["V", "G", "N"] {
        all.push(records(&case().arg(name, "given"), text));
        all.push(records(&case().arg(name, ""), text));
    }
    let count = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), count);
    assert_eq!(records(&case().arg("other", "1"), text), none);
    let more = text.replace("ENV X=$V", "ENV X=$V\nENV Y=$X");
    assert_eq!(records(&case(), &more), none);
}
