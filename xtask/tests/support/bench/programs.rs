//! The command lines of `kubectl`, `kind` and `podman`, as far as xtask and its suites' hooks call
//! them.
//!
//! `kubectl kustomize` and `kubectl create --dry-run` are the real program's. What an engine does
//! with images alone is the fake podman's beside this folder; here is what it knows of nodes.
//! Whatever is not known here fails, and is noted, so that a test that relies on a wrong answer is
//! not green.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::cluster::{Cluster, text};
use super::objects::{self, Kind};
use super::serve::{Answer, Moment, Shared, State};

/// The container that is the only node.
pub(crate) const NODE_ID: &str = "00000000000000000000000000000000000000000000000000000000000c0de0";

const KUBECONFIG: &str = "{\"apiVersion\": \"v1\", \"kind\": \"Config\"}\n";

/// What kubectl's global flags leave.
fn without_globals(args: &[String]) -> Vec<&str> {
    let mut left = Vec::new();
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--kubeconfig" | "--cache-dir" | "--context" => drop(words.next()),
            _ => left.push(word),
        }
    }
    left
}

/// Flags and the rest of a command line; flags that take a value are named.
#[derive(Debug, Default)]
struct Line<'a> {
    words: Vec<&'a str>,
    flags: BTreeMap<&'a str, &'a str>,
}

impl<'a> Line<'a> {
    fn read(args: &[&'a str]) -> Self {
        const VALUED: [&str; 13] = [
            "-n",
            "--namespace",
            "-o",
            "--output",
            "--selector",
            "-l",
            "--field-manager",
            "-f",
            "--filename",
            "--raw",
            "--type",
            "-p",
            "--patch",
        ];
        let mut line = Self::default();
        let mut words = args.iter().copied();
        while let Some(word) = words.next() {
            if let Some((name, value)) = word.split_once('=').filter(|_| word.starts_with("--")) {
                line.flags.insert(name, value);
            } else if VALUED.contains(&word) {
                line.flags.insert(word, words.next().unwrap_or_default());
            } else if word.starts_with('-') && word != "-" {
                line.flags.insert(word, "true");
            } else {
                line.words.push(word);
            }
        }
        line
    }

    fn flag(&self, names: &[&str]) -> Option<&'a str> {
        names.iter().find_map(|name| self.flags.get(name).copied())
    }

    fn namespace(&self) -> &'a str {
        self.flag(&["-n", "--namespace"]).unwrap_or("default")
    }
}

pub(crate) fn kubectl(shared: &Shared, args: &[String], input: &str) -> Answer {
    let words = without_globals(args);
    let line = Line::read(&words);
    match line.words.first().copied().unwrap_or_default() {
        "kustomize" | "create" | "config" | "version" => Answer::Exec(shared.kubectl.clone()),
        // What asks no cluster.
        "patch" if line.flag(&["--local"]).is_some() => Answer::Exec(shared.kubectl.clone()),
        "proxy" => {
            shared.serve_api(std::path::Path::new(line.words.get(1).copied().unwrap_or_default()));
            Answer::Hold
        }
        verb => {
            shared.lock().calls.push(words.join(" "));
            match verb {
                "apply" => apply(shared, &line, input),
                "replace" => write(shared, input, |cluster, one| {
                    cluster.objects.replace(one, "kubectl-replace")
                }),
                "get" => get(shared, &line),
                "delete" => delete(shared, &line, input),
                "rollout" | "annotate" | "patch" => change(shared, &line),
                _ => shared.unknown(&format!("kubectl {}", words.join(" "))),
            }
        }
    }
}

fn apply(shared: &Shared, line: &Line<'_>, input: &str) -> Answer {
    let manager = line.flag(&["--field-manager"]).unwrap_or("kubectl").to_owned();
    let force = line.flag(&["--force-conflicts"]).is_some();
    let shown = line.flag(&["--show-managed-fields"]).is_some();
    write(shared, input, |cluster, manifest| {
        let object = cluster.objects.apply(manifest, &manager, force)?;
        Ok(if shown { cluster.objects.with_managers(&object) } else { object })
    })
}

