//! A service of a spec's own, for specs that break things or count exactly.
//!
//! The Deployments and Services of a running service and of what it needs are copied into the
//! spec's namespace, so a copy runs the very images and settings under test. It differs in what the
//! spec asks for, in its `ServiceAccount`, in having no `NodePort`, and in asking for almost no
//! CPU, for half a dozen must fit beside the shared one. `DataStorage` and PostgreSQL stay shared.

use std::fmt;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::deployment;
use crate::env;
use crate::eventually::{SOON, eventually};
use crate::http;
use crate::kubectl;
use crate::namespace::{Namespace, SYSTEM, unique};
use crate::port_forward::PortForward;

/// The private service and what was copied with it; gone on drop.
#[derive(Debug)]
pub struct Stack {
    service: String,
    forward: PortForward,
    port: u64,
    _role_binding: RoleBinding,
    namespace: Namespace,
}

/// What a private stack consists of, and how its service differs from the shared one.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The spec's short name, for the namespace.
    pub spec: &'a str,
    /// The Deployment under test; its account's rights are granted to the copy's.
    pub service: &'a str,
    /// Environment of the service, on top of the shared one's; `{namespace}` stands for the
    /// stack's.
    pub env: &'a [(&'a str, &'a str)],
    /// Copied Deployments beside the service's, each with its Service.
    pub with: &'a [&'a str],
    /// The path that answers 200 once the stack is what the spec wants.
    pub ready_path: &'a str,
}

/// The service's rights are cluster-wide, so the grant is too; deleted on drop.
#[derive(Debug)]
struct RoleBinding {
    name: String,
}

impl Stack {
    /// What `plan` describes; returns when its path answers 200.
    pub fn start(plan: Plan<'_>) -> Result<Self> {
        let deployment = shared("deployment", plan.service)?;
        let account = service_account(&deployment)?;
        let port = container(&deployment)["ports"][0]["containerPort"]
            .as_u64()
            .with_context(|| format!("failed to find the container port of `{}`", plan.service))?;
        let namespace = Namespace::create(plan.spec)?;
        let role_binding = RoleBinding::like_shared(&namespace, account)?;

        let mut items = vec![json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": account },
        })];
        for name in plan.with {
            items.push(private_deployment(&shared("deployment", name)?, &[])?);
            items.push(private_service(&shared("service", name)?));
        }
        let datastorage = far_datastorage(&deployment);
        let mut env: Vec<_> = datastorage.into_iter().map(|url| ("DATASTORAGE_URL", url)).collect();
        let own = |text: &str| text.replace("{namespace}", namespace.name());
        env.extend(plan.env.iter().map(|(name, value)| (*name, own(value))));
        items.push(private_deployment(&deployment, &env)?);
        for item in &mut items {
            item["metadata"]["namespace"] = json!(namespace.name());
        }
        kubectl::create_all(&items)?;

        let service = plan.service.to_owned();
        let forward = open_forward(&namespace, &service, port)?;
        let mut stack = Self { service, forward, port, _role_binding: role_binding, namespace };
        stack.await_ok(plan.ready_path)?;
        Ok(stack)
    }

    /// Base URL of the private service at this moment: a restart changes it.
    pub fn url(&self) -> &str {
        self.forward.url()
    }

    /// The namespace the stack runs in; what the spec makes may be in it too.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Waits until `path` answers 200, through a new connection if the old one has died.
    pub fn await_ok(&mut self, path: &str) -> Result<()> {
        let what = format!("{self} answers 200 to {path}");
        eventually(&what, SOON, || {
            let answer = http::get(&format!("{}{path}", self.live_url()?))?;
            ensure!(answer.status == 200, "it says {answer:?}");
            Ok(())
        })
    }

    /// Waits until `/readyz` reports `state` for `check`, such as `redis`, `degraded`.
    pub fn await_check(&mut self, check: &str, state: &str) -> Result<()> {
        let what = format!("/readyz of {self} reports {check} {state}");
        eventually(&what, SOON, || {
            let body = http::get(&format!("{}/readyz", self.live_url()?))?.json()?;
            ensure!(body["checks"][check] == state, "it says {body}");
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

    /// Opens another connection: after a restart the old one may be dead without knowing it, or
    /// lead to a pod that is deleted and still runs.
    pub fn reconnect(&mut self) -> Result<()> {
        self.forward = open_forward(&self.namespace, &self.service, self.port)?;
        Ok(())
    }

    fn live_url(&mut self) -> Result<&str> {
        if !self.forward.is_alive() {
            self.reconnect()?;
        }
        Ok(self.url())
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` in `{}`", self.service, self.namespace.name())
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
        let service = &self.service;
        let logs = deployment::logs(namespace, service, "1h")?;
        fs_err::create_dir_all(&dir)?;
        fs_err::write(dir.join(format!("{namespace}.{service}.log")), logs)?;
        Ok(())
    }
}

impl RoleBinding {
    /// Grants `account` of `namespace` what the shared service's account was granted.
    fn like_shared(namespace: &Namespace, account: &str) -> Result<Self> {
        let bindings = kubectl::json(&["get", "clusterrolebindings"])?;
        let is_shared = |subject: &Value| {
            subject["kind"] == "ServiceAccount"
                && subject["name"] == account
                && subject["namespace"] == SYSTEM
        };
        let role = bindings["items"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|binding| binding["subjects"].as_array().into_iter().flatten().any(is_shared))
            .map(|binding| binding["roleRef"].clone())
            .with_context(|| format!("failed to find the ClusterRole of `{account}`"))?;
        let name = unique(&format!("e2e-{account}"));
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

/// kubectl refuses while there is no running pod.
fn open_forward(namespace: &Namespace, service: &str, port: u64) -> Result<PortForward> {
    let what = format!("`{service}` in `{}` can be reached", namespace.name());
    let target = format!("deployment/{service}");
    eventually(&what, SOON, || PortForward::open(namespace.name(), &target, port))
}

fn shared(kind: &str, name: &str) -> Result<Value> {
    kubectl::json(&["get", kind, name, "--namespace", SYSTEM])
}

fn container(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]
}

fn service_account(deployment: &Value) -> Result<&str> {
    deployment["spec"]["template"]["spec"]["serviceAccountName"]
        .as_str()
        .context("failed to find the ServiceAccount of the Deployment")
}

/// `DataStorage`'s address as seen from another namespace.
fn far_datastorage(deployment: &Value) -> Option<String> {
    let env = container(deployment)["env"].as_array()?;
    let url =
        env.iter().find(|variable| variable["name"] == "DATASTORAGE_URL")?["value"].as_str()?;
    Some(url.replacen("//datastorage:", &format!("//datastorage.{SYSTEM}:"), 1))
}

/// What `kubectl create` needs of a running Deployment, with `env` set on its first container.
fn private_deployment(running: &Value, env: &[(&str, String)]) -> Result<Value> {
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
