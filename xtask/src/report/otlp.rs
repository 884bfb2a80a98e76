//! A run as a trace: its record as spans, in the JSON form of OTLP 1 over HTTP, sent when the run
//! is over.
//!
//! | of the run | is |
//! | --- | --- |
//! | the run | the root span; `xtask.run`, `xtask.suite`, and what its summary counts |
//! | a build, load, step, push, the tests | a span below it; links to the spans of what it needed |
//! | what it waited for | an event of its span |
//! | a failure | status 2 with the error's first line |
//!
//! Ids follow from the host and the run's id, so sending a record twice makes no second trace.
//! Nothing is sampled, and nothing of it runs while the run does: the record is what is read. Hosts
//! of traces are near (an agent, a collector of the cluster): plain HTTP, and no time to spare.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::record::{Image, Record, Step};

/// The longest the end of a run may wait for a collector.
pub const LIMIT: Duration = Duration::from_secs(2);

/// OTLP's status codes.
const OK: u8 = 1;
const ERROR: u8 = 2;

/// Sends the trace of a run to the collector at `endpoint` (`http://HOST:PORT`, traces lie below
/// it).
pub fn send(endpoint: &str, record: &Record, host: &str) -> Result<()> {
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(LIMIT))
        .http_status_as_error(false)
        .build()
        .into();
    let post = agent.post(&url).content_type("application/json");
    let answer = post.send(request(record, host).to_string());
    let url = without_login(&url);
    // Its own words may hold the whole address.
    let answer = answer.map_err(|error| anyhow!(without_login(&error.to_string())));
    let status = answer.with_context(|| format!("failed to send the trace to {url}"))?.status();
    ensure!(status.is_success(), "failed to send the trace to {url}: it answered {status}");
    Ok(())
}

/// Text with what stands between `://` and `@` of an address taken out, and the query.
fn without_login(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(['/', '?', '#', ' ', '"', '`', '\'']).unwrap_or(after.len());
        let (authority, left) = after.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        shown.push_str(before);
        shown.push_str("://");
        shown.push_str(host);
        let query = left.find('?').filter(|at| !left[..*at].contains(' '));
        rest = match query {
            Some(at) => {
                shown.push_str(&left[..at]);
                &left[left.find(' ').unwrap_or(left.len())..]
            }
            None => left,
        };
    }
    shown + rest
}

/// `ExportTraceServiceRequest`.
pub fn request(record: &Record, host: &str) -> Value {
    let ids = Ids { trace: id(&[host, &record.id], 16) };
    let root = id(&[&ids.trace, "run"], 8);
    let spans = record.steps.iter().enumerate().map(|(at, step)| ids.span(record, at, step, &root));
    let spans: Vec<Value> = std::iter::once(ids.root(record, &root)).chain(spans).collect();
    json!({"resourceSpans": [{
        "resource": {"attributes": attributes([
            ("service.name", text("xtask")),
            ("service.version", text(env!("CARGO_PKG_VERSION"))),
            ("host.name", text(host)),
        ])},
        "scopeSpans": [{
            "scope": {"name": "xtask", "version": env!("CARGO_PKG_VERSION")},
            "spans": spans,
        }],
    }]})
}

/// The ids of one trace.
struct Ids {
    trace: String,
}

impl Ids {
    fn root(&self, record: &Record, id: &str) -> Value {
        let name = match &record.suite {
            Some(suite) => format!("e2e {suite}"),
            None => "images".to_owned(),
        };
        let counts = record.outcome.iter().flat_map(|outcome| {
            [
                ("xtask.built", outcome.built as u64),
                ("xtask.fetched", outcome.fetched as u64),
                ("xtask.skipped", outcome.skipped as u64),
                ("xtask.passed", outcome.passed),
                ("xtask.failed", outcome.failed),
            ]
            .map(|(key, count)| (key, number(count)))
        });
        let suite = record.suite.iter().map(|suite| ("xtask.suite", text(suite)));
        let named = std::iter::once(("xtask.run", text(&record.id)));
        // A run that was killed has no outcome.
        let ok = record.outcome.as_ref().is_some_and(|outcome| outcome.ok);
        json!({
            "traceId": self.trace, "spanId": id, "name": name, "kind": 1,
            "startTimeUnixNano": nanos(record, 0.0),
            "endTimeUnixNano": nanos(record, record.seconds),
            "attributes": attributes(named.chain(suite).chain(counts)),
            "status": {"code": if ok { OK } else { ERROR }},
        })
    }

