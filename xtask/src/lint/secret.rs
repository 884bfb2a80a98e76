//! Which files are secrets, by name and, where a name says too little, by their first bytes.
//!
//! A `.pem` may be a certificate that everybody may see, an `.npmrc` a line about a registry; so
//! the words that make them secrets are looked for. Templates (`.env.example`) hold none.

/// Folders of what tests use.
const OF_TESTS: [&str; 6] = ["test", "tests", "testdata", "test-data", "fixtures", "__tests__"];

/// So many bytes of a file are looked at.
pub const HEAD: u64 = 8 << 10;

/// Names that are secrets whatever is in them.
const NAMES: [(&str, &str); 14] = [
    (".env", "an environment file"),
    (".netrc", "a password file"),
    (".pgpass", "a password file"),
    (".htpasswd", "a password file"),
    (".git-credentials", "git's passwords"),
    (".dockerconfigjson", "a registry's password"),
    (".dockercfg", "a registry's password"),
    ("kubeconfig", "a kubeconfig"),
    ("id_rsa", "an SSH key"),
    ("id_dsa", "an SSH key"),
    ("id_ecdsa", "an SSH key"),
    ("id_ed25519", "an SSH key"),
    (".vault-token", "a Vault token"),
    ("terraform.tfstate", "Terraform's state"),
];

/// Endings, likewise.
const ENDINGS: [(&str, &str); 6] = [
    (".kubeconfig", "a kubeconfig"),
    (".p12", "a key store"),
    (".pfx", "a key store"),
    (".jks", "a key store"),
    (".kdbx", "a password file"),
    (".ppk", "an SSH key"),
];

/// The end of a path, likewise.
const PLACES: [(&str, &str); 5] = [
    (".docker/config.json", "a registry's password"),
    (".kube/config", "a kubeconfig"),
    (".aws/credentials", "AWS credentials"),
    (".azure/accessTokens.json", "Azure credentials"),
    ("gcloud/application_default_credentials.json", "Google Cloud credentials"),
];

/// Files that are secrets if they hold a word.
struct Look {
    endings: &'static [&'static str],
    /// Parts of the file's name, of which it has one; none: any name.
    named: &'static [&'static str],
    words: &'static [&'static str],
    what: &'static str,
}

const LOOKS: [Look; 6] = [
    Look {
        endings: &[".pem", ".key", ".crt"],
        named: &[],
        words: &["PRIVATE KEY-----"],
        what: "a private key",
    },
    Look {
        endings: &[".npmrc", ".yarnrc.yml"],
        named: &[],
        words: &["_authToken=", "_password=", "npmAuthToken:"],
        what: "a token of npm",
    },
    Look {
        endings: &[".pypirc", "pip.conf"],
        named: &[],
        words: &["password"],
        what: "a password of PyPI",
    },
    Look {
        endings: &["credentials.toml", ".cargo/credentials"],
        named: &[],
        words: &["token"],
        what: "a token of crates.io",
    },
    Look {
        endings: &[".json"],
        named: &["account", "credential", "key", "gcp", "google", "firebase", "sa.json"],
        words: &["-----BEGIN PRIVATE KEY-----"],
        what: "a service account's key",
    },
    Look {
        endings: &[".yaml", ".yml", ".conf", "config"],
        named: &["kube", "config", "cluster"],
        words: &["client-key-data:"],
        what: "a kubeconfig",
    },
];

/// `.env.example` and its like.
const TEMPLATES: [&str; 7] =
    ["example", "sample", "template", "dist", "tmpl", "schema", "defaults"];

/// Whether a file, by its path, lies among what tests use: a key there that is committed was made
/// for them.
pub fn is_of_tests(path: &str) -> bool {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(|folder| OF_TESTS.contains(&folder))
}

/// A path whose file is to be looked into.
pub fn is_suspect(path: &str) -> bool {
    by_name(path).is_some() || looks(path).next().is_some()
}

/// What kind of secret a file is, given its first [`HEAD`] bytes.
pub fn what(path: &str, head: &[u8]) -> Option<&'static str> {
    let holds = |word: &&str| head.windows(word.len()).any(|bytes| bytes == word.as_bytes());
    let by_words = || looks(path).find(|look| look.words.iter().any(holds)).map(|look| look.what);
    by_name(path).or_else(by_words)
}

fn by_name(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if let Some(rest) = name.strip_prefix(".env.") {
        let template = TEMPLATES.iter().any(|word| rest.split('.').any(|part| part == *word));
        return (!template).then_some("an environment file");
    }
    let named = NAMES.iter().find(|(secret, _)| *secret == name);
    let ending = || ENDINGS.iter().find(|(ending, _)| name.ends_with(ending));
    let place = || {
        PLACES.iter().find(|(place, _)| {
            path.strip_suffix(place).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        })
    };
    named.or_else(ending).or_else(place).map(|(_, what)| *what)
}

fn looks(path: &str) -> impl Iterator<Item = &'static Look> {
    let name = path.rsplit('/').next().unwrap_or(path);
    LOOKS.iter().filter(move |look| {
        look.endings.iter().any(|ending| path.ends_with(ending))
            && (look.named.is_empty() || look.named.iter().any(|part| name.contains(part)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_from_what_only_looks_like_one() {
        let key = "-----BEGIN RSA PRIVATE KEY-----";
        for (path, head, expected) in [
            (".env", "", Some("an environment file")),
            ("a/.env.production", "", Some("an environment file")),
            (".env.example", "", None),
            (".env.local.sample", "", None),
            ("environment", "", None),
            ("tls/server.key", key, Some("a private key")),
            ("tls/server.pem", "-----BEGIN CERTIFICATE-----", None),
            ("src/primary.key", "k = 1", None),
            ("id_rsa.pub", "", None),
            ("home/.ssh/id_rsa", "", Some("an SSH key")),
            ("dev/kubeconfig", "", Some("a kubeconfig")),
            ("dev/cluster.yaml", "users:\n- user:\n    client-key-data: x", Some("a kubeconfig")),
            ("src/kubeconfig.go", "", None),
            (".kube/config", "", Some("a kubeconfig")),
            ("my.kube/config", "", None),
            (".docker/config.json", "", Some("a registry's password")),
            (".npmrc", "registry=https://registry.test/", None),
            (".npmrc", "//registry.test/:_authToken=x", Some("a token of npm")),
            (
                "sa.json",
                "{\"private_key\": \"-----BEGIN PRIVATE KEY-----\\n",
                Some("a service account's key"),
            ),
            ("package.json", "{}", None),
        ] {
            assert_eq!(what(path, head.as_bytes()), expected, "{path} {head}");
            assert!(expected.is_none() || is_suspect(path), "{path}");
        }
    }
}