fn write(
    shared: &Shared,
    input: &str,
    each: impl Fn(&mut Cluster, &Value) -> Result<Value, String>,
) -> Answer {
    let manifests = documents(input);
    let names: Vec<String> =
        manifests.iter().map(|one| text(&one["metadata"]["name"]).to_owned()).collect();
    let mut state = shared.lock();
    for name in &names {
        state = shared.after_a_look(state, name);
        state.happens(&Moment::Apply(name.clone()));
    }
    let Some(cluster) = state.cluster.as_mut() else { return refused() };
    let (mut written, mut refusals) = (Vec::new(), String::new());
    for manifest in &manifests {
        match each(cluster, manifest) {
            Ok(object) => written.push(object),
            Err(refusal) => refusals.push_str(&refusal),
        }
    }
    for name in names {
        state.happens(&Moment::Applied(name));
    }
    let stdout = match written.as_slice() {
        [] => String::new(),
        [one] if manifests.len() == 1 => one.to_string(),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": written}).to_string(),
    };
    Answer::Done { stdout, code: i32::from(!refusals.is_empty()), stderr: refusals }
}

/// The documents of a manifest; one may be a List.
fn documents(text: &str) -> Vec<Value> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" {
            documents.push(String::new());
        } else if let Some(last) = documents.last_mut() {
            last.push_str(line);
            last.push('\n');
        }
    }
    let read = |text: &String| serde_saphyr::from_str::<Value>(text).unwrap();
    let documents = documents.iter().filter(|text| !text.trim().is_empty()).map(read);
    let flat = documents.flat_map(|mut one| match one["items"].take() {
        Value::Array(items) => items,
        _ => vec![one],
    });
    flat.collect()
}

fn get(shared: &Shared, line: &Line<'_>) -> Answer {
    if let Some(path) = line.flag(&["--raw"]) {
        return match path {
            "/readyz" => Answer::text("ok"),
            path if Kind::served(path).is_some() => Answer::text(&Kind::served(path).unwrap()),
            path => match shared.lock().api(path) {
                Some(body) => Answer::text(&body),
                None => Answer::failed("Error from server (NotFound): not found\n"),
            },
        };
    }
    let output = line.flag(&["-o", "--output"]).unwrap_or_default();
    let everywhere = line.flag(&["--all-namespaces", "-A"]).is_some();
    let namespace = (!everywhere).then(|| line.namespace());
    let mut state = shared.lock();
    let words = &line.words[1..];
    if words.iter().any(|word| {
        word.split(',').any(|one| Kind::named(one).is_some_and(|kind| kind.name == "Pod"))
    }) {
        state.look();
    }
    let Some(cluster) = state.cluster.as_ref() else { return refused() };
    let named = named(words);
    let mut found = Vec::new();
    for (kind, name) in &named {
        match name {
            None => found.extend(cluster.objects.list(kind, namespace)),
            Some(name) => match cluster.objects.get(kind, namespace.unwrap_or_default(), name) {
                Some(object) => found.push(object.clone()),
                None if line.flag(&["--ignore-not-found"]).is_some() => {}
                None => {
                    let kind = Kind::named(kind).map_or("", |kind| kind.name);
                    let key = (kind, String::new(), (*name).to_owned());
                    return Answer::failed(&objects::not_found(&key));
                }
            },
        }
    }
    if let Some(selector) = line.flag(&["--selector", "-l"]) {
        found.retain(|object| fits(selector, object));
    }
    if line.flag(&["--show-managed-fields"]).is_some() {
        found = found.iter().map(|object| cluster.objects.with_managers(object)).collect();
    }
    let single = matches!(named.as_slice(), [(_, Some(_))]);
    match (output, found.as_slice()) {
        ("json", [one]) if single => Answer::text(one),
        ("json", []) if single => Answer::text(""),
        ("json", _) => Answer::text(&json!({"apiVersion": "v1", "kind": "List", "items": found})),
        // For people, in diagnostics.
        _ => Answer::text(&format!("{} objects\n", found.len())),
    }
}

