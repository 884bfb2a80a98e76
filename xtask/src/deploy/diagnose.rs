//! Everything about the cluster that could tell why a run failed, into one folder.
//!
//! ```text
//! pods.txt  events.txt  objects.yaml          of all namespaces
//! logs/NAMESPACE/POD.log  POD.previous.log    all containers, current and before their last restart
//! nodes/NODE/images.txt  memory.txt  disk.txt  processes.txt  kubelet.log
//! ```
//!
//! It runs after a failure and before teardown, also when the run is being stopped: every question has a
//! limit, all are asked at once, and one that fails leaves its error in the place of the answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::apply::items;
use super::verdict::{name, text};
use crate::process::Tool;

/// How long each question may take: half of the ten seconds, as logs come after the list of pods.
const LIMIT: Duration = Duration::from_secs(5);

/// Log lines kept of a container: the tests' own logs are elsewhere.
const LINES: &str = "2000";

/// How many questions are asked at once.
const AT_ONCE: usize = 6;

/// Writes everything it can get. `engine` is `podman` or `docker`.
pub fn diagnose(kubectl: &Tool, engine: &Tool, nodes: &[String], folder: &Path) {
    let pods = kubectl
        .clone()
        .args(["get", "pods", "--all-namespaces", "-o", "json"])
        .despite_stop()
        .limit(LIMIT)
        .read();
    let mut questions = overview(kubectl, folder);
    questions.extend(nodes.iter().flat_map(|node| of_node(engine, node, folder)));
    questions.extend(
        items(&pods.unwrap_or_default()).iter().flat_map(|pod| of_pod(kubectl, pod, folder)),
    );
    let each = questions.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        for share in questions.chunks(each) {
            scope.spawn(move || share.iter().for_each(Question::ask));
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
        let answer = answer.unwrap_or_else(|failure| failure.to_string());
        // What cannot be written down is no reason to stop collecting the rest.
        if let Some(folder) = self.answer.parent() {
            fs_err::create_dir_all(folder).ok();
        }
        fs_err::write(&self.answer, answer + "\n").ok();
    }
}

fn overview(kubectl: &Tool, folder: &Path) -> Vec<Question> {
    let kinds = "nodes,namespaces,deployments,statefulsets,daemonsets,replicasets,jobs,pods,\
                 services,endpointslices,configmaps,persistentvolumeclaims";
    [
        ("pods.txt", vec!["get", "pods", "-o", "wide"]),
        ("events.txt", vec!["get", "events", "--sort-by=.lastTimestamp", "-o", "wide"]),
        ("objects.yaml", vec!["get", kinds, "-o", "yaml"]),
    ]
    .into_iter()
    .map(|(file, args)| Question {
        tool: kubectl.clone().args(args).arg("--all-namespaces"),
        answer: folder.join(file),
    })
    .collect()
}

fn of_pod(kubectl: &Tool, pod: &Value, folder: &Path) -> Vec<Question> {
    let namespace = text(&pod["metadata"]["namespace"]);
    let folder = folder.join("logs").join(namespace);
    let logs = kubectl
        .clone()
        .args(["logs", "--all-containers", "--prefix", "--timestamps", "--tail", LINES])
        .args(["--namespace", namespace, name(pod)]);
    let mut questions =
        vec![Question { tool: logs.clone(), answer: folder.join(format!("{}.log", name(pod))) }];
    let restarted = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    if restarted.filter_map(|one| one["restartCount"].as_u64()).any(|count| count > 0) {
        let answer = folder.join(format!("{}.previous.log", name(pod)));
        questions.push(Question { tool: logs.arg("--previous"), answer });
    }
    questions
}

fn of_node(engine: &Tool, node: &str, folder: &Path) -> Vec<Question> {
    let folder = folder.join("nodes").join(node);
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
    .collect()
}
