//! Which names of variables and build arguments are those of secrets.

/// Words that make a name one.
const WORDS: [&str; 12] = [
    "TOKEN",
    "TOKENS",
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASSCODE",
    "SECRET",
    "SECRETS",
    "CREDENTIAL",
    "CREDENTIALS",
    "APIKEY",
    "PAT",
];

/// What a key is for, that is a secret.
const KEYS: [&str; 6] = ["ACCESS", "API", "AUTH", "PRIVATE", "SIGNING", "ENCRYPTION"];

/// A last word that makes it a name of something else: where the secret is, not what.
const ABOUT: [&str; 10] =
    ["URL", "URI", "FILE", "PATH", "DIR", "NAME", "ID", "TTL", "LENGTH", "TYPE"];

/// Whether what is called so is likely a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let words: Vec<&str> = name.split(['_', '-', '.']).collect();
    if words.last().is_some_and(|last| ABOUT.contains(last)) {
        return false;
    }
    let is_key = |pair: &[&str]| pair[1] == "KEY" && KEYS.contains(&pair[0]);
    words.iter().any(|word| WORDS.contains(word)) || words.windows(2).any(is_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known_and_those_of_other_things_are_not() {
        for name in ["NPM_TOKEN", "github_token", "DB_PASSWORD", "AWS_SECRET_ACCESS_KEY", "API_KEY"]
        {
            assert!(is_secret(name), "{name}");
        }
        for name in ["GOFLAGS", "GPG_KEY", "TOKEN_URL", "SECRET_NAME", "PATH", "KEY", "TOKENIZER"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
