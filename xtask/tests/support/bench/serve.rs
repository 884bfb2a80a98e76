//! What the bench listens on: the stand-in programs' socket, `kubectl proxy`'s, and the cluster's
//! host ports.
//!
//! All of it runs in threads of the test process, over one state; so a test has the order of events
//! in its hand.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Pace, text};
use super::objects::{self, Kind};
use super::programs;

/// What a stand-in program is told to do.
#[derive(Debug)]
pub(crate) enum Answer {
    Done {
        stdout: String,
        stderr: String,
        code: i32,
    },
    /// To become another program.
    Exec(PathBuf),
    /// To live until it is killed.
    Hold,
}

impl Answer {
    pub(crate) fn text<T: ToString + ?Sized>(stdout: &T) -> Self {
        Self::Done { stdout: stdout.to_string(), stderr: String::new(), code: 0 }
    }

    pub(crate) fn failed(stderr: &str) -> Self {
        Self::Done { stdout: String::new(), stderr: stderr.to_owned(), code: 1 }
    }
}

/// When something is to happen behind the run's back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the so many-th look from now is answered.
    Look(usize),
    /// Before an object of this name is applied, and after it was.
    Apply(String),
    Applied(String),
    /// When the engine is told to build.
    Build,
    /// When the suite's test begins.
    Test,
}

pub(crate) type Happening = Box<dyn FnOnce(&mut Cluster) + Send>;

/// Who answered the test's request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The reference that the run gave the test.
    pub(crate) given: String,
    /// The id behind it: in the engine, and on the node.
    pub(crate) built: Option<String>,
    pub(crate) loaded: Option<String>,
    /// The pod that answered, the id it runs, what it was started with; none if nobody did.
    pub(crate) by: Option<Value>,
    /// Pods that should not be there any more: of an older revision, or of another image.
    pub(crate) strays: Vec<String>,
}

pub(crate) struct State {
    pub(crate) cluster: Option<Cluster>,
    pub(crate) name: String,
    pub(crate) pace: Pace,
    /// kubectl's calls, and paths asked of the API.
    pub(crate) calls: Vec<String>,
    pub(crate) paths: Vec<String>,
    pub(crate) asked: Vec<Asked>,
    /// What the node's container has mounted, as podman shows it.
    pub(crate) mounts: Value,
    pub(crate) undeletable: bool,
    /// Objects whose next write waits until a look has been answered, and comes right behind it.
    pub(crate) after_a_look: Vec<String>,
    pub(crate) happenings: Vec<(Moment, Happening)>,
    /// Calls that the bench has no answer for.
    pub(crate) unknown: Vec<String>,
    looks: usize,
    testing: bool,
    engine: PathBuf,
}

impl State {
    pub(crate) fn new(engine: &Path, pace: Pace) -> Self {
        Self {
            cluster: None,
            name: String::new(),
            pace,
            calls: Vec::new(),
            paths: Vec::new(),
            asked: Vec::new(),
            mounts: json!([]),
            undeletable: false,
            after_a_look: Vec::new(),
            happenings: Vec::new(),
            unknown: Vec::new(),
            looks: 0,
            testing: false,
            engine: engine.to_owned(),
        }
    }

    /// Before a run: what the last one did is forgotten.
    pub(crate) fn begin(&mut self) {
        self.calls.clear();
        self.paths.clear();
        self.asked.clear();
        self.testing = false;
    }

    pub(crate) fn node(&self) -> String {
        format!("{}-control-plane", self.name)
    }

    pub(crate) fn images_program(&self) -> PathBuf {
        self.engine.join("podman-images")
    }

    /// The id that the engine has behind a tag.
    pub(crate) fn built(&self, tag: &str) -> Option<String> {
        let id =
            fs_err::read_to_string(self.engine.join("tags").join(tag.replace('/', "%"))).ok()?;
        Some(id.trim().to_owned())
    }

    /// Does what was to be done at a moment.
    pub(crate) fn happens(&mut self, moment: &Moment) {
        let (due, left) = self.happenings.drain(..).partition(|(when, _)| when == moment);
        self.happenings = left;
        let due: Vec<(Moment, Happening)> = due;
        for (_, happening) in due {
            if let Some(cluster) = self.cluster.as_mut() {
                happening(cluster);
            }
        }
    }

    /// Somebody asks for the pods.
    pub(crate) fn look(&mut self) {
        for (when, _) in &mut self.happenings {
            if let Moment::Look(left) = when {
                *left = left.saturating_sub(1);
            }
        }
        self.happens(&Moment::Look(0));
        self.looks += 1;
        self.tick();
    }

