//! The text of a Dockerfile as far as a target uses it, for the key.
//!
//! In it: the frontend named, the escape character if it is not the usual one, the global ARGs
//! used, and for each stage reached its FROM, its instructions (continuation lines joined, keywords
//! in capitals) and the bodies of heredocs. Not in it: comments, blank lines, other stages. Where
//! an instruction names a stage by number, the number counts unreached stages; so each name is
//! followed by the place, among the stages reached, of what it stands for. Records are `KIND
//! LENGTH:BYTES` and a newline: two different readings cannot give the same bytes.

use std::collections::BTreeSet;

use super::globals::Globals;
use super::instruction::Instruction;
use super::stages::{Graph, Stage, Target};

/// Writes the records.
pub(super) fn serialise(graph: &Graph, globals: &Globals, used: &BTreeSet<String>) -> Vec<u8> {
    let mut out = Vec::new();
    if graph.escape != '\\' {
        record(&mut out, "escape", &graph.escape.to_string());
    }
    for word in globals.words(used) {
        record(&mut out, "global", &word.name);
        if let Some(default) = &word.default {
            record(&mut out, "default", default);
        }
    }
    for index in &graph.reached {
        stage(&mut out, graph, &graph.stages[*index]);
    }
    out
}

/// A text as the frontend of that name reads it.
pub(super) fn under_frontend(name: &str, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    record(&mut out, "frontend", name);
    out.extend_from_slice(text);
    out
}

fn stage(out: &mut Vec<u8>, graph: &Graph, stage: &Stage) {
    instruction(out, &stage.from);
    place(out, graph, &stage.base);
    for step in &stage.instructions {
        instruction(out, step);
    }
    for link in &stage.links {
        place(out, graph, &link.to);
    }
}

fn instruction(out: &mut Vec<u8>, step: &Instruction) {
    record(out, "do", &step.text);
    for heredoc in &step.heredocs {
        record(out, "heredoc", &heredoc.body);
    }
}

fn place(out: &mut Vec<u8>, graph: &Graph, target: &Target) {
    match target {
        Target::Stage(index) => {
            let place = graph.reached.iter().position(|reached| reached == index);
            record(out, "stage", &place.map(|place| place.to_string()).unwrap_or_default());
        }
        Target::Image(name) => record(out, "image", name),
        Target::Scratch => record(out, "scratch", ""),
    }
}

fn record(out: &mut Vec<u8>, kind: &str, value: &str) {
    out.extend_from_slice(format!("{kind} {}:{value}\n", value.len()).as_bytes());
}
