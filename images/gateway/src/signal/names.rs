//! Which names are taken: RFC 1123 as Kubernetes reads it (lower case letters, digits, `-`; first
//! and last are no `-`; a subdomain is labels joined by dots), and kinds.

const LABEL_BYTES: usize = 63;
const SUBDOMAIN_BYTES: usize = 253;

/// A namespace's name.
pub fn dns_label(text: &str) -> Result<(), String> {
    if text.len() <= LABEL_BYTES && is_label(text) {
        return Ok(());
    }
    Err(format!("is not a DNS-1123 label of at most {LABEL_BYTES} characters"))
}

/// A resource's name.
pub fn dns_subdomain(text: &str) -> Result<(), String> {
    if text.len() <= SUBDOMAIN_BYTES && text.split('.').all(is_label) {
        return Ok(());
    }
    Err(format!("is not a DNS-1123 subdomain of at most {SUBDOMAIN_BYTES} characters"))
}

/// A resource's kind, as in `Pod`.
pub fn kind(text: &str) -> Result<(), String> {
    let capital = text.starts_with(|first: char| first.is_ascii_uppercase());
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if capital && plain && text.len() <= LABEL_BYTES {
        return Ok(());
    }
    Err("is not a Kubernetes kind".to_owned())
}

/// An alert's name or an event's reason: free text, within measure.
pub fn title(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if text.len() > SUBDOMAIN_BYTES {
        return Err(format!("is longer than {SUBDOMAIN_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("has control characters".to_owned());
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_rfc_1123() {
        for good in ["a", "0", "prod", "team-a", "a--b", &"x".repeat(63)] {
            assert_eq!(dns_label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", &"x".repeat(64)] {
            assert!(dns_label(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn subdomains_are_labels_joined_by_dots() {
        for good in ["web-0", "node1.example.test", &["abcdefg"; 31].join(".")] {
            assert_eq!(dns_subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a.-b", "Web", "../etc", &"x".repeat(254)] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_begin_with_a_capital() {
        for good in ["Pod", "HTTPRoute", "V1Thing"] {
            assert_eq!(kind(good), Ok(()), "{good}");
        }
        for bad in ["", "pod", "Pod/x", "Pod ", "1Pod"] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn titles_are_free_text_within_measure() {
        for good in ["KubePodCrashLooping", "disk is full", "Ärger"] {
            assert_eq!(title(good), Ok(()), "{good}");
        }
        for bad in ["", "  ", "a\nb", "a\0", &"x".repeat(254)] {
            assert!(title(bad).is_err(), "{bad:?}");
        }
    }
}
