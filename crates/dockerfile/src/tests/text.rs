//! What of the text is in the key.

use super::*;

const TEXT: &str = "# syntax=docker/dockerfile:1
ARG version=1
ARG other=2
FROM base:$version AS build
RUN a \\
  # inside
  b
FROM unused AS lint
RUN lint
FROM scratch
COPY --from=build /a /a
COPY <<EOF /b
body
EOF
";

fn text_of(text: &str) -> Vec<u8> {
    case().read(text).text
}

#[test]
fn what_the_target_does_not_use_does_not_count() {
    let edits = [
        ("an unreached stage", "RUN lint", "RUN lint --more"),
        ("an unreached stage's base", "FROM unused", "FROM another"),
        ("an unused global", "ARG other=2", "ARG other=3"),
        ("a comment", "# inside", "# outside"),
        ("a comment gone", "  # inside\n", ""),
        ("a comment more", "RUN a", "# new\nRUN a"),
        ("blank lines", "FROM scratch", "\n\nFROM scratch"),
        ("a keyword's case", "COPY --from", "copy --from"),
        ("indentation", "COPY <<", "   COPY   <<"),
        ("a stage more", "FROM unused", "FROM z AS z\nRUN z\nFROM unused"),
        ("a stage less", "FROM unused AS lint\nRUN lint\n", ""),
        ("a check directive", "ARG version", "# check=skip=all\nARG version"),
    ];
    for (name, from, to) in edits {
        let edited = TEXT.replace(from, to);
        assert_ne!(edited, TEXT, "{name}");
        assert_eq!(text_of(&edited), text_of(TEXT), "{name}");
    }
}

#[test]
fn what_the_target_uses_counts() {
    let edits = [
        ("a reached stage", "  b\n", "  c\n"),
        ("its base", "FROM base", "FROM case"),
        ("the frontend", "dockerfile:1", "dockerfile:1.7"),
        ("no frontend", "# syntax=docker/dockerfile:1\n", ""),
        ("a used global", "version=1", "version=2"),
        ("a heredoc's body", "body", "bodies"),
        ("a heredoc's quotes", "<<EOF", "<<'EOF'"),
        ("a flag", "COPY --from=build", "COPY --chmod=1 --from=build"),
        ("an instruction more", "FROM unused", "RUN c\nFROM unused"),
    ];
    for (name, from, to) in edits {
        let edited = TEXT.replace(from, to);
        assert_ne!(edited, TEXT, "{name}");
        assert_ne!(text_of(&edited), text_of(TEXT), "{name}");
    }
    let escaped = text_of("# escape=`\nFROM a\nRUN b");
    assert_ne!(escaped, text_of("FROM a\nRUN b"), "the escape character");
}

#[test]
fn a_global_counts_through_another() {
    let text = "ARG a=1\nARG b=$a\nFROM x:$b";
    assert_ne!(text_of(text), text_of(&text.replace("a=1", "a=2")));
    let stage = "ARG a=1\nFROM x\nARG a";
    assert_ne!(text_of(stage), text_of(&stage.replace("a=1", "a=2")));
}

#[test]
fn a_number_that_comes_to_mean_another_stage_counts() {
    let text = "FROM a AS x\nFROM b AS y\nFROM c\nCOPY --from=x /a /\nCOPY --from=y /a /\n\
                COPY --from=1 /a /";
    let shifted = format!("FROM unused AS z\n{text}");
    assert_ne!(text_of(&shifted), text_of(text));
}

#[test]
fn two_texts_cannot_run_together() {
    assert_ne!(text_of("FROM a\nRUN b\nRUN c"), text_of("FROM a\nRUN b RUN c"));
    let heredoc = "FROM a\nRUN <<A\nb\nA\nRUN c";
    assert_ne!(text_of(heredoc), text_of("FROM a\nRUN <<A\nb\nRUN c\nA"));
}

#[test]
fn bytes_that_are_no_text_count_where_comments_do_not() {
    let of = |text: &[u8]| case().bytes(text).unwrap();
    assert_eq!(of(b"FROM a\n# M\xfcller\nCOPY b /").text, of(b"FROM a\nCOPY b /").text);
    assert_ne!(of(b"FROM a\nLABEL a=\xfc").text, of(b"FROM a\nLABEL a=\xfd").text);
    assert!(of(b"FROM a\n# \xfc\nCOPY b /").whole_context().is_none());
}

#[test]
fn a_text_that_cannot_be_relied_on_counts_whole() {
    let text = "FROM a\nLABEL a=\u{10ff01}\n";
    assert_eq!(text_of(text), text.as_bytes());
    let foreign = "# syntax=x/y\nFROM a\n# comment";
    assert!(text_of(foreign).ends_with(foreign.as_bytes()));
}
