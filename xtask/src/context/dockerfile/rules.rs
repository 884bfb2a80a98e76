//! Stand-in for `crate::context::ignore::Rules` until that branch is merged: names, `*`, `**/` only.

use super::glob::Glob;

#[derive(Debug)]
pub(super) struct Rules(Vec<(bool, Vec<String>)>);

#[derive(Debug)]
pub(super) struct RuleError {
    pub(super) pattern: String,
    pub(super) message: String,
}

#[derive(Debug, Clone)]
pub(super) struct State(Vec<bool>);

pub(super) struct Verdict {
    pub(super) ignored: bool,
    pub(super) state: State,
}

impl Rules {
    pub(super) fn from_copy_excludes<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
    ) -> Result<Rules, Vec<RuleError>> {
        let mut rules = Vec::new();
        for text in patterns {
            let pattern = text.strip_prefix('!').unwrap_or(text);
            let parts: Vec<String> = pattern.split('/').map(str::to_owned).collect();
            if parts.iter().any(|part| Glob::parse(part).is_none()) {
                let message = "syntax error".to_owned();
                return Err(vec![RuleError { pattern: text.to_owned(), message }]);
            }
            if !pattern.is_empty() {
                rules.push((text.starts_with('!'), parts));
            }
        }
        Ok(Rules(rules))
    }

    pub(super) fn root(&self) -> State {
        State(vec![false; self.0.len()])
    }

    pub(super) fn test(&self, parent: &State, path: &[u8]) -> Result<Verdict, RuleError> {
        let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        let mut verdict = Verdict { ignored: false, state: self.root() };
        for (index, (exception, pattern)) in self.0.iter().enumerate() {
            let matched =
                parent.0[index] || (*exception == verdict.ignored && matches(pattern, &parts));
            verdict.state.0[index] = matched;
            if matched {
                verdict.ignored = !exception;
            }
        }
        Ok(verdict)
    }
}

fn matches(pattern: &[String], parts: &[&[u8]]) -> bool {
    match (pattern.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            (0..=parts.len()).any(|skip| matches(rest, &parts[skip..]))
        }
        (Some((first, rest)), Some((name, parts))) => {
            Glob::parse(first).is_some_and(|glob| glob.matches(name)) && matches(rest, parts)
        }
        _ => false,
    }
}
