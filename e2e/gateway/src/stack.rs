//! A gateway of a spec's own, for specs that break things or count exactly.
//!
//! The Deployments and Services of the running gateway and Redis are copied into the spec's
//! namespace, so a copy runs the very images and settings under test. It differs in what the spec
//! asks for, in its `ServiceAccount`, in having no `NodePort`, and in asking for almost no CPU, for
//! half a dozen must fit beside the shared one. `DataStorage` and PostgreSQL stay shared.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::deployment;
use crate::env::{self, Env};
use crate::eventually::{SOON, eventually};
use crate::gateway::{Gateway, SYSTEM_NAMESPACE};
use crate::kubectl;
use crate::namespace::{Namespace, unique};
use crate::port_forward::PortForward;

/// The private gateway and, unless asked otherwise, its Redis; gone on drop.
#[derive(Debug)]
pub struct Stack {
    forward: PortForward,
    port: u64,
    _role_binding: RoleBinding,
    namespace: Namespace,
}

/// What a private stack consists of, and how its gateway differs from the shared one.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The spec's short name, for the namespace.
    pub spec: &'a str,
    /// Environment of the gateway, on top of the shared one's.
    pub env: &'a [(&'a str, &'a str)],
    /// Copied Deployments beside the gateway's.
    pub with: &'a [&'a str],
    /// The path that answers 200 once the stack is what the spec wants.
    pub ready_path: &'a str,
}

/// The gateway's rights are cluster-wide, so the grant is too; deleted on drop.
#[derive(Debug)]
struct RoleBinding {
    name: String,
}

impl Stack {
    /// Gateway and Redis, ready and joined. De-duplication outlives the spec unless `env` says
    /// otherwise.
    pub fn start(spec: &str, env: &[(&str, &str)]) -> Result<Self> {
        let env = [&[("DEDUP_TTL", "10m")], env].concat();
        let plan = Plan { spec, env: &env, with: &["redis"], ready_path: "/readyz" };
        let mut stack = Self::start_plan(plan)?;
        stack.await_check("redis", "ok")?;
        Ok(stack)
    }

    /// A gateway alone, alive, for which the Kubernetes API is not there.
    pub fn start_cut_off(spec: &str) -> Result<Self> {
        let nowhere = &[("KUBE_API_URL", "http://127.0.0.1:9"), ("KUBE_RETRY_BUDGET", "1s")];
        Self::start_plan(Plan { spec, env: nowhere, with: &[], ready_path: "/healthz" })
    }

    /// What `plan` describes; returns when its path answers 200.
    pub fn start_plan(plan: Plan<'_>) -> Result<Self> {
        Env::from_run()?;
        let namespace = Namespace::create(plan.spec)?;
        let deployment = shared("deployment", "gateway")?;
        let account = service_account(&deployment)?;
        let port = container(&deployment)["ports"][0]["containerPort"]
            .as_u64()
            .context("failed to find the gateway's container port")?;
        let role_binding = RoleBinding::like_shared(&namespace, account)?;

        let mut items = vec![json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": account },
        })];
        for name in plan.with {
            items.push(private_deployment(&shared("deployment", name)?, &[])?);
            items.push(private_service(&shared("service", name)?));
        }
        let datastorage = far_datastorage(&deployment);
        let mut env: Vec<_> =
            datastorage.iter().map(|url| ("DATASTORAGE_URL", url.as_str())).collect();
        env.extend(plan.env);
        items.push(private_deployment(&deployment, &env)?);
        for item in &mut items {
            item["metadata"]["namespace"] = json!(namespace.name());
        }
        kubectl::create_all(&items)?;

        let forward = open_forward(&namespace, port)?;
        let mut stack = Self { forward, port, _role_binding: role_binding, namespace };
        stack.await_ok(plan.ready_path)?;
        Ok(stack)
    }

    /// The private gateway, at its address of this moment: a restart changes it.
    pub fn gateway(&self) -> Gateway {
        Gateway::at(self.forward.url())
    }

    /// The namespace the stack runs in; the spec's own signals may be about it too.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Waits until `path` answers 200, through a new connection if the old one has died.
    pub fn await_ok(&mut self, path: &str) -> Result<()> {
        let what = format!("the gateway in `{}` answers 200 to {path}", self.namespace.name());
        eventually(&what, SOON, || {
            let answer = self.live_gateway()?.get(path)?;
            ensure!(answer.status == 200, "it says {answer:?}");
            Ok(())
        })
    }

    /// Waits until `/readyz` reports `state` for `check`, such as `redis`, `degraded`.
    pub fn await_check(&mut self, check: &str, state: &str) -> Result<()> {
        let what = format!("/readyz in `{}` reports {check} {state}", self.namespace.name());
        eventually(&what, SOON, || {
            let (_, seen) = self.live_gateway()?.readiness(check)?;
            ensure!(seen == state, "it says {seen}");
            Ok(())
        })
    }

    /// The pods of one of the stack's Deployments that are not going away.
    pub fn pods(&self, deployment: &str) -> Result<Vec<Value>> {
        deployment::pods(self.namespace.name(), deployment)
    }

    /// Scales one of the stack's Deployments and waits until its pods are as many.
    pub fn scale(&self, deployment: &str, replicas: usize) -> Result<()> {
        let namespace = self.namespace.name();
        let count = format!("--replicas={replicas}");
        kubectl::run(&["scale", "deployment", deployment, "--namespace", namespace, &count])?;
        eventually(&format!("`{deployment}` has {replicas} pods"), SOON, || {
            let pods = self.pods(deployment)?;
            ensure!(pods.len() == replicas, "it has {}", pods.len());
            Ok(())
        })
    }

    /// Opens another connection: after a restart the old one may be dead without knowing it, or lead
    /// to a pod that is deleted and still runs.
    pub fn reconnect(&mut self) -> Result<()> {
        self.forward = open_forward(&self.namespace, self.port)?;
        Ok(())
    }

    fn live_gateway(&mut self) -> Result<Gateway> {
        if !self.forward.is_alive() {
            self.reconnect()?;
        }
        Ok(self.gateway())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // What a person reads after a failure; without it a spec fails no differently.
        drop(self.save_logs());
    }
}

