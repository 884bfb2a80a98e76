//! Instructions → stages, and which of them a target needs.

use std::collections::BTreeSet;

use super::globals::Globals;
use super::instruction::{Assignment, Body, From, Instruction};
use super::parse::{File, parse};
use super::{Fault, Request, Role, mount};

/// The stages of a file and those the target reaches.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) escape: char,
    pub(super) stages: Vec<Stage>,
    /// Numbers of the stages reached, ascending; the target is the last of them.
    pub(super) reached: Vec<usize>,
    pub(super) warnings: Vec<(usize, String)>,
}

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) line: usize,
    pub(super) from: Instruction,
    pub(super) name: Option<String>,
    pub(super) base: Target,
    pub(super) platform: Option<String>,
    /// Global ARGs its FROM line looks at.
    pub(super) globals: BTreeSet<String>,
    /// What the base left to be done first; filled in when the stage is reached.
    pub(super) triggers: Vec<Instruction>,
    pub(super) instructions: Vec<Instruction>,
    /// What its COPY and RUN take from elsewhere; filled in when the stage is reached.
    pub(super) links: Vec<Link>,
}

/// What a FROM, `--from` or `from=` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Stage(usize),
    Image(String),
    Scratch,
}

/// A `--from` or `from=`.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) line: usize,
    pub(super) role: Role,
    pub(super) to: Target,
}

impl Stage {
    /// Its name, or its number.
    pub(super) fn label(&self, index: usize) -> String {
        self.name.clone().unwrap_or_else(|| index.to_string())
    }

    /// All it does, in order.
    pub(super) fn steps(&self) -> impl Iterator<Item = &Instruction> {
        self.triggers.iter().chain(&self.instructions)
    }
}

/// Builds the graph for the target asked for.
pub(super) fn build(file: File, request: &Request<'_>) -> Result<(Graph, Globals), Vec<Fault>> {
    let escape = file.escape;
    let warnings = file.warnings;
    let (words, parts) = split(file.instructions)?;
    let last = parts.last().and_then(|part| part.from.name.clone()).unwrap_or_default();
    let asked = request.target.filter(|name| !name.is_empty());
    let globals = Globals::read(words, escape, asked.unwrap_or(&last), request)?;
    let stages = resolve_bases(parts, &globals)?;
    let mut graph = Graph { escape, stages, reached: Vec::new(), warnings };
    let target = graph.target(asked).map_err(|fault| vec![fault])?;
    graph.reach(target, request)?;
    Ok((graph, globals))
}

/// A stage as written.
struct Part {
    from: From,
    head: Instruction,
    instructions: Vec<Instruction>,
}

type Split = (Vec<(usize, Assignment)>, Vec<Part>);

fn split(instructions: Vec<Instruction>) -> Result<Split, Vec<Fault>> {
    let mut words = Vec::new();
    let mut parts: Vec<Part> = Vec::new();
    let mut faults = Vec::new();
    for instruction in instructions {
        match (&instruction.body, parts.last_mut()) {
            (Body::From(from), _) => {
                let from = from.clone();
                parts.push(Part { from, head: instruction, instructions: Vec::new() });
            }
            (_, Some(part)) => part.instructions.push(instruction),
            (Body::Arg(args), None) => {
                words.extend(args.iter().map(|arg| (instruction.line, arg.clone())));
            }
            (_, None) => {
                let message = "only `ARG` can stand before the first `FROM`".to_owned();
                faults.push(Fault { line: instruction.line, message });
            }
        }
    }
    if parts.is_empty() && faults.is_empty() {
        faults.push(Fault { line: 1, message: "the file has no `FROM`".to_owned() });
    }
    if faults.is_empty() { Ok((words, parts)) } else { Err(faults) }
}

fn resolve_bases(parts: Vec<Part>, globals: &Globals) -> Result<Vec<Stage>, Vec<Fault>> {
    let mut stages: Vec<Stage> = Vec::new();
    let mut faults = Vec::new();
    for part in parts {
        let line = part.head.line;
        match resolve_base(part, &stages, globals) {
            Ok(stage) => stages.push(stage),
            Err(message) => faults.push(Fault { line, message }),
        }
    }
    if faults.is_empty() { Ok(stages) } else { Err(faults) }
}

fn resolve_base(part: Part, before: &[Stage], globals: &Globals) -> Result<Stage, String> {
    let (base, mut used) = globals.expand(&part.from.base)?;
    if base.is_empty() {
        return Err(format!("the base `{}` is empty", part.from.base));
    }
    // What a variable without a value leaves behind.
    if base.ends_with([':', '@', '/']) || base.starts_with([':', '@', '/']) || base.contains(":@") {
        let written = &part.from.base;
        return Err(format!(
            "the base `{written}` comes to `{base}`, which names no image: a variable has no value"
        ));
    }
    check_reference(&base)?;
    let platform = match &part.from.platform {
        None => None,
        Some(word) => {
            let (platform, names) = globals.expand(word)?;
            if platform.is_empty() {
                return Err(format!("the platform `{word}` is empty"));
            }
            used.extend(names);
            Some(platform)
        }
    };
    let stage = before.iter().rposition(|stage| stage.name.as_ref() == Some(&base));
    let base = match stage {
        Some(index) => Target::Stage(index),
        None if base == "scratch" => Target::Scratch,
        None => Target::Image(base),
    };
    Ok(Stage {
        line: part.head.line,
        from: part.head,
        name: part.from.name,
        base,
        platform,
        globals: used,
        triggers: Vec::new(),
        instructions: part.instructions,
        links: Vec::new(),
    })
}

