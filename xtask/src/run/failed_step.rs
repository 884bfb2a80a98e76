//! Which line of a Dockerfile a failed build stopped at, from the engine's last words.
//!
//! | engine | says | so |
//! | --- | --- | --- |
//! | podman | `Error: building at STEP "RUN make": …` | the instruction with that text |
//! | `BuildKit` | `api.Dockerfile:12` | that line |

/// The line, counted from 1; none if the log does not tell.
pub(crate) fn line(dockerfile: &str, file_name: &str, log: &str) -> Option<usize> {
    log.lines()
        .rev()
        .find_map(|said| podman(dockerfile, said).or_else(|| buildkit(file_name, said)))
}

fn podman(dockerfile: &str, said: &str) -> Option<usize> {
    let (_, rest) = said.split_once("building at STEP \"")?;
    let (step, _) = rest.rsplit_once("\": ").unwrap_or((rest, ""));
    let wanted = plain(step);
    let spans = dockerfile::instructions(dockerfile.as_bytes()).ok()?;
    let mut found = spans.iter().filter(|span| plain(&span.text) == wanted);
    let first = found.next()?;
    // The same step twice: which one it was is not said.
    found.next().is_none().then_some(first.line)
}

fn buildkit(file_name: &str, said: &str) -> Option<usize> {
    let (_, line) = said.trim().rsplit_once(&format!("{file_name}:"))?;
    line.parse().ok()
}

/// Words with one blank between them, the keyword in capitals.
fn plain(text: &str) -> String {
    let mut words = text.split_whitespace();
    let keyword = words.next().unwrap_or_default().to_uppercase();
    std::iter::once(keyword.as_str()).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERFILE: &str = "FROM debian\n# what fails\nrun set -e; \\\n    # inside\n    make \\\n\
                              \x20   \"all\": x\nRUN twice\nRUN twice\n";

    #[test]
    fn the_line_is_where_the_instruction_begins() {
        let at = |said: &str| line(DOCKERFILE, "api.Dockerfile", &format!("x\n{said}\n"));
        let step = "Error: building at STEP \"RUN set -e;     make     \"all\": x\": while running";
        assert_eq!(at(step), Some(3));
        assert_eq!(at("Error: building at STEP \"FROM debian\": no"), Some(1));
        assert_eq!(at("Error: building at STEP \"RUN twice\": exit status 1"), None);
        assert_eq!(at("api.Dockerfile:12"), Some(12));
        assert_eq!(at("src/main.c:12"), None);
    }
}