/// `a,b`, `a/NAME`, `a NAME NAME`: kinds, and names if they are named.
fn named<'a>(words: &[&'a str]) -> Vec<(&'a str, Option<&'a str>)> {
    match words {
        [] => Vec::new(),
        words if words[0].contains('/') => words
            .iter()
            .filter_map(|word| word.split_once('/'))
            .map(|(kind, name)| (kind, Some(name)))
            .collect(),
        [kinds] => kinds.split(',').map(|kind| (kind, None)).collect(),
        [kind, names @ ..] => names.iter().map(|name| (*kind, Some(*name))).collect(),
    }
}

/// `a`, `a=b`, `a!=b`, joined by commas.
fn fits(selector: &str, object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    selector.split(',').all(|one| match one.split_once('=') {
        Some((name, value)) if name.ends_with('!') => labels[name.trim_end_matches('!')] != value,
        Some((name, value)) => labels[name.trim_end_matches('=')] == value.trim_start_matches('='),
        None => !labels[one].is_null(),
    })
}

/// By the object's path; with a uid in `input`, only if it is that object.
fn delete_raw(shared: &Shared, path: &str, input: &str) -> Answer {
    let mut state = shared.lock();
    let Some(object) = state.api(path) else {
        return Answer::failed("Error from server (NotFound): not found\n");
    };
    let options: Value = serde_json::from_str(input).unwrap_or_default();
    let uid = &options["preconditions"]["uid"];
    if !uid.is_null() && *uid != object["metadata"]["uid"] {
        return Answer::failed("Error from server (Conflict): the UID in the precondition\n");
    }
    let Some(cluster) = state.cluster.as_mut() else { return refused() };
    cluster.delete(&object, false);
    Answer::text("{}")
}

fn delete(shared: &Shared, line: &Line<'_>, input: &str) -> Answer {
    if let Some(path) = line.flag(&["--raw"]) {
        return delete_raw(shared, path, input);
    }
    let mut state = shared.lock();
    if let Some(path) = line.flag(&["--raw"]) {
        state = shared.after_a_look(state, path.rsplit('/').next().unwrap_or(path));
        return state.delete(path, &serde_json::from_str(input).unwrap_or_default());
    }
    for word in &line.words[1..] {
        state = shared.after_a_look(state, word);
    }
    let Some(cluster) = state.cluster.as_mut() else { return refused() };
    let words = &line.words[1..];
    let mut found = Vec::new();
    let lenient = line.flag(&["--ignore-not-found"]).is_some_and(|value| value != "false");
    let mut names: Vec<(String, Option<String>, String)> = named(words)
        .into_iter()
        .map(|(kind, name)| (kind.to_owned(), name.map(str::to_owned), line.namespace().to_owned()))
        .collect();
    if line.flag(&["-f", "--filename"]) == Some("-") {
        names = documents(input)
            .iter()
            .map(|one| {
                let namespace = one["metadata"]["namespace"].as_str().unwrap_or("default");
                let name = text(&one["metadata"]["name"]).to_owned();
                (text(&one["kind"]).to_owned(), Some(name), namespace.to_owned())
            })
            .collect();
    }
    for (kind, name, namespace) in &names {
        match name {
            Some(name) => match cluster.objects.get(kind, namespace, name) {
                Some(object) => found.push(object.clone()),
                None if lenient => {}
                None => {
                    let kind = Kind::named(kind).map_or("", |kind| kind.name);
                    let key = (kind, String::new(), name.clone());
                    return Answer::failed(&objects::not_found(&key));
                }
            },
            None => found.extend(cluster.objects.list(kind, Some(namespace))),
        }
    }
    if let Some(selector) = line.flag(&["--selector", "-l"]) {
        found.retain(|object| fits(selector, object));
    }
    let whole = line.flag(&["--cascade"]) == Some("foreground")
        || line.flag(&["--wait"]) != Some("false") && found.iter().all(|one| one["kind"] == "Pod");
    for object in &found {
        cluster.delete(object, whole);
    }
    Answer::text(&format!("{} deleted\n", found.len()))
}

