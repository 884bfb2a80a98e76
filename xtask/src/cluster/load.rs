//! Images onto the nodes: only what is missing, in one stream a node, seen there afterwards.
//!
//! `engine save` is piped straight into `ctr images import` inside the node: no archive on disk, no
//! byte through our memory. All that a node lacks goes in one stream, so that layers the images
//! share are sent once (606 MB instead of 1,206 MB for two images on one base). `kind load` is not
//! used: it asks the engine while `save` holds its store, which deadlocks with podman, and it
//! checks nothing. `--digests` is left out: it would add an `import-DATE@sha256:…` name to every
//! image, which keeps the layers of images that were replaced on a kept node for ever.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};

use super::Cluster;
use super::held::{Image, ctr, lacking, missing};
use super::pull::{Pulls, Site};
use crate::event::{Event, Events, seconds};
use crate::process::Tool;

/// How long one stream may take: 3 GB at 10 MB/s.
const STREAM: Duration = Duration::from_mins(5);

/// What a load came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tags that had to be sent to at least one node.
    pub sent: Vec<String>,
}

/// Sees to it that every node holds every image. `engine` is `podman` or `docker`; `save` gives the
/// call that writes these tags to its standard output as one archive; `pulls` is what nodes may
/// pull. A node that fails, fails it all.
pub fn load(
    cluster: &Cluster,
    images: &[Image],
    engine: &Tool,
    (save, pulls): (impl Fn(&[String]) -> Tool + Sync, Option<&Pulls>),
    log: &std::path::Path,
    events: &Events,
) -> anyhow::Result<Loaded> {
    let begun = Instant::now();
    let names: Vec<String> = images.iter().map(|image| image.tag.clone()).collect();
    let load_one = |node: &str| {
        let lacked = match cluster.seen.get(node) {
            Some(held) => lacking(held, engine, node, images),
            None => missing(engine, node, images)?,
        };
        load_node(Site { engine, node, log, events }, &lacked, &save, pulls)
    };
    let results = thread::scope(|scope| {
        let load_one = &load_one;
        let nodes = cluster.nodes.iter();
        let threads: Vec<_> = nodes.map(|node| scope.spawn(move || load_one(node))).collect();
        let nodes = cluster.nodes.iter().zip(threads);
        nodes.map(|(node, thread)| (node, thread.join())).collect::<Vec<_>>()
    });
    let mut sent: Vec<String> = Vec::new();
    let mut faults = Vec::new();
    for (node, result) in results {
        match result {
            Ok(Ok(tags)) => sent.extend(tags),
            Ok(Err(error)) => faults.push(error.context(format!("failed to load node `{node}`"))),
            Err(_) => faults.push(anyhow!("failed to load node `{node}`: its thread panicked")),
        }
    }
    sent.sort();
    sent.dedup();
    let ok = faults.is_empty();
    let seconds = seconds(begun.elapsed());
    events.emit(Event::LoadFinished { images: names, loaded: sent.len(), ok, seconds });
    match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => Ok(Loaded { sent }),
    }
}

/// Sends a node what it lacks, and gives back the tags.
fn load_node(
    site: Site,
    lacked: &[&Image],
    save: &(impl Fn(&[String]) -> Tool + Sync),
    pulls: Option<&Pulls>,
) -> anyhow::Result<Vec<String>> {
    let Site { engine, node, log, events } = site;
    if lacked.is_empty() {
        return Ok(Vec::new());
    }
    let tags: Vec<String> = lacked.iter().map(|image| image.tag.clone()).collect();
    let nodes = vec![node.to_owned()];
    events.emit(Event::LoadStarted { images: tags.clone(), nodes, bytes: None });
    let images: Vec<Image> = lacked.iter().copied().cloned().collect();
    let mut unsent: Vec<&Image> = lacked.to_vec();
    if pulls.is_some_and(|pulls| pulls.try_all(site, lacked)) {
        unsent = missing(engine, node, &images)?;
    }
    if unsent.is_empty() {
        return Ok(tags);
    }
    let unsent: Vec<String> = unsent.iter().map(|image| image.tag.clone()).collect();
    let import = ctr(engine, node).args(["images", "import", "-"]).log(log).limit(STREAM);
    save(&unsent).limit(STREAM).pipe_into(&import).context("failed to send the images")?;
    let lacking = missing(engine, node, &images)?;
    if !lacking.is_empty() {
        let lacking: Vec<&str> = lacking.iter().map(|image| image.tag.as_str()).collect();
        bail!("the import ended well, but the node lacks {}", lacking.join(", "));
    }
    Ok(tags)
}
