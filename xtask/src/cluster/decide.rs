//! What is to be done about what is there under a cluster's name. Pure.

use std::path::{Path, PathBuf};

use super::nodes::{self, Mounts, Node};
use super::record::{Fingerprint, Record};
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
    /// This checkout's own.
    pub(super) record: Option<&'a Record>,
    /// This workspace's own folder.
    pub(super) home: &'a Path,
}

/// What is asked of the engine only where the record does not settle whose the containers are.
pub(super) trait Ask {
    /// What the containers have mounted, in their order; nothing if that cannot be told.
    fn mounts(&self) -> Vec<Mounts>;
    /// The workspace's folder that a node says it was made by.
    fn maker(&self) -> Option<PathBuf>;
}

/// Whose the containers are, and what they were made with; none if they are ours and not whole. The
/// error says why they are not ours.
pub(super) fn owner(found: &Found<'_>, ask: &impl Ask) -> Result<Option<Fingerprint>, String> {
    if let Some(record) = found.record {
        if let Some(made) = &record.made
            && found.nodes.iter().all(|node| made.containers.contains(&node.id))
        {
            // A node that was removed leaves a cluster that cannot be used.
            let whole = made.containers.len() == found.nodes.len();
            return Ok(whole.then(|| record.fingerprint.clone()));
        }
        let carried = nodes::carry(found.nodes, &ask.mounts(), &record.id);
        if carried.len() == found.nodes.len() && carried.iter().all(|carries| *carries) {
            return Ok(None);
        }
    }
    Err(foreign(ask.maker().as_deref(), found.home))
}

/// Why containers are not ours.
pub(super) fn foreign(maker: Option<&Path>, home: &Path) -> String {
    match maker {
        Some(maker) if maker == home => {
            "it was made under this path, and this checkout has no record of it".to_owned()
        }
        Some(maker) => format!("it was made by another workspace, `{}`", maker.display()),
        None => "it was not made by xtask".to_owned(),
    }
}

