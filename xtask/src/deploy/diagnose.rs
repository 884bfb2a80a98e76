//! Everything about the cluster that could tell why a run failed, into one folder.
//!
//! ```text
//! pods.txt  events.txt  objects.yaml                  of all namespaces
//! logs/NAMESPACE/POD.CONTAINER.log  ….previous.log    current, and before the last restart
//! nodes/NODE/images.txt  memory.txt  disk.txt  processes.txt  kubelet.log  state.json  console.log
//! engine/info.txt  containers.txt  usage.txt
//! ```
//!
//! On a cluster that others run, each of the run's own namespaces has a folder of that, and nothing
//! of anybody else's is read.
//!
//! It runs after a failure and before teardown, also when the run is being stopped: every question
//! has a limit, several are asked at once, and one that fails leaves its error in the place of the
//! answer.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::api::Log;
use super::look::Snapshots;
use super::verdict::{name, text};
use crate::error;
use crate::process::Tool;

/// How long each question may take, of the ten seconds for all.
const LIMIT: Duration = Duration::from_secs(8);

/// Log lines kept of a container.
const LINES: usize = 2000;

/// Kinds that are shown whole.
const KINDS: &str = "nodes,namespaces,deployments,statefulsets,daemonsets,replicasets,jobs,pods,\
                     services,endpointslices,configmaps,persistentvolumeclaims";

/// Those of them that are in a namespace.
const KINDS_INSIDE: &str = "deployments,statefulsets,daemonsets,replicasets,jobs,pods,services,\
                            endpointslices,configmaps,persistentvolumeclaims";

/// How many questions are asked at once.
const AT_ONCE: usize = 4;

/// Writes everything it can get, or, with `only`, what is in these namespaces. `engine` is `podman`
/// or `docker`.
pub fn diagnose(
    looks: &Snapshots,
    engine: &Tool,
    (nodes, only): (&[String], Option<&[String]>),
    folder: &Path,
) {
    let mut questions = match only {
        None => overview(looks.kubectl(), "--all-namespaces", KINDS, folder),
        Some(only) => {
            only.iter().flat_map(|one| of_namespace(looks.kubectl(), one, folder)).collect()
        }
    };
    questions.extend(nodes.iter().flat_map(|node| of_node(engine, node, folder)));
    questions.extend(of_engine(engine, folder));
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(question) = questions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    question.ask();
                }
            });
        }
        for path in pods(only) {
            logs(looks, &path, &folder.join("logs"));
        }
    });
}

struct Question {
    tool: Tool,
    answer: PathBuf,
}

impl Question {
    fn ask(&self) {
        let answer = self.tool.clone().despite_stop().limit(LIMIT).read();
        write(&self.answer, &answer.unwrap_or_else(|failure| failure.to_string()));
    }
}

/// What cannot be written down is no reason to stop collecting the rest.
fn write(file: &Path, answer: &str) {
    if let Some(folder) = file.parent() {
        fs_err::create_dir_all(folder).ok();
    }
    fs_err::write(file, answer).ok();
}

fn of_namespace(kubectl: &Tool, namespace: &str, folder: &Path) -> Vec<Question> {
    let scope = format!("--namespace={namespace}");
    overview(kubectl, &scope, KINDS_INSIDE, &folder.join("namespaces").join(namespace))
}

/// Where the API lists the pods whose logs are wanted.
fn pods(only: Option<&[String]>) -> Vec<String> {
    match only {
        None => vec!["/api/v1/pods".to_owned()],
        Some(only) => only.iter().map(|one| format!("/api/v1/namespaces/{one}/pods")).collect(),
    }
}

fn overview(kubectl: &Tool, scope: &str, kinds: &str, folder: &Path) -> Vec<Question> {
    [
        ("pods.txt", vec!["get", "pods", "-o", "wide"]),
        ("events.txt", vec!["get", "events", "--sort-by=.lastTimestamp", "-o", "wide"]),
        ("objects.yaml", vec!["get", kinds, "-o", "yaml"]),
    ]
    .into_iter()
    .map(|(file, args)| Question {
        tool: kubectl.clone().args(args).arg(scope),
        answer: folder.join(file),
    })
    .collect()
}

/// The logs of all containers, through the API: a `kubectl logs` for each would take half a minute.
fn logs(looks: &Snapshots, path: &str, folder: &Path) {
    let pods = match looks.api().get(path) {
        Ok(pods) => pods.unwrap_or_default(),
        Err(error) => return write(&folder.join("failed.txt"), &error::told(&error)),
    };
    for pod in pods["items"].as_array().into_iter().flatten() {
        let namespace = text(&pod["metadata"]["namespace"]);
        for (container, restarts) in containers(pod) {
            for previous in [false, true].into_iter().take(if restarts > 0 { 2 } else { 1 }) {
                let log = Log { namespace, pod: name(pod), container, lines: LINES, previous };
                let ending = if previous { "previous.log" } else { "log" };
                let file =
                    folder.join(namespace).join(format!("{}.{container}.{ending}", name(pod)));
                if let Some(lines) = looks.api().log(&log) {
                    write(&file, &lines);
                }
            }
        }
    }
}

/// Names of a pod's containers, and how often each was started again.
fn containers(pod: &Value) -> Vec<(&str, u64)> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(|list| pod["status"][list].as_array().into_iter().flatten())
        .map(|one| (text(&one["name"]), one["restartCount"].as_u64().unwrap_or_default()))
        .collect()
}

fn of_node(engine: &Tool, node: &str, folder: &Path) -> Vec<Question> {
    let folder = folder.join("nodes").join(node);
    let outside = [
        ("state.json", vec!["inspect", "--format", "{{json .State}}", node]),
        ("console.log", vec!["logs", "--tail", "200", node]),
    ];
    let outside = outside.into_iter().map(|(file, args)| Question {
        tool: engine.clone().args(args),
        answer: folder.join(file),
    });
    let ctr = ["ctr", "--namespace", "k8s.io", "images", "ls"];
    let kubelet = ["journalctl", "--unit", "kubelet", "--no-pager", "--lines", "500"];
    [
        ("images.txt", ctr.as_slice()),
        ("memory.txt", &["cat", "/proc/meminfo"]),
        ("disk.txt", &["df", "-h"]),
        ("processes.txt", &["ps", "-eo", "pid,rss,stat,etime,args", "--sort=-rss"]),
        ("kubelet.log", &kubelet),
    ]
    .into_iter()
    .map(|(file, args)| Question {
        tool: engine.clone().args(["exec", node]).args(args.iter().copied()),
        answer: folder.join(file),
    })
    .chain(outside)
    .collect()
}

/// What the machine that runs it all has left.
fn of_engine(engine: &Tool, folder: &Path) -> Vec<Question> {
    let folder = folder.join("engine");
    [
        ("info.txt", &["info"][..]),
        ("containers.txt", &["ps", "--all"]),
        ("usage.txt", &["stats", "--no-stream"]),
    ]
    .into_iter()
    .map(|(file, args)| Question {
        tool: engine.clone().args(args.iter().copied()),
        answer: folder.join(file),
    })
    .collect()
}
