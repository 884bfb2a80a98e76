//! A graph of work over time, a line a node, within 80 columns.

use crate::text::{BOLD, DIM, OFF, YELLOW, seconds};

/// Columns of a line.
const WIDTH: usize = 80;
/// Columns of the bars.
const BARS: usize = 20;
/// Columns of a time: `12 min 34 s`.
const TIME: usize = 11;

/// A node, and when it is going to run.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    pub name: String,
    /// How it is going to be done; empty where there is but one way.
    pub way: String,
    /// Places of what it needs in the list of nodes; all before its own.
    pub needs: Vec<usize>,
    /// Seconds from the start of the run.
    pub start: f64,
    pub end: f64,
    /// What it is expected to take; none if that is not known and `end` is a guess.
    pub seconds: Option<f64>,
    /// On the longest path.
    pub critical: bool,
}

impl Bar {
    /// What it is expected to take, or `?`.
    pub fn time(&self) -> String {
        self.seconds.map_or_else(|| "?".to_owned(), seconds)
    }
}

/// The lines. Those on the critical path begin with `*`; `blocks`: bars of more than plain letters.
pub fn lines(bars: &[Bar], blocks: bool) -> Vec<String> {
    let whole = bars.iter().map(|bar| bar.end).fold(0.0, f64::max);
    let label = |bar: &Bar| bar.name.chars().count() + 1 + bar.way.chars().count();
    let widest = bars.iter().map(label).max().unwrap_or(0).min(28);
    let rest = WIDTH.saturating_sub(2 + widest + 1 + TIME + 1 + BARS + 1);
    let needs = direct_needs(bars);
    let line = |(at, bar): (usize, &Bar)| {
        let (mark, on) = if bar.critical { ("* ", BOLD) } else { ("  ", "") };
        let pad = " ".repeat(widest.saturating_sub(label(bar)));
        let label = format!("{on}{}{OFF} {DIM}{}{OFF}{pad}", bar.name, bar.way);
        let names: Vec<&str> = needs[at].iter().map(|need| &*bars[*need].name).collect();
        let after = fitted(&names, rest);
        let drawn = drawn(bar, whole, blocks);
        let drawn = if after.is_empty() { drawn.trim_end() } else { &drawn };
        let after = if after.is_empty() { after } else { format!(" {DIM}{after}{OFF}") };
        format!("{mark}{label} {:>TIME$} {YELLOW}{drawn}{OFF}{after}", bar.time())
    };
    bars.iter().enumerate().map(line).collect()
}

/// What each node needs that nothing else it needs stands for.
pub fn direct_needs(bars: &[Bar]) -> Vec<Vec<usize>> {
    let mut above: Vec<Vec<bool>> = Vec::new();
    let mut direct = Vec::new();
    for bar in bars {
        let implied = |need: usize| bar.needs.iter().any(|other| above[*other][need]);
        direct.push(bar.needs.iter().copied().filter(|need| !implied(*need)).collect());
        let mut all: Vec<bool> = (0..bars.len()).map(implied).collect();
        for need in &bar.needs {
            all[*need] = true;
        }
        above.push(all);
    }
    direct
}

/// Names as far as they fit, then how many more.
fn fitted(names: &[&str], width: usize) -> String {
    for shown in (1..=names.len()).rev() {
        let more = match names.len() - shown {
            0 => String::new(),
            left => format!(" +{left}"),
        };
        let text = format!("{}{more}", names[..shown].join(", "));
        if text.chars().count() <= width {
            return text;
        }
    }
    if names.is_empty() { String::new() } else { format!("{} nodes", names.len()) }
}

fn drawn(bar: &Bar, whole: f64, blocks: bool) -> String {
    #[expect(clippy::cast_precision_loss, reason = "columns of a line")]
    let scale = if whole > 0.0 { BARS as f64 / whole } else { 0.0 };
    let column = |at: f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to BARS")]
        let column = (at * scale).round() as usize;
        column.min(BARS)
    };
    let from = column(bar.start).min(BARS - 1);
    let length = column(bar.end).saturating_sub(from).max(1);
    let letter = if blocks { "█" } else { "#" };
    let drawn = format!("{}{}", " ".repeat(from), letter.repeat(length));
    format!("{drawn:<BARS$}")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn bars() -> Vec<Bar> {
        let bar = |name: &str, way: &str, needs: &[usize], start, end, critical| Bar {
            name: name.into(),
            way: way.into(),
            needs: needs.to_vec(),
            start,
            end,
            seconds: Some(end - start),
            critical,
        };
        vec![
            bar("cluster", "make", &[], 0.0, 25.0, false),
            bar("build api", "rebuild", &[], 0.0, 100.0, true),
            bar("load api", "send", &[0, 1], 100.0, 103.0, true),
            Bar { seconds: None, ..bar("db", "apply", &[0], 25.0, 31.0, false) },
            bar("api", "apply", &[0, 2, 3], 103.0, 110.0, true),
            bar("test", "", &[0, 2, 3, 4], 110.0, 200.0, true),
        ]
    }

    fn plain(lines: &[String]) -> String {
        [BOLD, DIM, OFF, YELLOW].iter().fold(lines.join("\n"), |text, code| text.replace(code, ""))
    }

    #[test]
    fn each_node_has_a_line_with_its_time_and_what_it_directly_needs() {
        insta::assert_snapshot!(plain(&lines(&bars(), false)), @r#"
          cluster make             25 s ###
        * build api rebuild  1 min 40 s ##########
        * load api send           3.0 s           #          cluster, build api
          db apply                    ?    #                 cluster
        * api apply               7.0 s           #          load api, db
        * test               1 min 30 s            ######### api
        "#);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let mut bars = bars();
        for at in 0..12 {
            let name = format!("a-step-with-a-long-name-{at}");
            bars.push(Bar { name, way: "unchanged".into(), end: 9000.0, ..Bar::default() });
        }
        let needs = (0..bars.len()).collect();
        bars.push(Bar { name: "all".into(), needs, end: 9000.0, ..Bar::default() });
        for line in plain(&lines(&bars, true)).lines() {
            assert!(line.chars().count() <= WIDTH, "{line}");
        }
    }
}