/// `rollout restart`, `annotate KIND/NAME KEY=VALUE`, `patch … --type merge -p JSON`.
fn change(shared: &Shared, line: &Line<'_>) -> Answer {
    let mut state = shared.lock();
    let Some(cluster) = state.cluster.as_mut() else { return refused() };
    let (verb, mut words) = (line.words[0], &line.words[1..]);
    if verb == "rollout" {
        let Some((&"restart", rest)) = words.split_first() else {
            drop(state);
            return shared.unknown(&format!("kubectl {}", line.words.join(" ")));
        };
        words = rest;
    }
    let (pairs, words): (Vec<&str>, Vec<&str>) =
        words.iter().copied().partition(|word| verb == "annotate" && word.contains('='));
    for (kind, name) in named(&words) {
        let object = (kind, line.namespace(), name.unwrap_or_default());
        let manager = line.flag(&["--field-manager"]).unwrap_or(match verb {
            "rollout" => "kubectl-rollout",
            "annotate" => "kubectl-annotate",
            _ => "kubectl-patch",
        });
        let patch = line.flag(&["-p", "--patch"]).unwrap_or("{}");
        let patch: Value = serde_json::from_str(patch).unwrap();
        cluster.objects.update(object, (manager, ""), |live| match verb {
            "rollout" => {
                let annotations = &mut live["spec"]["template"]["metadata"]["annotations"];
                annotations["kubectl.kubernetes.io/restartedAt"] = json!(objects::now());
            }
            "annotate" => {
                for (key, value) in pairs.iter().filter_map(|pair| pair.split_once('=')) {
                    live["metadata"]["annotations"][key] = json!(value);
                }
            }
            _ => merge_patch(live, &patch),
        });
    }
    Answer::text("changed\n")
}

