//! Host ports: bound before kind is started, so that a clash costs no cluster and names its owner.
//!
//! kind itself finds a taken port after half a minute, and then says only "address already in use".
//! The owner is the container that publishes the port or, if none does, the process whose socket
//! listens: `/proc/net/tcp*` leads from the port to an inode, `/proc/PID/fd` from the inode to the
//! process.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;

use anyhow::anyhow;

use crate::exit::{Exit, WithExit as _};
use crate::process::Tool;

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
    let containers = published(provider);
    let lines: Vec<String> = taken
        .iter()
        .map(|&(port, kind)| match kind {
            ErrorKind::AddrInUse => format!("port {port} is taken by {}", owner(port, &containers)),
            other => format!("port {port} cannot be had: {other}"),
        })
        .collect();
    Err(anyhow!(
        "failed to have the cluster's ports: {}\n\
         hint: stop what holds it, or give it another `host` under `[ports]` in xtask.toml",
        lines.join("; ")
    )
    .exit(Exit::Environment))
}

fn owner(port: u16, containers: &[(String, String)]) -> String {
    if let Some((name, _)) = containers.iter().find(|(_, ports)| publishes(ports, port)) {
        return format!("container `{name}`");
    }
    match listener(port, Path::new("/proc")) {
        Some((pid, name)) => format!("`{name}` (process {pid})"),
        None => "a process of another user".to_owned(),
    }
}

/// Names and ports of all running containers; none where the engine does not say.
fn published(provider: &str) -> Vec<(String, String)> {
    let text = Tool::new(provider)
        .args(["ps", "--format", "{{.Names}}\t{{.Ports}}"])
        .limit(super::kind::QUESTION)
        .read()
        .unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    pairs.map(|(name, ports)| (name.to_owned(), ports.to_owned())).collect()
}

/// Whether `127.0.0.1:30080-30081->30080-30081/tcp, [::]:80->80/tcp` publishes a host port.
fn publishes(ports: &str, port: u16) -> bool {
    ports.split(", ").any(|mapping| {
        let host = mapping.split_once("->").map(|(host, _)| host);
        let range = host.and_then(|host| host.rsplit_once(':')).map(|(_, range)| range);
        range.is_some_and(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            match (first.parse::<u16>(), last.parse::<u16>()) {
                (Ok(first), Ok(last)) => (first..=last).contains(&port),
                _ => false,
            }
        })
    })
}

/// Process id and name of what listens on a port, as far as we may see it.
fn listener(port: u16, proc: &Path) -> Option<(u32, String)> {
    let inodes: Vec<String> = ["net/tcp", "net/tcp6"]
        .iter()
        .filter_map(|table| fs_err::read_to_string(proc.join(table)).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    let processes = fs_err::read_dir(proc).ok()?.flatten();
    processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .find(|(_, folder)| holds_one_of(folder, &inodes))
        .map(|(pid, folder)| {
            let name = fs_err::read_to_string(folder.join("comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        })
}

fn holds_one_of(process: &Path, sockets: &[String]) -> bool {
    let Ok(open) = fs_err::read_dir(process.join("fd")) else { return false };
    open.flatten().any(|fd| {
        fs_err::read_link(fd.path()).is_ok_and(|to| sockets.iter().any(|one| to == Path::new(one)))
    })
}

/// The sockets that listen on a port (state 0A, port in hex), as `/proc/PID/fd` names them.
fn listening(table: &str, port: u16) -> Vec<String> {
    let wanted = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
            (local.ends_with(&wanted) && *state == "0A").then(|| format!("socket:[{inode}]"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_lists_of_published_ports_are_understood() {
        let ports = "127.0.0.1:30080-30082->30080-30082/tcp, [::]:81->80/tcp, 9000/tcp";
        for (port, held) in [(30080, true), (30082, true), (30083, false), (81, true), (80, false)]
        {
            assert_eq!(publishes(ports, port), held, "{port}");
        }
        assert!(!publishes("", 80));
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:7558 00000000:0000 0A 0:0 0:0 0 0 0 127935 1 0\n\
            1: 0100007F:7558 0100007F:9999 01 0:0 0:0 0 0 0 127936 1 0\n";
        assert_eq!(listening(table, 30040), ["socket:[127935]"]);
        assert!(listening(table, 30041).is_empty());
    }

    #[test]
    fn a_taken_port_names_this_very_process() {
        let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let error = check(&[port], "no-such-engine").unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&format!("port {port} is taken by")), "{text}");
        assert!(text.contains(&format!("(process {})", std::process::id())), "{text}");
        assert_eq!(crate::exit::code(&error), Exit::Environment);
        drop(socket);
        check(&[port], "no-such-engine").unwrap();
    }
}