    fn span(&self, record: &Record, at: usize, step: &Step, root: &str) -> Value {
        let events = step.waits.iter().map(|wait| {
            let what = attributes([("xtask.waits-for", text(&wait.what))]);
            json!({"timeUnixNano": nanos(record, wait.at), "name": "waits", "attributes": what})
        });
        let place = |name: &String| record.steps[..at].iter().rposition(|step| step.name == *name);
        let links = step.needs.iter().filter_map(place);
        let links =
            links.map(|need| json!({"traceId": self.trace, "spanId": self.of(record, need)}));
        let message = step.error.as_deref().unwrap_or_default();
        json!({
            "traceId": self.trace, "spanId": self.of(record, at), "parentSpanId": root,
            "name": step.name, "kind": 1,
            "startTimeUnixNano": nanos(record, step.start),
            "endTimeUnixNano": nanos(record, step.end),
            "attributes": attributes(described(record, step)),
            "events": events.collect::<Vec<_>>(),
            "links": links.collect::<Vec<_>>(),
            "status": {"code": if step.ok { OK } else { ERROR }, "message": message},
        })
    }

    fn of(&self, record: &Record, at: usize) -> String {
        id(&[&self.trace, &at.to_string(), &record.steps[at].name], 8)
    }
}

/// What is said of a step besides its times.
fn described<'a>(record: &'a Record, step: &'a Step) -> impl Iterator<Item = (&'a str, Value)> {
    let kind = serde_json::to_value(step.kind).unwrap_or_default();
    let image = step
        .name
        .split_once(' ')
        .and_then(|(_, image)| record.images.iter().find(|one| one.name == image));
    let image = image.into_iter().flat_map(|Image { name, key, .. }| {
        [("xtask.image", text(name)), ("xtask.key", text(key))]
    });
    let bytes = [("xtask.memory.reserved", step.reserved), ("xtask.memory.peak", step.peak)];
    let bytes = bytes.into_iter().filter_map(|(key, bytes)| Some((key, number(bytes?))));
    let outcome = if step.ok { "ok" } else { "failed" };
    [
        ("xtask.kind", json!({"stringValue": kind})),
        ("xtask.action", text(&step.action)),
        ("xtask.outcome", text(outcome)),
    ]
    .into_iter()
    .chain(image)
    .chain(bytes)
}

fn attributes<'a>(pairs: impl IntoIterator<Item = (&'a str, Value)>) -> Vec<Value> {
    pairs.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect()
}

fn text(text: &str) -> Value {
    json!({"stringValue": text})
}

/// JSON has no 64-bit numbers: protobuf's mapping writes them as text.
fn number(number: u64) -> Value {
    json!({"intValue": number.to_string()})
}

