//! What is to be done about what is there under a cluster's name. Pure.

use std::path::Path;

use super::nodes::Node;
use super::record::{Fingerprint, Mark, Record};
use crate::config::Reuse;

/// What [`super::up`] does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Create,
    Reuse,
    /// Ours and wanted, but stopped: a machine that was rebooted.
    Start,
    /// Ours, but of no use as it is, for this reason.
    Remake(String),
    /// Not ours, for this reason.
    Refuse(String),
}

/// What is known of a cluster when it is judged.
pub(super) struct Found<'a> {
    pub(super) nodes: &'a [Node],
    pub(super) record: Option<&'a Record>,
    /// This workspace's own folder.
    pub(super) home: &'a Path,
}

/// Whose the containers are, and what they were made with. `mark` is asked only where the record
/// does not settle it. The error says why they are not ours.
pub(super) fn owner(
    found: &Found<'_>,
    mark: impl FnOnce() -> Option<Mark>,
) -> Result<Option<Fingerprint>, String> {
    match found.record {
        Some(Record { made: None, .. }) => return Ok(None),
        Some(Record { mark, made: Some(made) })
            if found.nodes.iter().all(|node| made.containers.contains(&node.id)) =>
        {
            // A node that was removed leaves a cluster that cannot be used.
            let whole = made.containers.len() == found.nodes.len();
            return Ok(whole.then(|| mark.fingerprint.clone()));
        }
        _ => {}
    }
    match mark() {
        Some(mark) if mark.home == found.home => Ok(Some(mark.fingerprint)),
        Some(mark) => Err(format!("it was made by another workspace, `{}`", mark.home.display())),
        None => Err("it was not made by xtask".to_owned()),
    }
}

pub(super) fn decide(
    found: &Found<'_>,
    mark: impl FnOnce() -> Option<Mark>,
    wanted: &Fingerprint,
    reuse: Reuse,
) -> Decision {
    if found.nodes.is_empty() {
        return Decision::Create;
    }
    let fingerprint = match owner(found, mark) {
        Err(why) => return Decision::Refuse(why),
        Ok(None) => return Decision::Remake("it is not whole".to_owned()),
        Ok(Some(fingerprint)) => fingerprint,
    };
    if reuse == Reuse::Never {
        Decision::Remake("`reuse` is `never`".to_owned())
    } else if let Some(change) = fingerprint.change(wanted) {
        Decision::Remake(change.to_owned())
    } else if found.nodes.iter().all(|node| node.running) {
        Decision::Reuse
    } else {
        Decision::Start
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::Made;
    use super::*;

    fn fingerprint(config: &str) -> Fingerprint {
        Fingerprint {
            config: config.to_owned(),
            node_image: "node:1".to_owned(),
            image_id: Some("aa".to_owned()),
            kind: "kind v1".to_owned(),
        }
    }

    fn mark(home: &str, config: &str) -> Mark {
        Mark { home: home.into(), fingerprint: fingerprint(config) }
    }

    fn made(ids: &[&str]) -> Record {
        let containers = ids.iter().map(|&id| id.to_owned()).collect();
        let made = Some(Made { containers, kubeconfig: String::new() });
        Record { mark: mark("/home", "ports"), made }
    }

    fn node(id: &str, running: bool) -> Node {
        Node { id: id.to_owned(), name: format!("c-{id}"), running }
    }

    struct Case {
        why: &'static str,
        nodes: Vec<Node>,
        record: Option<Record>,
        mark: Option<Mark>,
        wanted: Fingerprint,
        reuse: Reuse,
        then: Decision,
    }

    fn case(why: &'static str, then: Decision) -> Case {
        Case {
            why,
            nodes: vec![node("1", true)],
            record: Some(made(&["1"])),
            mark: None,
            wanted: fingerprint("ports"),
            reuse: Reuse::IfUnchanged,
            then,
        }
    }

    fn remake(why: &str) -> Decision {
        Decision::Remake(why.to_owned())
    }

    #[test]
    fn what_is_there_settles_what_is_done() {
        let not_whole = || remake("it is not whole");
        let half = Some(Record { mark: mark("/home", "ports"), made: None });
        let refuse = |why: &str| Decision::Refuse(why.to_owned());
        let other_image = Fingerprint { image_id: Some("bb".into()), ..fingerprint("ports") };
        let pruned_image = Fingerprint { image_id: None, ..fingerprint("ports") };
        let other_kind = Fingerprint { kind: "kind v2".into(), ..fingerprint("ports") };
        let cases = [
            Case { nodes: vec![], ..case("nothing is there", Decision::Create) },
            case("it is ours and as wanted", Decision::Reuse),
            Case { nodes: vec![node("1", false)], ..case("it is stopped", Decision::Start) },
            Case { record: half, ..case("a run was killed while making it", not_whole()) },
            Case { record: Some(made(&["1", "2"])), ..case("a node is gone", not_whole()) },
            Case { reuse: Reuse::Never, ..case("never reused", remake("`reuse` is `never`")) },
            Case {
                wanted: fingerprint("more ports"),
                ..case(
                    "a port was added",
                    remake("its configuration changed (ports, or the kind configuration)"),
                )
            },
            Case { wanted: other_image, ..case("new node", remake("the node image changed")) },
            Case { wanted: pruned_image, ..case("the image was removed", Decision::Reuse) },
            Case { wanted: other_kind, ..case("kind moved", remake("kind is another version")) },
            Case { record: None, ..case("no trace of us", refuse("it was not made by xtask")) },
            Case {
                record: Some(made(&["9"])),
                ..case("other containers than ours", refuse("it was not made by xtask"))
            },
            Case {
                record: None,
                mark: Some(mark("/home", "ports")),
                ..case("`cargo clean` took the record", Decision::Reuse)
            },
            Case {
                record: None,
                mark: Some(mark("/elsewhere", "ports")),
                ..case("another checkout", refuse("it was made by another workspace, `/elsewhere`"))
            },
        ];
        for case in cases {
            let found = Found {
                nodes: &case.nodes,
                record: case.record.as_ref(),
                home: Path::new("/home"),
            };
            let mark = case.mark.clone();
            let decision = decide(&found, move || mark, &case.wanted, case.reuse);
            assert_eq!(decision, case.then, "{}", case.why);
        }
    }

    #[test]
    fn a_node_is_not_asked_for_its_mark_when_the_record_names_it() {
        let record = made(&["1"]);
        let nodes = [node("1", true)];
        let found = Found { nodes: &nodes, record: Some(&record), home: Path::new("/home") };
        let asked = || panic!("asked");
        assert_eq!(
            decide(&found, asked, &fingerprint("ports"), Reuse::IfUnchanged),
            Decision::Reuse
        );
    }
}