pub(super) fn decide(
    found: &Found<'_>,
    ask: &impl Ask,
    wanted: &Fingerprint,
    reuse: Reuse,
) -> Decision {
    if found.nodes.is_empty() {
        return Decision::Create;
    }
    let fingerprint = match owner(found, ask) {
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
    use std::cell::Cell;

    use super::super::record::Made;
    use super::*;

    const ID: &str = "00000000000000000000000000000001";
    const OTHER: &str = "00000000000000000000000000000002";

    fn fingerprint(config: &str) -> Fingerprint {
        Fingerprint {
            config: config.to_owned(),
            node_image: "node:1".to_owned(),
            image_id: Some("aa".to_owned()),
            kind: "kind v1".to_owned(),
        }
    }

    /// Of a cluster whose containers these are; none: it was begun.
    fn record(containers: Option<&[&str]>) -> Record {
        let containers = containers.map(|ids| ids.iter().map(|&id| id.to_owned()).collect());
        Record {
            id: ID.to_owned(),
            checkout: "c".to_owned(),
            provider: "podman".to_owned(),
            fingerprint: fingerprint("ports"),
            made: containers.map(|containers| Made { containers, kubeconfig: String::new() }),
        }
    }

    fn node(id: &str, running: bool) -> Node {
        Node { id: id.to_owned(), name: format!("c-{id}"), running }
    }

    /// The cluster ids of the containers, and what a node's file says.
    #[derive(Default)]
    struct Answers {
        carried: Vec<Option<&'static str>>,
        maker: Option<&'static str>,
        asked: Cell<bool>,
    }

    impl Ask for Answers {
        fn mounts(&self) -> Vec<Mounts> {
            self.asked.set(true);
            let of =
                |id: Option<&str>| Mounts { cluster: id.map(str::to_owned), ..Mounts::default() };
            self.carried.iter().copied().map(of).collect()
        }

        fn maker(&self) -> Option<PathBuf> {
            self.asked.set(true);
            self.maker.map(PathBuf::from)
        }
    }

    struct Case {
        why: &'static str,
        nodes: Vec<Node>,
        record: Option<Record>,
        answers: Answers,
        wanted: Fingerprint,
        reuse: Reuse,
        then: Decision,
    }

    impl Case {
        fn decide(&self) -> Decision {
            let (nodes, record) = (&self.nodes, self.record.as_ref());
            let found = Found { nodes, record, home: Path::new("/home") };
            decide(&found, &self.answers, &self.wanted, self.reuse)
        }
    }

    /// One node that the record names.
    fn case(why: &'static str, then: Decision) -> Case {
        Case {
            why,
            nodes: vec![node("1", true)],
            record: Some(record(Some(&["1"]))),
            answers: Answers::default(),
            wanted: fingerprint("ports"),
            reuse: Reuse::IfUnchanged,
            then,
        }
    }

    fn remake(why: &str) -> Decision {
        Decision::Remake(why.to_owned())
    }

    #[test]
    fn a_cluster_of_ours_is_used_started_or_made_anew() {
        let wanted = |change: fn(&mut Fingerprint)| {
            let mut wanted = fingerprint("ports");
            change(&mut wanted);
            wanted
        };
        let other_image = wanted(|wanted| wanted.image_id = Some("bb".into()));
        let pruned_image = wanted(|wanted| wanted.image_id = None);
        let other_kind = wanted(|wanted| wanted.kind = "kind v2".into());
        let cases = [
            Case { nodes: vec![], ..case("nothing is there", Decision::Create) },
            case("it is ours and as wanted", Decision::Reuse),
            Case { nodes: vec![node("1", false)], ..case("it is stopped", Decision::Start) },
            Case {
                record: Some(record(Some(&["1", "2"]))),
                ..case("a node is gone", remake("it is not whole"))
            },
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
        ];
        for case in cases {
            assert_eq!(case.decide(), case.then, "{}", case.why);
            assert!(!case.answers.asked.get(), "{}: the record settles it", case.why);
        }
    }

    #[test]
    fn only_containers_that_carry_the_records_id_are_ours() {
        let begun = || Some(record(None));
        let made = || Some(record(Some(&["9"])));
        let carry = |carried: &[Option<&'static str>]| Answers {
            carried: carried.to_vec(),
            ..Answers::default()
        };
        let from = |maker| Answers { maker: Some(maker), ..Answers::default() };
        let not_whole = || remake("it is not whole");
        let refuse = |why: &str| Decision::Refuse(why.to_owned());
        let strange = || refuse("it was not made by xtask");
        let two = || vec![node("1", true), node("2", true)];
        let same_path = "it was made under this path, and this checkout has no record of it";
        let elsewhere = "it was made by another workspace, `/elsewhere`";
        let cases = [
            ("killed while kind made it", two(), begun(), carry(&[Some(ID); 2]), not_whole()),
            ("made again, killed since", two(), made(), carry(&[Some(ID); 2]), not_whole()),
            (
                "killed before kind made any; made by hand since",
                two(),
                begun(),
                carry(&[None; 2]),
                strange(),
            ),
            (
                "another checkout's of that name",
                two(),
                begun(),
                carry(&[Some(OTHER); 2]),
                strange(),
            ),
            ("some of it is another's", two(), begun(), carry(&[Some(ID), Some(OTHER)]), strange()),
            ("some of it was made by hand", two(), made(), carry(&[None, Some(ID)]), strange()),
            ("the engine does not answer", two(), begun(), carry(&[]), strange()),
            ("no record, the very id", two(), None, carry(&[Some(ID); 2]), strange()),
            ("the same path elsewhere", two(), None, from("/home"), refuse(same_path)),
            ("another path", two(), begun(), from("/elsewhere"), refuse(elsewhere)),
        ];
        for (why, nodes, record, answers, then) in cases {
            let case = Case { nodes, record, answers, ..case(why, then) };
            assert_eq!(case.decide(), case.then, "{why}");
        }
    }
}
