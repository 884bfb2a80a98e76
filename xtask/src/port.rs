//! Who holds a port of this host.
//!
//! The container that publishes it or, if none does, the process whose socket listens:
//! `/proc/net/tcp*` leads from the port to an inode, `/proc/PID/fd` from the inode to the process.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::kernel;
use crate::process::Tool;

/// Whoever listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Container(String),
    Process {
        pid: u32,
        name: String,
    },
    /// Whom we may not see into.
    OtherUser,
}

/// A running container and the ports it publishes, as `ps` prints them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publisher {
    pub(crate) container: String,
    pub(crate) ports: String,
}

/// The longest an engine may take over the question.
const ANSWER: Duration = Duration::from_secs(30);

/// The holder of a taken port.
pub(crate) fn holder(port: u16, publishers: &[Publisher]) -> Holder {
    let publishes = |one: &&Publisher| ranges(&one.ports).any(|range| range.contains(&port));
    if let Some(publisher) = publishers.iter().find(publishes) {
        return Holder::Container(publisher.container.clone());
    }
    listener(port).unwrap_or(Holder::OtherUser)
}

/// All running containers; none where the engine does not say.
pub(crate) fn publishers(engine: &str) -> Vec<Publisher> {
    let text = Tool::new(engine)
        .args(["ps", "--format", "{{.Names}}\t{{.Ports}}"])
        .limit(ANSWER)
        .read()
        .unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once('\t'));
    let publisher = |(container, ports): (&str, &str)| Publisher {
        container: container.to_owned(),
        ports: ports.to_owned(),
    };
    pairs.map(publisher).collect()
}

/// The host ports of `127.0.0.1:30080-30081->30080-30081/tcp, [::]:80->80/tcp`.
pub(crate) fn ranges(ports: &str) -> impl Iterator<Item = RangeInclusive<u16>> {
    ports.split(", ").filter_map(|mapping| {
        let (host, _) = mapping.split_once("->")?;
        let (_, range) = host.rsplit_once(':')?;
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    })
}

/// What listens on a port, as far as we may see it.
fn listener(port: u16) -> Option<Holder> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs_err::read_to_string(table).ok())
        .flat_map(|table| listening(&table, port))
        .collect();
    kernel::processes(Path::new("/")).find(|(_, folder)| holds_one_of(folder, &inodes)).map(
        |(pid, folder)| {
            let name = fs_err::read_to_string(folder.join("comm")).unwrap_or_default();
            Holder::Process { pid: pid.unsigned_abs(), name: name.trim().to_owned() }
        },
    )
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

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Container(name) => write!(f, "container `{name}`"),
            Holder::Process { pid, name } => write!(f, "`{name}` (process {pid})"),
            Holder::OtherUser => f.write_str("a process of another user"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_lists_of_published_ports_are_understood() {
        let ports = "127.0.0.1:30080-30082->30080-30082/tcp, [::]:81->80/tcp, 9000/tcp";
        assert_eq!(ranges(ports).collect::<Vec<_>>(), [30080..=30082, 81..=81]);
        assert_eq!(ranges("").count(), 0);
    }

    #[test]
    fn a_container_is_named_before_the_process_that_publishes_for_it() {
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let publisher =
            Publisher { container: "web".into(), ports: format!("0.0.0.0:{port}->80/tcp") };
        assert_eq!(holder(port, &[publisher]), Holder::Container("web".into()));
        let Holder::Process { pid, .. } = holder(port, &[]) else { panic!("nobody listens") };
        assert_eq!(pid, std::process::id());
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st\n\
            0: 0100007F:7558 00000000:0000 0A 0:0 0:0 0 0 0 127935 1 0\n\
            1: 0100007F:7558 0100007F:9999 01 0:0 0:0 0 0 0 127936 1 0\n";
        assert_eq!(listening(table, 30040), ["socket:[127935]"]);
        assert!(listening(table, 30041).is_empty());
    }
}
