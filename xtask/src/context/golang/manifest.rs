//! `go.mod` and `go.work`: lines of a verb and its words, or a verb and a block of such lines.

use std::collections::BTreeSet;

use super::source::quoted_words;

/// What is needed of either file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The module's path; none in a `go.work`.
    pub module: Option<String>,
    /// Paths of the modules it requires.
    pub requires: BTreeSet<String>,
    /// Modules that are taken from a folder: path and folder, as written.
    pub replaces: Vec<(String, String)>,
    /// Folders of a workspace's modules, as written.
    pub uses: Vec<String>,
}

/// Reads either file; none if a line that counts is not understood.
pub(super) fn read(text: &str) -> Option<Manifest> {
    let mut manifest = Manifest::default();
    let mut block: Option<String> = None;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let mut words = quoted_words(line)?;
        match (&block, words.last().map(String::as_str)) {
            (_, None) => {}
            (Some(_), Some(")")) => block = None,
            (Some(verb), Some(_)) => manifest.add(&verb.clone(), &words)?,
            (None, Some("(")) => block = Some(words.remove(0)),
            (None, Some(_)) => manifest.add(&words.remove(0), &words)?,
        }
    }
    Some(manifest)
}

impl Manifest {
    fn add(&mut self, verb: &str, words: &[String]) -> Option<()> {
        match verb {
            "module" => self.module = Some(words.first()?.clone()),
            "require" => drop(self.requires.insert(words.first()?.clone())),
            "use" => self.uses.push(words.first()?.clone()),
            "replace" => {
                let arrow = words.iter().position(|word| word == "=>")?;
                let to = words.get(arrow + 1)?;
                if is_folder(to) {
                    self.replaces.push((words.first()?.clone(), to.clone()));
                }
            }
            _ => {}
        }
        Some(())
    }
}

/// Whether the right side of a `replace` is a folder, as Go tells it.
fn is_folder(path: &str) -> bool {
    [".", ".."].contains(&path) || ["./", "../", "/"].iter().any(|start| path.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_in_lines_and_blocks() {
        let text = "module \"a.b/c\" // why\n\ngo 1.26\nrequire x.y/z v1.0.0 // indirect\n\
                    require (\n\tp.q/r v0.1.0\n)\nreplace x.y/z v1.0.0 => ./z\n\
                    replace (\n\tp.q/r => p.q/s v1.0.0\n\tu.v/w => ../w\n)\n\
                    use (\n\t.\n\t./m\n)\nretract [v1.0.0, v1.1.0]\n";
        let owned = |(one, other): (&str, &str)| (one.to_owned(), other.to_owned());
        let expected = Manifest {
            module: Some("a.b/c".into()),
            requires: ["p.q/r".to_owned(), "x.y/z".to_owned()].into(),
            replaces: [("x.y/z", "./z"), ("u.v/w", "../w")].map(owned).into(),
            uses: vec![".".into(), "./m".into()],
        };
        assert_eq!(read(text), Some(expected));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["module", "replace a ./b", "module \"a", "use (\n\"a\\x62\"\n)"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
