//! Runs an [`Expression`] over a path: all threads at once, character by character, so the time
//! is bounded by the lengths of both, whatever the expression.
//!
//! The search is Go's `MatchString`: a match may begin anywhere. The translation puts `^` first
//! and `$` last, but with a `|` between them each pins one alternative only.

use super::charset::CharSet;
use super::re2::{Assertion, Expression, Node};
use super::utf8;

#[derive(Debug)]
pub(super) struct Program {
    steps: Vec<Step>,
    sets: Vec<CharSet>,
    /// A match can only begin where the path does.
    pinned: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Set(usize),
    Assert(Assertion),
    Jump(usize),
    Split(usize, usize),
    Match,
}

/// Go's bound on an expression is about this many instructions.
const MOST_STEPS: usize = 3_300_000;

/// What stands behind the current place.
#[derive(Clone, Copy)]
enum Next {
    Char(char),
    End,
    /// The text goes on in a way not known.
    Open,
}

impl Program {
    pub(super) fn new(expression: Expression) -> Result<Program, String> {
        let mut program = Program { steps: Vec::new(), sets: expression.sets, pinned: false };
        program.emit(&expression.root)?;
        program.steps.push(Step::Match);
        program.pinned = !program.begins_inside();
        Ok(program)
    }

    fn emit(&mut self, node: &Node) -> Result<(), String> {
        if self.steps.len() > MOST_STEPS {
            return Err("the expression is too large".into());
        }
        match node {
            Node::Set(set) => self.steps.push(Step::Set(*set)),
            Node::Assert(assertion) => self.steps.push(Step::Assert(*assertion)),
            Node::Concat(nodes) => nodes.iter().try_for_each(|node| self.emit(node))?,
            Node::Either(nodes) => self.emit_either(nodes)?,
            Node::Repeat { node, least, most } => {
                (0..*least).try_for_each(|_| self.emit(node))?;
                match most {
                    None => self.emit_loop(node)?,
                    Some(most) => self.emit_optional(node, most - least)?,
                }
            }
        }
        Ok(())
    }

    fn emit_either(&mut self, nodes: &[Node]) -> Result<(), String> {
        let mut jumps = Vec::new();
        let Some((last, others)) = nodes.split_last() else { return Ok(()) };
        for node in others {
            let split = self.hole();
            self.emit(node)?;
            jumps.push(self.hole());
            self.steps[split] = Step::Split(split + 1, self.steps.len());
        }
        self.emit(last)?;
        let end = self.steps.len();
        for jump in jumps {
            self.steps[jump] = Step::Jump(end);
        }
        Ok(())
    }

    fn emit_loop(&mut self, node: &Node) -> Result<(), String> {
        let split = self.hole();
        self.emit(node)?;
        self.steps.push(Step::Jump(split));
        self.steps[split] = Step::Split(split + 1, self.steps.len());
        Ok(())
    }

    fn emit_optional(&mut self, node: &Node, times: u32) -> Result<(), String> {
        let mut splits = Vec::new();
        for _ in 0..times {
            splits.push(self.hole());
            self.emit(node)?;
        }
        let end = self.steps.len();
        for split in splits {
            self.steps[split] = Step::Split(split + 1, end);
        }
        Ok(())
    }

    /// A step that is filled in once its target is known.
    fn hole(&mut self) -> usize {
        self.steps.push(Step::Match);
        self.steps.len() - 1
    }

    /// Whether the expression is found in `text`.
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        self.run(text, Next::End)
    }

    /// Whether it could be found in a text that begins with `head` and goes on; never wrongly false.
    pub(super) fn reaches(&self, head: &[u8]) -> bool {
        self.run(head, Next::Open)
    }

    /// Whether a match may begin behind some character.
    fn begins_inside(&self) -> bool {
        let mut threads = Threads::new(self.steps.len());
        threads.clear();
        self.close(&mut vec![0], &mut threads, (Some('a'), Next::Open)) || !threads.alive.is_empty()
    }

    fn run(&self, text: &[u8], at_end: Next) -> bool {
        let mut threads = Threads::new(self.steps.len());
        let mut left = text;
        let mut before = None;
        let mut stepped = vec![0];
        loop {
            let next = (!left.is_empty()).then(|| utf8::first(left));
            let view = (before, next.map_or(at_end, |(c, _)| Next::Char(c)));
            threads.clear();
            if self.close(&mut stepped, &mut threads, view) {
                return true;
            }
            if self.pinned && threads.alive.is_empty() {
                return false;
            }
            let Some((c, width)) = next else {
                return matches!(at_end, Next::Open) && !threads.alive.is_empty();
            };
            stepped.clear();
            for &at in &threads.alive {
                if matches!(self.steps[at], Step::Set(set) if self.sets[set].contains(c)) {
                    stepped.push(at + 1);
                }
            }
            if !self.pinned {
                stepped.push(0);
            }
            left = &left[width..];
            before = Some(c);
        }
    }

    /// Follows every step that takes no character; true once a match is reached.
    fn close(
        &self,
        todo: &mut Vec<usize>,
        threads: &mut Threads,
        view: (Option<char>, Next),
    ) -> bool {
        while let Some(at) = todo.pop() {
            if !threads.enter(at) {
                continue;
            }
            match self.steps[at] {
                Step::Set(_) => threads.alive.push(at),
                Step::Assert(assertion) if holds(assertion, view) => todo.push(at + 1),
                Step::Assert(_) => {}
                Step::Jump(to) => todo.push(to),
                Step::Split(one, other) => todo.extend([one, other]),
                Step::Match => return true,
            }
        }
        false
    }
}

fn holds(assertion: Assertion, (before, next): (Option<char>, Next)) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let edge = match next {
        Next::Char(c) => before.is_some_and(is_word) != is_word(c),
        Next::End => before.is_some_and(is_word),
        Next::Open => return assertion != Assertion::Start || before.is_none(),
    };
    match assertion {
        Assertion::Start => before.is_none(),
        Assertion::End => matches!(next, Next::End),
        Assertion::WordEdge => edge,
        Assertion::NoWordEdge => !edge,
    }
}

/// The steps reached at one place in the text, each once.
struct Threads {
    alive: Vec<usize>,
    /// The round in which a step was last reached.
    seen: Vec<u32>,
    round: u32,
}

impl Threads {
    fn new(steps: usize) -> Threads {
        Threads { alive: Vec::new(), seen: vec![0; steps], round: 0 }
    }

    fn clear(&mut self) {
        self.alive.clear();
        self.round += 1;
    }

    fn enter(&mut self, step: usize) -> bool {
        std::mem::replace(&mut self.seen[step], self.round) != self.round
    }
}
