//! Real 429s from the Kubernetes API, for one `ServiceAccount` only.
//!
//! A `FlowSchema` sends the account's requests to a `PriorityLevelConfiguration` with no shares
//! that rejects what it cannot run. The API server still lets one request at a time through such a
//! level (seen with 1.34), so the only seat is taken: a POST in the account's name whose body never
//! comes holds it for as long as kubectl's stdin stays open, 60 s at most. Everything else of the
//! account gets 429 with Retry-After.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use harness::eventually::{SOON, eventually};
use harness::kubectl::{self, Background};
use harness::namespace::{Namespace, unique};

/// A limit in force; lifted on drop.
#[derive(Debug)]
pub struct RateLimit {
    name: String,
    /// Holds the level's only seat.
    holder: Background,
}

impl RateLimit {
    /// Returns when the API server rejects every request of `service_account` in `namespace`.
    pub fn impose(namespace: &Namespace, service_account: &str) -> Result<Self> {
        let name = unique("e2e-jail");
        // The schema first: once the level is known, the schema that leads to it is in force.
        kubectl::create_all(&[
            flow_schema(&name, namespace.name(), service_account),
            priority_level(&name),
        ])?;
        let holder = eventually("the API server knows the priority level", SOON, || {
            executing(&name)?;
            hold_seat(namespace.name(), service_account)
        });
        let mut limit = match holder {
            Ok(holder) => Self { name, holder },
            Err(error) => {
                delete(&name);
                return Err(error);
            }
        };
        eventually("the priority level's only seat is taken", SOON, || {
            if !limit.holder.is_running() {
                limit.holder = hold_seat(namespace.name(), service_account)?;
            }
            ensure!(executing(&limit.name)? > 0, "nothing executes in the level");
            Ok(())
        })?;
        Ok(limit)
    }

    /// Lifts the limit now.
    pub fn lift(self) {
        drop(self);
    }
}

impl Drop for RateLimit {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Best effort: the names are unique, so what stays behind matches no later account.
fn delete(name: &str) {
    drop(kubectl::run(&["delete", "flowschema", name]));
    drop(kubectl::run(&["delete", "prioritylevelconfiguration", name]));
}

fn flow_schema(name: &str, namespace: &str, service_account: &str) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": { "name": name },
        "spec": {
            "priorityLevelConfiguration": { "name": name },
            "matchingPrecedence": 500,
            "rules": [{
                "subjects": [{
                    "kind": "ServiceAccount",
                    "serviceAccount": { "name": service_account, "namespace": namespace },
                }],
                "resourceRules": [{
                    "verbs": ["*"],
                    "apiGroups": ["*"],
                    "resources": ["*"],
                    "namespaces": ["*"],
                    "clusterScope": true,
                }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }],
        },
    })
}

fn priority_level(name: &str) -> Value {
    json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": { "name": name },
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 0,
                "borrowingLimitPercent": 0,
                "lendablePercent": 0,
                "limitResponse": { "type": "Reject" },
            },
        },
    })
}

/// A POST in the account's name that never sends its body. What it posts to does not matter as
/// long as the account may: an unauthorised request is answered at once and holds nothing.
fn hold_seat(namespace: &str, service_account: &str) -> Result<Background> {
    let account = format!("--as=system:serviceaccount:{namespace}:{service_account}");
    let path = format!("/apis/kubernaut.ai/v1alpha1/namespaces/{namespace}/remediationrequests");
    Background::start(&[&account, "create", "--raw", &path, "--filename", "-"])
}

/// Requests executing in the level now; an error while the API server does not know the level.
fn executing(level: &str) -> Result<u32> {
    let path = "/debug/api_priority_and_fairness/dump_priority_levels";
    executing_in(&kubectl::run(&["get", "--raw", path])?, level)
        .with_context(|| format!("failed to find level `{level}` in the API server's dump"))
}

/// Reads the dump: a CSV with a heading, `PriorityLevelName, …, ExecutingRequests, …`.
fn executing_in(dump: &str, level: &str) -> Option<u32> {
    let cells = |line: &str| -> Vec<String> {
        line.split(',').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = dump.lines();
    let column = cells(lines.next()?).iter().position(|name| name == "ExecutingRequests")?;
    let row = lines.map(cells).find(|row| row.first().is_some_and(|name| name == level))?;
    row.get(column)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::executing_in;

    #[test]
    fn the_dump_is_read_by_its_heading() {
        let dump = "PriorityLevelName, ActiveQueues, ExecutingRequests, \n\
                    exempt,            0,            3, \n\
                    jail,              0,            1, \n";
        assert_eq!(executing_in(dump, "jail"), Some(1));
        assert_eq!(executing_in(dump, "jai"), None);
        assert_eq!(executing_in("", "jail"), None);
    }
}