impl Stack {
    fn save_logs(&self) -> Result<()> {
        let Some(dir) = env::artifacts() else { return Ok(()) };
        let namespace = self.namespace.name();
        let logs = deployment::logs(namespace, "gateway", "1h")?;
        fs_err::create_dir_all(&dir)?;
        fs_err::write(dir.join(format!("{namespace}.gateway.log")), logs)?;
        Ok(())
    }
}

impl RoleBinding {
    /// Grants `account` of `namespace` what the shared gateway's account was granted.
    fn like_shared(namespace: &Namespace, account: &str) -> Result<Self> {
        let bindings = kubectl::json(&["get", "clusterrolebindings"])?;
        let is_shared = |subject: &Value| {
            subject["kind"] == "ServiceAccount"
                && subject["name"] == account
                && subject["namespace"] == SYSTEM_NAMESPACE
        };
        let role = bindings["items"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|binding| binding["subjects"].as_array().into_iter().flatten().any(is_shared))
            .map(|binding| binding["roleRef"].clone())
            .with_context(|| format!("failed to find the ClusterRole of `{account}`"))?;
        let name = unique("e2e-gateway");
        kubectl::create(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": { "name": name },
            "roleRef": role,
            "subjects": [{
                "kind": "ServiceAccount", "name": account, "namespace": namespace.name(),
            }],
        }))?;
        Ok(Self { name })
    }
}

impl Drop for RoleBinding {
    fn drop(&mut self) {
        // Its only subject goes away with the namespace, so a leftover grants nothing.
        drop(kubectl::run(&["delete", "clusterrolebinding", &self.name, "--wait=false"]));
    }
}

const TARGET: &str = "deployment/gateway";

/// kubectl refuses while there is no running pod.
fn open_forward(namespace: &Namespace, port: u64) -> Result<PortForward> {
    let what = format!("the gateway in `{}` can be reached", namespace.name());
    eventually(&what, SOON, || PortForward::open(namespace.name(), TARGET, port))
}

fn shared(kind: &str, name: &str) -> Result<Value> {
    kubectl::json(&["get", kind, name, "--namespace", SYSTEM_NAMESPACE])
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn service_account(deployment: &Value) -> Result<&str> {
    deployment["spec"]["template"]["spec"]["serviceAccountName"]
        .as_str()
        .context("failed to find the gateway's ServiceAccount")
}

/// `DataStorage`'s address as seen from another namespace.
fn far_datastorage(gateway: &Value) -> Option<String> {
    let env = container(gateway)["env"].as_array()?;
    let url =
        env.iter().find(|variable| variable["name"] == "DATASTORAGE_URL")?["value"].as_str()?;
    Some(url.replacen("//datastorage:", &format!("//datastorage.{SYSTEM_NAMESPACE}:"), 1))
}

/// What `kubectl create` needs of a running Deployment, with `env` set on its first container.
fn private_deployment(running: &Value, env: &[(&str, &str)]) -> Result<Value> {
    let spec = &running["spec"];
    let mut template = spec["template"].clone();
    let container = template["spec"]["containers"][0]
        .as_object_mut()
        .context("failed to find a container in the Deployment")?;
    for (name, value) in env {
        set_env(container, name, value);
    }
    container["resources"]["requests"]["cpu"] = json!("5m");
    Ok(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": running["metadata"]["name"], "labels": running["metadata"]["labels"] },
        "spec": {
            "replicas": 1,
            "selector": spec["selector"],
            "strategy": spec["strategy"],
            "template": template,
        },
    }))
}

fn set_env(container: &mut Map<String, Value>, name: &str, value: &str) {
    let env = container.entry("env").or_insert_with(|| json!([]));
    if let Value::Array(variables) = env {
        variables.retain(|variable| variable["name"] != name);
        variables.push(json!({ "name": name, "value": value }));
    }
}

/// The Service without what the API server gave it: addresses and node ports.
fn private_service(running: &Value) -> Value {
    let ports: Vec<Value> = running["spec"]["ports"].as_array().cloned().unwrap_or_default();
    let without_node_port = |mut port: Value| {
        if let Value::Object(port) = &mut port {
            port.remove("nodePort");
        }
        port
    };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": running["metadata"]["name"] },
        "spec": {
            "selector": running["spec"]["selector"],
            "ports": ports.into_iter().map(without_node_port).collect::<Vec<_>>(),
        },
    })
}
