//! Host ports: bound before kind is started, so that a clash costs no cluster and names its holder.
//!
//! kind itself finds a taken port after half a minute, and then says only "address already in use".

use std::io::ErrorKind;
use std::net::TcpListener;

use anyhow::anyhow;

use crate::error::{ErrorExt as _, Exit};
use crate::port;

/// An error that names every port that is taken, and by whom.
pub(super) fn check(ports: &[u16], provider: &str) -> anyhow::Result<()> {
    let taken: Vec<(u16, ErrorKind)> = ports
        .iter()
        .filter_map(|&port| match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => None,
            Err(error) => Some((port, error.kind())),
        })
        .collect();
    if taken.is_empty() {
        return Ok(());
    }
    let publishers = port::publishers(provider);
    let lines: Vec<String> = taken
        .iter()
        .map(|&(number, kind)| match kind {
            ErrorKind::AddrInUse => {
                format!("port {number} is taken by {}", port::holder(number, &publishers))
            }
            other => format!("port {number} cannot be had: {other}"),
        })
        .collect();
    Err(anyhow!("failed to have the cluster's ports: {}", lines.join("; ")))
        .hint("stop what holds it, or give it another `host` under `[ports]` in xtask.toml")
        .exit(Exit::Environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_this_very_process() {
        let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let error = check(&[port], "no-such-engine").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("port {port} is taken by")), "{text}");
        assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
        assert_eq!(crate::error::code(&error), Exit::Environment);
        drop(socket);
        check(&[port], "no-such-engine").unwrap();
    }
}