impl Graph {
    fn target(&mut self, asked: Option<&str>) -> Result<usize, Fault> {
        let Some(name) = asked else { return Ok(self.stages.len() - 1) };
        if let Some(index) = self.named(name) {
            return Ok(index);
        }
        match name.parse::<usize>().ok().filter(|index| *index < self.stages.len()) {
            Some(index) => {
                let message = format!("docker refuses a number (`{name}`) as target");
                self.warnings.push((self.stages[index].line, message));
                Ok(index)
            }
            None => Err(Fault { line: 1, message: format!("there is no stage `{name}`") }),
        }
    }

    /// The last stage of a name, in any case.
    fn named(&self, name: &str) -> Option<usize> {
        let name = name.to_lowercase();
        self.stages.iter().rposition(|stage| stage.name.as_ref() == Some(&name))
    }

    fn reach(&mut self, target: usize, request: &Request<'_>) -> Result<(), Vec<Fault>> {
        let mut reached = BTreeSet::new();
        let mut open = vec![target];
        let mut faults = Vec::new();
        while let Some(index) = open.pop() {
            if !reached.insert(index) {
                continue;
            }
            match self.visit(index, request) {
                Ok(needed) => open.extend(needed),
                Err(found) => faults.extend(found),
            }
        }
        self.reached = reached.into_iter().collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The first line reached that has a heredoc.
    pub(super) fn first_heredoc(&self) -> Option<usize> {
        let steps = self.reached.iter().flat_map(|index| self.stages[*index].steps());
        steps.filter(|step| !step.heredocs.is_empty()).map(|step| step.line).min()
    }

    /// Fills in what is left to a stage and what it takes; returns the stages it needs.
    fn visit(&mut self, index: usize, request: &Request<'_>) -> Result<Vec<usize>, Vec<Fault>> {
        self.stages[index].triggers = self.triggers(index, request)?;
        let mut links = Vec::new();
        let mut faults = Vec::new();
        for step in self.stages[index].steps() {
            for (name, role) in references(step) {
                match self.link(index, &name, role) {
                    Ok(to) => links.push(Link { line: step.line, role, to }),
                    Err(message) => faults.push(Fault { line: step.line, message }),
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let targets = links.iter().map(|link| &link.to).chain([&self.stages[index].base]);
        let needed = targets.filter_map(|to| match to {
            Target::Stage(index) => Some(*index),
            Target::Image(_) | Target::Scratch => None,
        });
        let needed = needed.collect();
        self.stages[index].links = links;
        Ok(needed)
    }

    /// ONBUILD of the stage or image right below, not of those below that.
    fn triggers(
        &self,
        index: usize,
        request: &Request<'_>,
    ) -> Result<Vec<Instruction>, Vec<Fault>> {
        let stage = &self.stages[index];
        let texts = match &stage.base {
            Target::Scratch => Vec::new(),
            Target::Image(name) => (request.base)(name).unwrap_or_default().onbuild,
            Target::Stage(base) => {
                self.stages[*base].instructions.iter().filter_map(trigger_text).collect()
            }
        };
        let mut triggers = Vec::new();
        let mut faults = Vec::new();
        for text in texts {
            match parse(&text).map(|file| file.instructions) {
                Ok(mut found) if found.len() == 1 => triggers.append(&mut found),
                _ => faults.push(Fault {
                    line: stage.line,
                    message: format!("the base's trigger `{text}` is not one instruction"),
                }),
            }
        }
        for trigger in &mut triggers {
            trigger.line = stage.line;
        }
        if faults.is_empty() { Ok(triggers) } else { Err(faults) }
    }

    fn link(&self, from: usize, name: &str, role: Role) -> Result<Target, String> {
        if name.contains('$') {
            return Err(format!("`from={name}`: variables do not work there"));
        }
        let number = name.parse::<i64>().ok();
        let index = match (self.named(name), number) {
            (Some(index), None) => Some(index),
            // Docker takes numbers only in COPY; podman in mounts, too.
            (_, Some(number)) => match usize::try_from(number).ok() {
                Some(index) if index < self.stages.len() => Some(index),
                _ if role == Role::MountFrom => None,
                _ => return Err(format!("there is no stage {number}")),
            },
            (None, None) => None,
        };
        match index {
            Some(index) if index >= from => {
                Err(format!("the stage `{name}` must stand before this one"))
            }
            Some(index) => Ok(Target::Stage(index)),
            None if name == "scratch" => Ok(Target::Scratch),
            None => {
                check_reference(name)?;
                Ok(Target::Image(name.to_owned()))
            }
        }
    }
}

/// What an engine would take for an option, or for several words, is no reference.
pub(super) fn check_reference(name: &str) -> Result<(), String> {
    if name.starts_with('-') || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("`{name}` is no reference of an image"));
    }
    Ok(())
}

fn references(step: &Instruction) -> Vec<(String, Role)> {
    match &step.body {
        Body::Copy(copy) => copy.from.iter().map(|from| (from.clone(), Role::CopyFrom)).collect(),
        Body::Run(run) => {
            let from = run.mounts.iter().filter_map(|value| mount::from(value));
            from.map(|name| (name, Role::MountFrom)).collect()
        }
        _ => Vec::new(),
    }
}

/// An ONBUILD instruction as the base's config would hold it.
fn trigger_text(step: &Instruction) -> Option<String> {
    let Body::OnBuild(trigger) = &step.body else { return None };
    let mut text = trigger.clone();
    for heredoc in &step.heredocs {
        text.push('\n');
        text.push_str(&heredoc.body);
        text.push_str(&heredoc.name);
    }
    Some(text)
}