    /// Time stands still while the suite's test asks.
    fn tick(&mut self) {
        if let Some(cluster) = self.cluster.as_mut().filter(|_| !self.testing) {
            cluster.tick();
        }
    }

    /// What the API serves at a path; none where there is nothing.
    pub(crate) fn api(&mut self, path: &str) -> Option<Value> {
        let path = path.split('?').next().unwrap_or(path);
        let words: Vec<&str> = path.trim_matches('/').split('/').collect();
        if let ["api", "v1"] | ["apis", _, _] = words.as_slice() {
            return Some(objects::resources(words[1..].join("/").as_str()));
        }
        let (["api", "v1", words @ ..] | ["apis", _, _, words @ ..]) = words.as_slice() else {
            return None;
        };
        let (namespace, words) = match words {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            words => (None, words),
        };
        if words == ["pods"] {
            self.look();
        }
        let cluster = self.cluster.as_ref()?;
        match words {
            [kind] => {
                let mut items: Vec<Value> = cluster
                    .objects
                    .list(kind, namespace)
                    .iter()
                    .map(|one| cluster.objects.with_managers(one))
                    .collect();
                for item in &mut items {
                    item.as_object_mut()?.retain(|name, _| name != "kind" && name != "apiVersion");
                }
                Kind::named(kind)
                    .map(|kind| json!({"kind": format!("{}List", kind.name), "items": items}))
            }
            [kind, name] => {
                let object = cluster.objects.get(kind, namespace.unwrap_or_default(), name)?;
                Some(cluster.objects.with_managers(object))
            }
            _ => None,
        }
    }

    /// `kubectl delete --raw`: of the uid that is named, if one is.
    pub(crate) fn delete(&mut self, path: &str, how: &Value) -> Answer {
        let words: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (kind, namespace, name) = match words.as_slice() {
            [.., "namespaces", namespace, kind, name] => (*kind, *namespace, *name),
            [.., kind, name] => (*kind, "", *name),
            _ => return Answer::failed("Error from server (NotFound): no such path\n"),
        };
        let Some(cluster) = self.cluster.as_mut() else {
            return Answer::failed("The connection to the server was refused\n");
        };
        let Some(object) = cluster.objects.get(kind, namespace, name).cloned() else {
            return Answer::failed("Error from server (NotFound): not found\n");
        };
        let uid = &how["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return Answer::failed("Error from server (Conflict): Precondition failed: UID\n");
        }
        cluster.delete(&object, false);
        Answer::text("{}")
    }

    fn test_begins(&mut self) {
        if !self.testing {
            self.happens(&Moment::Test);
        }
        self.testing = true;
    }

    fn answered(&mut self, given: &str, body: &str) {
        let by: Option<Value> = serde_json::from_str(body).ok();
        let cluster = self.cluster.as_ref();
        let loaded = cluster.and_then(|cluster| cluster.images.get(given).cloned());
        let strays = cluster.map(|cluster| strays(cluster, loaded.as_deref())).unwrap_or_default();
        let built = self.built(given);
        self.asked.push(Asked { given: given.to_owned(), built, loaded, by, strays });
    }
}

/// Pods that `web`'s Service may still lead to and that are not what is to run, or not of this
/// image.
fn strays(cluster: &Cluster, image: Option<&str>) -> Vec<String> {
    let wanted = image.map(|id| format!("sha256:{id}"));
    let is_stray = |pod: &&Value| {
        pod["status"]["phase"] == "Running"
            && pod["metadata"]["labels"]["app"] == "web"
            && (!cluster.is_current(pod)
                || wanted.as_deref() != pod["status"]["containerStatuses"][0]["imageID"].as_str())
    };
    let pods = cluster.objects.list("Pod", Some("default"));
    pods.iter().filter(is_stray).map(|pod| text(&pod["metadata"]["name"]).to_owned()).collect()
}

/// The state, and who waits for it.
pub(crate) struct Shared {
    state: Mutex<State>,
    looked: Condvar,
    /// The real program.
    pub(crate) kubectl: PathBuf,
    itself: std::sync::Weak<Self>,
}

