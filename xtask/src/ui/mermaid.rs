//! A graph of work as a Mermaid flow chart, for documents.

use super::gantt::{Bar, direct_needs};

/// The chart; what is on the critical path has a thick line.
pub fn chart(bars: &[Bar]) -> String {
    let mut lines = vec!["flowchart LR".to_owned()];
    let mut arrows = Vec::new();
    for (at, (bar, needs)) in bars.iter().zip(direct_needs(bars)).enumerate() {
        let class = if bar.critical { ":::critical" } else { "" };
        lines.push(format!("    n{at}[\"{}<br/>{}\"]{class}", text(&bar.name), bar.time()));
        for need in needs {
            let arrow = if bar.critical && bars[need].critical { "==>" } else { "-->" };
            arrows.push(format!("    n{need} {arrow} n{at}"));
        }
    }
    lines.extend(arrows);
    lines.push("    classDef critical stroke-width:4px".to_owned());
    lines.push(String::new());
    lines.join("\n")
}

/// As text within quotes; Mermaid takes entities without their `&`.
fn text(name: &str) -> String {
    name.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;").replace('>', "#gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::gantt;

    #[test]
    fn the_chart_has_every_node_and_only_direct_edges() {
        insta::assert_snapshot!(chart(&gantt::tests::bars()), @r#"
        flowchart LR
            n0["cluster<br/>25 s"]
            n1["build api<br/>1 min 40 s"]:::critical
            n2["load api<br/>3.0 s"]:::critical
            n3["db<br/>?"]
            n4["api<br/>7.0 s"]:::critical
            n5["test<br/>1 min 30 s"]:::critical
            n0 --> n2
            n1 ==> n2
            n0 --> n3
            n2 ==> n4
            n3 --> n4
            n4 ==> n5
            classDef critical stroke-width:4px
        "#);
    }

    #[test]
    fn a_name_cannot_end_its_quotes() {
        assert_eq!(text("a\"]<b>#"), "a#quot;]#lt;b#gt;#35;");
    }
}
