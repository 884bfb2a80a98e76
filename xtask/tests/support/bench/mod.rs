//! A bench for false greens: a whole run of the command line over a fake engine and a fake cluster,
//! and who answered its tests.
//!
//! | module | what it holds |
//! | --- | --- |
//! | `objects` | the API server: objects, their versions and managers, server-side apply |
//! | `cluster` | controllers, a kubelet, and the way from a host port to a pod; time is counted in looks |
//! | `programs` | the command lines of kubectl, kind and podman |
//! | `serve` | the sockets, and what happens behind the run's back |
//!
//! The suite's test is `ask` (`../stand_in.rs`): it passes whoever answers. So a run that ends with
//! 0 says that what the manifests and images say is what was tested, and [`Bench::green`] holds it
//! to that.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod cluster;
pub(crate) mod objects;
mod programs;
mod serve;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use self::cluster::{Cluster, Pace};
pub(crate) use self::serve::{Asked, Moment};
use self::serve::{Shared, State};
use super::support::{Case, Ran};

/// Quick enough for a test, and slow enough for a wait that does not look to be wrong.
const PACE: Pace = Pace { start: 1, end: 1, job: 1, garbage: 1, custom: 2 };

/// A Deployment with a readiness probe, and its Service.
pub(crate) const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web
        readinessProbe: {httpGet: {path: /, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";

pub(crate) struct Bench {
    pub(crate) case: Case,
    shared: Arc<Shared>,
    port: u16,
}

impl Bench {
    /// With one image, `web`, and these steps of the suite `s`; `{PORT}`… are filled in by xtask.
    pub(crate) fn new(steps: &str) -> Self {
        let case = Case::new();
        let script = case.engine("podman");
        fs_err::rename(&script, case.engine("podman-images")).unwrap();
        for name in ["podman", "kind", "kubectl", "ask"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_stand-in"), case.engine(name)).unwrap();
        }
        let shared = Shared::new(State::new(&case.engine(""), PACE), real("kubectl"));
        shared.serve_programs(&case.engine("bench.sock"));
        let bench = Self { case, shared, port: free_port() };
        bench.steps(steps);
        bench.case.write("web.Dockerfile", "FROM scratch\nCOPY web /web\n");
        bench.case.write("other.Dockerfile", "FROM scratch\nCOPY other /other\n");
        bench.case.write("other/index", "1");
        bench.case.write("k8s/web.yaml", WEB);
        bench.serve("1");
        bench
    }

    /// The steps anew.
    pub(crate) fn steps(&self, steps: &str) {
        self.configure("images = ['web']\ntest = { run = ['ask'] }", steps);
    }

    /// The suite and its steps anew.
    pub(crate) fn configure(&self, suite: &str, steps: &str) {
        let port = self.port;
        self.case.write(
            "xtask.toml",
            &format!(
                "[images.web]\ndockerfile = 'web.Dockerfile'\n\
                 [images.other]\ndockerfile = 'other.Dockerfile'\n[clusters.c]\nname = 'c'\nmemory = '1 MiB'\n\
                 [ports]\nweb = {{ host = {port}, node = 30080 }}\n\
                 [suites.s]\ncluster = 'c'\n{suite}\n{steps}\n"
            ),
        );
    }

    /// Another text to be served: another image.
    pub(crate) fn serve(&self, text: &str) {
        self.case.write("web/index", text);
    }

    /// A run on the kept cluster.
    pub(crate) fn e2e(&self, args: &[&str]) -> Ran {
        self.shared.lock().begin();
        let all: Vec<&str> = ["e2e", "s", "--keep"].iter().chain(args).copied().collect();
        let ran = self.case.run(&all);
        self.shared.lock().happenings.clear();
        let unknown = std::mem::take(&mut self.shared.lock().unknown);
        assert!(unknown.is_empty(), "{unknown:?}\n{}", ran.stderr);
        ran
    }

    /// A run's command, for who ends it in the middle.
    pub(crate) fn started(&self, args: &[&str]) -> std::process::Command {
        self.shared.lock().begin();
        self.case.command(args)
    }

    /// A run that is expected to be green, and to be right about it.
    pub(crate) fn green(&self, args: &[&str]) -> Ran {
        let ran = self.e2e(args);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        self.hold(&ran);
        ran
    }

    /// A run that may fail, but not pass on what is not so.
    pub(crate) fn right(&self, args: &[&str]) -> Ran {
        let ran = self.e2e(args);
        if ran.code == Some(0) {
            self.hold(&ran);
        }
        ran
    }

    /// Whoever answered the tests of a green run was the image that was built and loaded, and no
    /// pod of another was left.
    fn hold(&self, ran: &Ran) {
        let asked = self.asked();
        assert!(!asked.is_empty(), "no test asked anybody\n{}", ran.stderr);
        for one in &asked {
            let by = one.by.as_ref().and_then(|by| by["id"].as_str());
            let why = || format!("{one:#?}\n{}", ran.stderr);
            assert!(one.built.is_some(), "the engine has no `{}`: {}", one.given, why());
            assert_eq!(one.loaded, one.built, "on the node, and built: {}", why());
            assert_eq!(by, one.built.as_deref(), "who answered, and what was built: {}", why());
            assert!(one.strays.is_empty(), "pods that should have gone: {}", why());
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.lock().asked.clone()
    }

    /// What the pod that answered was started with.
    pub(crate) fn answered(&self, what: &str) -> Value {
        let asked = self.asked();
        asked.last().and_then(|one| one.by.as_ref()).map(|by| by[what].clone()).unwrap_or_default()
    }

    pub(crate) fn cluster<T>(&self, work: impl FnOnce(&mut Cluster) -> T) -> T {
        work(self.shared.lock().cluster.as_mut().unwrap())
    }

    pub(crate) fn set<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.shared.lock())
    }

    /// Has something happen behind the run's back.
    pub(crate) fn when(
        &self,
        moment: Moment,
        happening: impl FnOnce(&mut Cluster) + Send + 'static,
    ) {
        self.shared.lock().happenings.push((moment, Box::new(happening)));
    }

    /// What is seen of the cluster when the next run's test begins.
    pub(crate) fn at_test<T: Send + 'static>(
        &self,
        see: impl FnOnce(&mut Cluster) -> T + Send + 'static,
    ) -> Arc<Mutex<Option<T>>> {
        let seen = Arc::new(Mutex::new(None));
        let put = Arc::clone(&seen);
        self.when(Moment::Test, move |cluster| *put.lock().unwrap() = Some(see(cluster)));
        seen
    }

    /// Has the next write of an object happen right behind a look.
    pub(crate) fn write_after_a_look(&self, name: &str) {
        self.shared.lock().after_a_look.push(name.to_owned());
    }

    /// kubectl's calls of the last run.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.lock().calls.clone()
    }

    /// How often the last run asked for the pods.
    pub(crate) fn looks(&self) -> usize {
        let is_look =
            |path: &&String| path.split('?').next().is_some_and(|path| path.ends_with("/pods"));
        self.shared.lock().paths.iter().filter(is_look).count()
    }
}

/// Where the machine's own program is.
fn real(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("this needs `{program}`, to render manifests"))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
