//! core/v1 Events, as a watcher of the Kubernetes API would pass them on.

use std::time::SystemTime;

use serde_json::{Value, json};

use harness::namespace::unique;

/// A Warning about a pod.
pub fn warning(reason: &str, namespace: &str, pod: &str) -> Value {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": unique(pod), "namespace": namespace },
        "type": "Warning",
        "reason": reason,
        "message": "Made by a spec",
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": pod,
        },
        "source": { "component": "kubelet" },
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}
