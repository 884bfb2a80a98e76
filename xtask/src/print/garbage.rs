//! What `gc` may free, as text.

use crate::figure;
use crate::run::garbage::Garbage;
use crate::session::Workspace;
use crate::text::{BOLD, DIM, OFF, bytes, plural};

/// A line for each thing that may go, and the sum.
pub(crate) fn text(workspace: &Workspace, garbage: &Garbage) -> String {
    let Garbage { old, on_nodes, on_clusters } = garbage;
    let engine = workspace.engine.name();
    let mut lines: Vec<String> = old
        .iter()
        .map(|old| {
            format!("{engine}  {}  {DIM}{} {}{OFF}", old.called(), old.name, bytes(old.size))
        })
        .collect();
    for (node, names) in on_nodes {
        let tags = names.iter().filter(|name| !name.starts_with("sha256:"));
        lines.extend(tags.map(|tag| format!("{node}  {tag}")));
    }
    for (cluster, left) in on_clusters {
        lines.extend(left.iter().map(|left| format!("{}  {left}", cluster.name)));
    }
    let size = figure::sum(old.iter().map(|old| old.size));
    let images = plural(old.len() as u64, "image");
    let (nodes, up_to) = (plural(on_nodes.len() as u64, "node"), bytes(size));
    // Layers that images share are in the size of each.
    lines.push(format!("{BOLD}{images} on {engine}, up to {up_to}; images on {nodes}{OFF}\n"));
    lines.join("\n")
}