fn merge_patch(live: &mut Value, patch: &Value) {
    let (Some(fields), Some(patched)) = (live.as_object_mut(), patch.as_object()) else {
        *live = patch.clone();
        return;
    };
    for (name, value) in patched {
        if value.is_null() {
            fields.remove(name);
        } else {
            merge_patch(fields.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

fn refused() -> Answer {
    Answer::failed(
        "The connection to the server was refused - did you specify the right host or port?\n",
    )
}

pub(crate) fn kind(shared: &Shared, args: &[String]) -> Answer {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let after = |name: &str| {
        let at = words.iter().position(|word| *word == name);
        at.and_then(|at| words.get(at + 1)).copied().unwrap_or_default()
    };
    match words.as_slice() {
        ["version"] => Answer::text("kind v0.31.0 go1.25.5 linux/amd64\n"),
        ["create", "cluster", ..] => {
            let config = std::fs::File::open(after("--config")).unwrap();
            let config: Value = serde_json::from_reader(config).unwrap();
            fs_err::write(after("--kubeconfig"), KUBECONFIG).unwrap();
            for mapping in config["nodes"][0]["extraPortMappings"].as_array().into_iter().flatten()
            {
                let port = |name: &str| mapping[name].as_u64().unwrap();
                shared.serve_port(port("hostPort"), port("containerPort"));
            }
            let mut state = shared.lock();
            after("--name").clone_into(&mut state.name);
            let mounts = config["nodes"][0]["extraMounts"].as_array().cloned().unwrap_or_default();
            let mounts = mounts.iter().map(|mount| {
                json!({"Type": "bind", "Source": mount["hostPath"],
                    "Destination": mount["containerPath"]})
            });
            state.mounts = mounts.collect();
            state.cluster = Some(Cluster::new(&state.node(), state.pace));
            Answer::Done {
                stdout: String::new(),
                stderr: " • Preparing nodes 📦  ...\n".into(),
                code: 0,
            }
        }
        ["export", "kubeconfig", ..] => {
            fs_err::write(after("--kubeconfig"), KUBECONFIG).unwrap();
            Answer::text("")
        }
        ["get", "clusters"] => Answer::text(&shared.lock().name),
        _ => shared.unknown(&format!("kind {}", words.join(" "))),
    }
}

pub(crate) fn podman(shared: &Shared, args: &[String], input: &str) -> Answer {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let rest = match words.as_slice() {
        [first, rest @ ..] if first.starts_with("--cgroup-manager") => rest,
        all => all,
    };
    let mut state = shared.lock();
    match rest {
        ["ps", rest @ ..] => {
            let wanted = format!("label=io.x-k8s.kind.cluster={}", state.name);
            let is_ours = rest.contains(&wanted.as_str()) && state.cluster.is_some();
            let line = format!("{NODE_ID}\t{}\tUp 5 minutes\n", state.node());
            Answer::text(if is_ours { line.as_str() } else { "" })
        }
        ["inspect", "--type", "container", "--format", _, ids @ ..] => {
            let mounts = state.mounts.to_string();
            let lines: Vec<String> = ids.iter().map(|id| format!("{id}\t{mounts}\n")).collect();
            Answer::text(&lines.concat())
        }
        // Our mark on the node: for people, since nothing is believed of it.
        ["cp", _, _] | ["volume", ..] => Answer::text(""),
        ["rm", "--force", ..] => {
            if state.undeletable {
                return Answer::failed("Error: cannot remove container: device or resource busy\n");
            }
            state.cluster = None;
            Answer::text("")
        }
        ["save", rest @ ..] => {
            let tags = rest.iter().filter(|word| word.starts_with("localhost/"));
            let ids = tags.map(|tag| ((*tag).to_owned(), json!(state.built(tag))));
            Answer::text(&Value::Object(ids.collect()))
        }
        ["exec", rest @ ..] => {
            let rest: Vec<&str> =
                rest.iter().copied().filter(|word| !word.starts_with("--")).collect();
            match rest.as_slice() {
                [_, "ctr", "k8s.io", rest @ ..] => ctr(&mut state, rest, input),
                // For people, in diagnostics.
                _ => Answer::text(""),
            }
        }
        _ => {
            if rest.contains(&"build") {
                state.happens(&Moment::Build);
            }
            Answer::Exec(state.images_program())
        }
    }
}

/// containerd's client on the node.
fn ctr(state: &mut State, words: &[&str], input: &str) -> Answer {
    let Some(cluster) = state.cluster.as_mut() else {
        return Answer::failed("no such container\n");
    };
    match words {
        ["images", "ls"] => {
            let mut lines = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n".to_owned();
            for (tag, id) in &cluster.images {
                // A manifest's digest that follows from the id, as a real one does.
                for name in [tag.clone(), format!("sha256:{id}")] {
                    let manifest: String = id.chars().rev().collect();
                    lines.extend([
                        name.as_str(),
                        " application/x sha256:",
                        &manifest,
                        " 1 MiB -
",
                    ]);
                }
            }
            Answer::text(&lines)
        }
        ["images", "import", "-"] => {
            let images: BTreeMap<String, String> = serde_json::from_str(input).unwrap();
            cluster.images.extend(images);
            Answer::text("")
        }
        ["images", "rm", names @ ..] => {
            cluster.images.retain(|tag, _| !names.contains(&tag.as_str()));
            Answer::text("")
        }
        _ => Answer::failed("not found\n"),
    }
}
