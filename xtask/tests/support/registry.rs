//! Debian's `docker-registry` on a free port, with a folder of its own.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use super::machine::children;

/// How long something may take until it must have happened.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// `someone`, `open-sesame`: as htpasswd writes it.
const HTPASSWD: &str = "someone:$2y$05$UpBbAgo8RQvwRc1Q1K7Sv.dQ.xLCKW6iapj7Z1w9mMMxzfS.033jG\n";

/// A registry of our own; ended when dropped.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
    pub(crate) folder: tempfile::TempDir,
}

impl Registry {
    /// On the loopback alone.
    pub(crate) fn start(with_login: bool) -> Self {
        Self::listening("127.0.0.1", with_login, "")
    }

    /// On the loopback alone; it takes nothing.
    pub(crate) fn read_only() -> Self {
        Self::listening("127.0.0.1", false, ", maintenance: {readonly: {enabled: true}}")
    }

    /// On every address of this host, so that the nodes of a cluster reach it.
    pub(crate) fn for_nodes() -> Self {
        Self::listening("0.0.0.0", false, "")
    }

    fn listening(address: &str, with_login: bool, storage: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let place = folder.path().display();
        let auth = if with_login {
            fs_err::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
            format!("auth: {{htpasswd: {{realm: test, path: {place}/htpasswd}}}}\n")
        } else {
            String::new()
        };
        let settings = format!(
            "version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}:{port}'}}\n\
             storage: {{filesystem: {{rootdirectory: {place}/data}}{storage}}}\n{auth}"
        );
        fs_err::write(folder.path().join("config.yml"), settings).unwrap();
        let log = fs_err::File::create(folder.path().join("log")).unwrap().into_parts().0;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(folder.path().join("config.yml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        assert!(child.is_ok(), "this needs `docker-registry`: apt-get install docker-registry");
        let child = child.unwrap();
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "the registry does not come up");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, folder }
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data/docker/registry/v2")
    }

    /// Repositories that something was put into.
    pub(crate) fn repositories(&self) -> usize {
        fs_err::read_dir(self.data().join("repositories/team")).map_or(0, Iterator::count)
    }

    /// Files of layers, which are compressed.
    pub(crate) fn layers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for first in children(&self.data().join("blobs/sha256")) {
            found.extend(children(&first).into_iter().map(|blob| blob.join("data")));
        }
        found.retain(|file| fs_err::read(file).is_ok_and(|bytes| bytes.starts_with(&[0x1f, 0x8b])));
        found
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