impl Shared {
    pub(crate) fn new(state: State, kubectl: PathBuf) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            state: Mutex::new(state),
            looked: Condvar::new(),
            kubectl,
            itself: itself.clone(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, if the test wants it of this object, until a look has been answered in whole.
    pub(crate) fn after_a_look<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        name: &str,
    ) -> MutexGuard<'a, State> {
        let Some(at) = state.after_a_look.iter().position(|one| one == name) else { return state };
        state.after_a_look.remove(at);
        let (before, limit) = (state.looks, Duration::from_secs(10));
        let looked = self.looked.wait_timeout_while(state, limit, |state| state.looks == before);
        let (next, in_vain) = looked.unwrap_or_else(PoisonError::into_inner);
        state = next;
        if in_vain.timed_out() {
            state.unknown.push(format!("no look came for `{name}` to be written behind"));
            return state;
        }
        // A look is several questions: it has ended when no more come.
        loop {
            let asked = state.paths.len();
            let quiet = self.looked.wait_timeout_while(state, Duration::from_millis(30), |state| {
                state.paths.len() == asked
            });
            let (next, timed_out) = quiet.unwrap_or_else(PoisonError::into_inner);
            state = next;
            if timed_out.timed_out() {
                return state;
            }
        }
    }

    pub(crate) fn unknown(&self, call: &str) -> Answer {
        self.lock().unknown.push(call.to_owned());
        Answer::failed(&format!("the bench has no answer for `{call}`\n"))
    }

    /// Answers the stand-in programs.
    pub(crate) fn serve_programs(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        self.accept(
            move || listener.accept().ok().map(|(stream, _)| stream),
            |shared, stream| {
                let mut reader = BufReader::new(&stream);
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.is_empty() {
                    return;
                }
                let call: Value = serde_json::from_str(&line).unwrap();
                let args: Vec<String> = serde_json::from_value(call["args"].clone()).unwrap();
                let input = text(&call["input"]);
                let answer = match text(&call["program"]) {
                    "kubectl" => programs::kubectl(shared, &args, input),
                    "kind" => programs::kind(shared, &args),
                    "podman" => programs::podman(shared, &args, input),
                    "ask" => {
                        shared.lock().test_begins();
                        Answer::text("")
                    }
                    _ => {
                        shared.lock().answered(&args[0], &args[1]);
                        Answer::text("")
                    }
                };
                let told = match &answer {
                    Answer::Done { stdout, stderr, code } => {
                        json!({"do": "end", "stdout": stdout, "stderr": stderr, "code": code})
                    }
                    Answer::Exec(program) => json!({"do": "exec", "program": program}),
                    Answer::Hold => json!({"do": "hold"}),
                };
                // Whoever was killed meanwhile needs no answer.
                writeln!(&stream, "{told}").ok();
                if matches!(answer, Answer::Hold) {
                    reader.read_line(&mut line).ok();
                }
            },
        );
    }

    /// As `kubectl proxy --unix-socket` does.
    pub(crate) fn serve_api(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).unwrap();
        self.accept(
            move || listener.accept().ok().map(|(stream, _)| stream),
            |shared, stream| {
                let Some(path) = requested(&stream) else { return };
                let mut state = shared.lock();
                state.paths.push(path.clone());
                let body = state.api(&path);
                drop(state);
                shared.looked.notify_all();
                match body {
                    Some(body) => answer(&stream, "200 OK", &body.to_string()),
                    None => answer(&stream, "404 Not Found", "{}"),
                }
            },
        );
    }

    /// As a published port does whose proxy accepts before it dials: where nobody is behind it, the
    /// connection is closed.
    pub(crate) fn serve_port(&self, host: u64, node: u64) {
        let listener = TcpListener::bind(("127.0.0.1", u16::try_from(host).unwrap())).unwrap();
        self.accept(
            move || listener.accept().ok().map(|(stream, _)| stream),
            move |shared, stream| {
                let by = {
                    let mut state = shared.lock();
                    state.tick();
                    state.cluster.as_mut().and_then(|cluster| cluster.answer(node))
                };
                let Some(by) = by else { return };
                if requested(&stream).is_some() {
                    answer(&stream, "200 OK", &by.to_string());
                }
            },
        );
    }

    /// A thread for each connection.
    fn accept<S: Send + 'static>(
        &self,
        next: impl Fn() -> Option<S> + Send + 'static,
        each: impl Fn(&Self, S) + Send + Sync + 'static,
    ) {
        let (shared, each) = (self.itself.clone(), Arc::new(each));
        thread::spawn(move || {
            while let Some(stream) = next() {
                let Some(shared) = shared.upgrade() else { return };
                let each = Arc::clone(&each);
                thread::spawn(move || each(&shared, stream));
            }
        });
    }
}

/// The path that is asked for.
fn requested(stream: impl Read) -> Option<String> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    Some(first.split(' ').nth(1)?.to_owned())
}

fn answer(mut stream: impl Write, status: &str, body: &str) {
    let length = body.len();
    // Whoever has gone needs no answer.
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .ok();
}
