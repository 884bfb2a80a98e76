//! A way to a pod that no `NodePort` leads to: `kubectl port-forward`.
//!
//! It ends with its pod, and newer kubectls end it on the first refused connection too, so its
//! owner asks [`PortForward::is_alive`] and opens another.

use anyhow::{Context as _, Result};

use crate::kubectl::Background;

/// A forwarded port; closed on drop.
#[derive(Debug)]
pub struct PortForward {
    kubectl: Background,
    url: String,
}

impl PortForward {
    /// Forwards a free local port to `port` of `target`, such as `deployment/gateway`; returns
    /// when kubectl listens.
    pub fn open(namespace: &str, target: &str, port: u64) -> Result<Self> {
        let ports = format!(":{port}");
        let (kubectl, line) = Background::start_until_first_line(&[
            "port-forward",
            "--namespace",
            namespace,
            "--address",
            "127.0.0.1",
            "--pod-running-timeout",
            "60s",
            target,
            &ports,
        ])?;
        let local = local_port(&line)
            .with_context(|| format!("failed to forward a port to `{namespace}/{target}`"))?;
        Ok(Self { kubectl, url: format!("http://127.0.0.1:{local}") })
    }

    /// Base URL of the near end.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn is_alive(&mut self) -> bool {
        self.kubectl.is_running()
    }
}

/// The local port in `Forwarding from 127.0.0.1:41234 -> 8080`.
fn local_port(line: &str) -> Option<u16> {
    let rest = line.trim().strip_prefix("Forwarding from 127.0.0.1:")?;
    rest.split(" -> ").next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::local_port;

    #[test]
    fn the_local_port_is_read_from_kubectls_line() {
        assert_eq!(local_port("Forwarding from 127.0.0.1:41234 -> 8080\n"), Some(41234));
        assert_eq!(local_port("error: unable to forward port\n"), None);
        assert_eq!(local_port(""), None);
    }
}