/// A moment of the run, in nanoseconds of Unix time.
fn nanos(record: &Record, seconds: f64) -> String {
    let at = record.began + Duration::try_from_secs_f64(seconds).unwrap_or_default();
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// So many bytes that follow from those words, in hex.
fn id(words: &[&str], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for word in words {
        hash.update(word.len().to_le_bytes());
        hash.update(word);
    }
    hex::encode(&hash.finalize()[..bytes])
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::super::record::tests::RUN;
    use super::*;

    fn record() -> Record {
        Record::read("r1", RUN).unwrap().unwrap()
    }

    #[test]
    fn a_login_in_an_address_is_not_shown() {
        for (text, shown) in [
            ("http://me:pw@host:4318/v1/traces", "http://host:4318/v1/traces"),
            ("bad `https://pw@a@host`: no", "bad `https://host`: no"),
            ("http://host/v1?token=x failed", "http://host/v1 failed"),
            ("http://host:1 and http://u:p@b/", "http://host:1 and http://b/"),
            ("no address: a@b", "no address: a@b"),
        ] {
            assert_eq!(without_login(text), shown);
        }
    }

    #[test]
    fn a_run_is_one_trace_with_a_span_a_step() {
        let request = request(&record(), "here");
        let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
        let told: Vec<String> = spans
            .iter()
            .map(|span| {
                let attributes = span["attributes"].as_array().unwrap().iter();
                let attributes = attributes.map(|one| {
                    let value = one["value"].as_object().unwrap().values().next().unwrap();
                    format!("{}={}", one["key"].as_str().unwrap(), value.as_str().unwrap())
                });
                let links = span["links"].as_array().map_or(0, Vec::len);
                let (name, status) = (span["name"].as_str().unwrap(), &span["status"]);
                let attributes = attributes.collect::<Vec<_>>().join(" ");
                format!("{name} {status} links={links} {attributes}")
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r#"
        e2e shop {"code":1} links=0 xtask.run=r1 xtask.suite=shop xtask.built=1 xtask.fetched=0 xtask.skipped=0 xtask.passed=3 xtask.failed=0
        build api {"code":1,"message":""} links=0 xtask.kind=build xtask.action=rebuild xtask.outcome=ok xtask.image=api xtask.key=12 xtask.memory.reserved=900 xtask.memory.peak=700
        load api {"code":1,"message":""} links=1 xtask.kind=load xtask.action=send xtask.outcome=ok xtask.image=api xtask.key=12
        db {"code":2,"message":"no <b>"} links=0 xtask.kind=step xtask.action=apply xtask.outcome=failed
        test {"code":1,"message":""} links=2 xtask.kind=test xtask.action=cargo test xtask.outcome=ok
        "#);
        let root = &spans[0];
        assert_eq!(root["startTimeUnixNano"], "1795262400000000000");
        assert_eq!(root["endTimeUnixNano"], "1795262419500000000");
        for span in &spans[1..] {
            assert_eq!(
                (&span["traceId"], &span["parentSpanId"]),
                (&root["traceId"], &root["spanId"])
            );
        }
    }

    #[test]
    fn ids_are_the_runs_own_and_the_same_each_time() {
        let ids = |host: &str| {
            let request = request(&record(), host);
            let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
            let ids = spans.as_array().unwrap().iter().map(|span| span["spanId"].to_string());
            (spans[0]["traceId"].as_str().unwrap().len(), ids.collect::<Vec<_>>())
        };
        let (length, mut here) = ids("here");
        assert_eq!((length, &here), (32, &ids("here").1));
        assert!(here.iter().all(|id| !ids("there").1.contains(id)));
        let count = here.len();
        here.sort();
        here.dedup();
        assert_eq!(here.len(), count);
    }

    /// Answers one request with a status; gives back what was sent.
    fn collector(status: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            let whole = |text: &str| {
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head.lines().find_map(|line| {
                    line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                (body.len() >= length.unwrap_or(0)).then_some(())
            };
            while whole(&text).is_none() {
                let read = stream.read(&mut buffer).unwrap();
                text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
            }
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
            text
        });
        (endpoint, thread)
    }

    #[test]
    fn a_collector_gets_the_trace_as_json() {
        let (endpoint, sent) = collector("200 OK");
        send(&endpoint, &record(), "here").unwrap();
        let sent = sent.join().unwrap();
        let (head, body) = sent.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), request(&record(), "here"));
    }

    #[test]
    fn a_collector_that_refuses_or_is_silent_is_an_error() {
        let (endpoint, _sent) = collector("503 Service Unavailable");
        let refused = send(&endpoint, &record(), "here").unwrap_err();
        assert!(refused.to_string().contains("it answered 503"), "{refused:#}");
        let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let late = send(&endpoint, &record(), "here").unwrap_err();
        assert!(format!("{late:#}").contains("timeout"), "{late:#}");
    }
}
