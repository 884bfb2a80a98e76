//! Image references as engines read them.
//!
//! `debian` is `docker.io/library/debian:latest`: a first part without `.`, `:` or the name
//! `localhost` is no host, one bare word is a `library/` image, no tag is `latest`. podman takes an
//! unqualified name for one of `localhost/` first, then for an alias or a registry of its search
//! list, then for `docker.io`.

/// A reference taken apart: `host/path`, tag, digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// With a host, or without if the reference names none.
    pub(crate) name: String,
    pub(crate) tag: Option<String>,
    /// `sha256:…`
    pub(crate) digest: Option<String>,
    pub(crate) has_host: bool,
}

impl Reference {
    pub(crate) fn parse(text: &str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        let has_host = name.split_once('/').is_some_and(|(first, _)| is_host(first));
        let name = match name.strip_prefix("docker.io/") {
            Some(path) if has_host && !path.contains('/') => format!("docker.io/library/{path}"),
            _ => name.to_owned(),
        };
        Self { name, tag, digest, has_host }
    }

    /// The tag that counts when there is no digest.
    pub(crate) fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or("latest")
    }

    /// The name with its host, as a registry would be asked for it.
    pub(crate) fn qualified(&self) -> String {
        match (self.has_host, self.name.contains('/')) {
            (true, _) => self.name.clone(),
            (false, true) => format!("docker.io/{}", self.name),
            (false, false) => format!("docker.io/library/{}", self.name),
        }
    }

    /// The names it may stand for besides those of aliases and search lists, in podman's order.
    pub(crate) fn candidates(&self) -> Vec<String> {
        if self.has_host {
            return vec![self.name.clone()];
        }
        vec![format!("localhost/{}", self.name), self.qualified()]
    }
}

fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart_as_engines_do() {
        let sha = format!("sha256:{}", "a".repeat(64));
        for (text, names, tag, digest) in [
            ("debian", vec!["localhost/debian", "docker.io/library/debian"], "latest", None),
            ("debian:12", vec!["localhost/debian", "docker.io/library/debian"], "12", None),
            ("docker.io/debian:12", vec!["docker.io/library/debian"], "12", None),
            ("docker.io/library/debian", vec!["docker.io/library/debian"], "latest", None),
            ("grafana/loki:3", vec!["localhost/grafana/loki", "docker.io/grafana/loki"], "3", None),
            ("localhost/gateway:ab12", vec!["localhost/gateway"], "ab12", None),
            ("localhost:5000/a/b", vec!["localhost:5000/a/b"], "latest", None),
            ("quay.io/a/b:1.2", vec!["quay.io/a/b"], "1.2", None),
            (&format!("quay.io/a@{sha}"), vec!["quay.io/a"], "latest", Some(sha.clone())),
            (&format!("quay.io/a:1@{sha}"), vec!["quay.io/a"], "1", Some(sha.clone())),
        ] {
            let reference = Reference::parse(text);
            assert_eq!(reference.candidates(), names, "{text}");
            assert_eq!(reference.tag(), tag, "{text}");
            assert_eq!(reference.digest, digest, "{text}");
        }
    }
}
