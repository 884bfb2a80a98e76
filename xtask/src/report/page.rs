//! One run as a page: a chart over time, the memory beside it, its steps against those of earlier
//! runs.
//!
//! Self-contained: no script, no font, no address is fetched, so it can be kept with a build's
//! artifacts and opened anywhere. Everything in it that is not ours goes through [`super::html`].

use super::html::Html;
use super::past::{Past, median};
use super::path;
use super::record::{Record, Step};
use crate::event::Kind;

/// Looks of the page; follows the reader's light or dark.
const STYLE: &str = include_str!("page.css");

/// Width of the charts, in units of which a page of 1280 points shows one a point.
const WIDTH: f64 = 1232.0;
/// Left of the charts: names.
const LEFT: f64 = 230.0;
/// Right of them: times.
const RIGHT: f64 = 110.0;
/// Height of a row.
const ROW: f64 = 22.0;
/// Height of the chart of memory.
const MEMORY: f64 = 150.0;
/// Earlier runs that are shown.
const RUNS: usize = 40;

/// How times and bytes are written.
pub struct Words {
    pub seconds: fn(f64) -> String,
    pub bytes: fn(u64) -> String,
}

/// The page of `record`; `earlier` are runs of the same suite on the same machine before it.
pub fn page(record: &Record, earlier: &Past, words: &Words) -> String {
    let title = record.suite.as_deref().unwrap_or("images");
    let mut html = Html::default();
    html.raw("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    html.raw("<meta name=\"viewport\" content=\"width=device-width\">");
    html.tag("title", "", format!("{title} · {}", record.id));
    html.raw("<style>").raw(STYLE).raw("</style></head><body>\n");
    let page = Page { record, earlier, words, critical: path::critical(record) };
    page.head(&mut html, title);
    page.gantt(&mut html);
    page.memory(&mut html);
    page.table(&mut html);
    page.runs(&mut html);
    html.raw("</body></html>\n");
    html.into_text()
}

struct Page<'a> {
    record: &'a Record,
    earlier: &'a Past,
    words: &'a Words,
    critical: Vec<usize>,
}

impl Page<'_> {
    fn head(&self, html: &mut Html, title: &str) {
        let Self { record, words, .. } = self;
        let outcome = match &record.outcome {
            None => "killed".to_owned(),
            Some(outcome) => format!(
                "{} in {}: {} built, {} skipped, {} loaded, {} tests passed, {} failed",
                if outcome.ok { "done" } else { "failed" },
                (words.seconds)(outcome.seconds),
                outcome.built,
                outcome.skipped,
                outcome.loaded,
                outcome.passed,
                outcome.failed
            ),
        };
        let machine = record.machine.as_ref().map(|machine| {
            format!(
                " · {}, {} CPUs, {}",
                machine.engine,
                machine.cpus,
                (words.bytes)(machine.memory)
            )
        });
        let began = humantime::format_rfc3339_seconds(record.began);
        html.tag("h1", "", format!("{title}: {outcome}"));
        html.tag(
            "p",
            "class=\"dim\"",
            format!("{began}{} · run {}", machine.unwrap_or_default(), record.id),
        );
        let names = self.critical.iter().map(|at| record.steps[*at].name.as_str());
        let path = names.collect::<Vec<_>>().join(" → ");
        html.raw("<p>Critical path: ").text(path).raw("</p>\n");
        for image in record.images.iter().filter(|image| image.action == "build") {
            let reasons = image.reasons.join(", ");
            html.tag("p", "class=\"dim\"", format!("built {}: {reasons}", image.name));
        }
        html.raw("<p class=\"key\">");
        for kind in ["build", "cluster", "load", "step", "test"] {
            html.raw(format!("<span><i style=\"background:var(--{kind})\"></i>{kind}</span>"));
        }
        html.raw("<span><strong>bold</strong>, outlined: critical path</span><span>dotted: waited for room</span></p>\n");
    }

    /// Where a moment lies.
    fn x(&self, at: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (at / self.whole()).clamp(0.0, 1.0)
    }

    fn whole(&self) -> f64 {
        let last = self.record.steps.iter().map(|step| step.end).fold(0.0, f64::max);
        last.max(self.record.seconds).max(0.1)
    }

    fn gantt(&self, html: &mut Html) {
        let mut order: Vec<usize> = (0..self.record.steps.len()).collect();
        let steps = &self.record.steps;
        order.sort_by(|a, b| steps[*a].start.total_cmp(&steps[*b].start).then(a.cmp(b)));
        #[expect(clippy::cast_precision_loss, reason = "some dozens of rows")]
        let height = ROW * order.len() as f64;
        html.raw("<h2>Steps over time</h2>\n");
        html.raw(format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", height + 20.0));
        self.grid(html, height);
        for (row, at) in order.into_iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "some dozens of rows")]
            self.bar(html, at, ROW * row as f64);
        }
        html.raw("</svg>\n");
    }

    /// Lines at round times, a dozen at most, with the times below: the events say when a run
    /// ended, and a damaged file may say anything.
    fn grid(&self, html: &mut Html, height: f64) {
        let pace = [0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0];
        let pace = pace.into_iter().find(|pace| self.whole() / pace <= 12.0);
        let pace = pace.unwrap_or_else(|| (self.whole() / 12.0 / 3600.0).ceil() * 3600.0);
        let mut at = 0.0;
        while at <= self.whole() {
            let x = self.x(at);
            line(html, "grid", (x, 0.0), (x, height));
            label(html, (x, height + 14.0), "middle", (self.words.seconds)(at));
            at += pace;
        }
    }

    fn bar(&self, html: &mut Html, at: usize, top: f64) {
        let step = &self.record.steps[at];
        let (from, to) = (self.x(step.start), self.x(step.end));
        let (middle, base) = (top + ROW / 2.0, top + ROW / 2.0 + 4.0);
        let ready = path::ready(self.record, step);
        html.raw("<g>");
        html.tag("title", "", self.told(step, ready));
        let critical = if self.critical.contains(&at) { " critical" } else { "" };
        html.tag(
            "text",
            &format!("class=\"name{critical}\" x=\"0\" y=\"{base}\""),
            cut(&step.name),
        );
        if step.start - ready > 0.5 {
            line(html, "wait", (self.x(ready), middle), (from, middle));
        }
        let failed = if step.ok { "" } else { " failed" };
        let (top, height, width) = (top + 4.0, ROW - 8.0, (to - from).max(2.0));
        let class = format!("{}{critical}{failed}", class(step.kind));
        let size = format!("width=\"{width:.1}\" height=\"{height}\" rx=\"2\"");
        html.raw(format!("<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top}\" {size}/>"));
        let time = (self.words.seconds)(step.seconds());
        label(html, (to.max(from + 2.0) + 6.0, base), "start", time);
        html.raw("</g>\n");
    }

    /// What is told of a step where the reader points.
    fn told(&self, step: &Step, ready: f64) -> String {
        let Words { seconds, bytes } = self.words;
        let mut lines = vec![format!("{} {}: {}", step.name, step.action, seconds(step.seconds()))];
        lines.push(format!("from {} to {}", seconds(step.start), seconds(step.end)));
        if step.start - ready > 0.5 {
            lines.push(format!("had all it needs at {}", seconds(ready)));
        }
        lines.extend(
            step.waits.iter().map(|wait| format!("{}: waits for {}", seconds(wait.at), wait.what)),
        );
        if let (Some(reserved), Some(peak)) = (step.reserved, step.peak) {
            lines.push(format!("reserved {}, took {}", bytes(reserved), bytes(peak)));
        }
        lines.extend(step.error.clone());
        lines.join("\n")
    }

    /// What builds held against what they might.
    fn memory(&self, html: &mut Html) {
        let reserved = self.reserved();
        let used = &self.record.memory;
        let most = reserved.iter().chain(used).map(|(_, bytes)| *bytes).max().unwrap_or(0);
        if most == 0 {
            return;
        }
        let budget = self.record.budget.unwrap_or(0);
        // A budget far above everything would flatten the rest: its line is then above the scale.
        let is_near = budget <= most.saturating_mul(4);
        let (top, head) = if is_near { (most.max(budget), 10.0) } else { (most, 34.0) };
        #[expect(clippy::cast_precision_loss, reason = "points of a chart")]
        let y = |bytes: u64| MEMORY - (MEMORY - head) * bytes as f64 / top as f64;
        let bytes = self.words.bytes;
        html.raw("<h2>Memory of builds</h2>\n");
        let key = "filled: what they were seen to hold; line: what was reserved for them";
        html.tag("p", "class=\"dim\"", key);
        html.raw(format!("<svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\">", MEMORY + 20.0));
        self.grid(html, MEMORY);
        html.raw(format!("<path class=\"used\" d=\"{}\"/>", self.area(used, &y)));
        html.raw(format!("<path class=\"reserved\" d=\"{}\"/>", self.steps_line(&reserved, &y)));
        if budget > 0 {
            let at = if is_near { y(budget) } else { 10.0 };
            line(html, "budget", (LEFT, at), (WIDTH - RIGHT, at));
            let scale = if is_near { "" } else { ", not to scale" };
            label(
                html,
                (LEFT + 4.0, at + 14.0),
                "start",
                format!("budget {}{scale}", bytes(budget)),
            );
        }
        for level in [most, most / 2] {
            label(html, (LEFT - 8.0, y(level) + 4.0), "end", bytes(level));
        }
        html.raw("</svg>\n");
    }

    /// Bytes reserved from each moment on.
    fn reserved(&self) -> Vec<(f64, u64)> {
        let builds = self.record.steps.iter().filter_map(|step| Some((step, step.reserved?)));
        let changes =
            builds.flat_map(|(step, bytes)| [(step.start, bytes, true), (step.end, bytes, false)]);
        let mut changes: Vec<(f64, u64, bool)> = changes.collect();
        changes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.2.cmp(&b.2)));
        let mut held = 0_u64;
        let level = |(at, bytes, more): (f64, u64, bool)| {
            held = if more { held.saturating_add(bytes) } else { held.saturating_sub(bytes) };
            (at, held)
        };
        changes.into_iter().map(level).collect()
    }

    fn area(&self, points: &[(f64, u64)], y: &dyn Fn(u64) -> f64) -> String {
        let Some((first, _)) = points.first() else { return String::new() };
        let last = points.last().map_or(*first, |(at, _)| *at);
        let line = points.iter().map(|(at, bytes)| format!("L{:.1} {:.1}", self.x(*at), y(*bytes)));
        let line = line.collect::<Vec<_>>().join(" ");
        format!("M{:.1} {MEMORY} {line} L{:.1} {MEMORY} Z", self.x(*first), self.x(last))
    }

    fn steps_line(&self, points: &[(f64, u64)], y: &dyn Fn(u64) -> f64) -> String {
        let step = |(at, bytes): &(f64, u64)| format!("H{:.1} V{:.1}", self.x(*at), y(*bytes));
        let line = points.iter().map(step).collect::<Vec<_>>().join(" ");
        format!("M{:.1} {MEMORY} {line}", self.x(0.0))
    }

    fn table(&self, html: &mut Html) {
        html.raw("<h2>Steps against earlier runs</h2>\n<table><tr><th>step</th><th>way</th>");
        for head in
            ["time", "median before (runs)", "difference", "waited for room", "peak of reserved"]
        {
            html.tag("th", "class=\"n\"", head);
        }
        html.raw("</tr>\n");
        let mut steps: Vec<&Step> = self.record.steps.iter().collect();
        steps.sort_by(|a, b| b.seconds().total_cmp(&a.seconds()));
        for step in steps {
            self.row(html, step);
        }
        html.raw("</table>\n");
    }

    fn row(&self, html: &mut Html, step: &Step) {
        let Words { seconds, bytes } = self.words;
        let times = self.earlier.times(step.kind, &step.name, &step.action);
        let before = median(&times);
        let waited = step.start - path::ready(self.record, step);
        let peak = step.reserved.zip(step.peak);
        html.raw("<tr>").tag("td", "", &step.name).tag("td", "class=\"dim\"", &step.action);
        html.tag("td", "class=\"n\"", seconds(step.seconds()));
        let told = before.map(|before| format!("{} ({})", seconds(before), times.len()));
        html.tag("td", "class=\"n\"", told.unwrap_or_else(|| "–".to_owned()));
        let part =
            before.filter(|before| *before > 0.05).map(|before| step.seconds() / before - 1.0);
        let class = match part {
            Some(part) if part > 0.1 => "class=\"n worse\"",
            Some(part) if part < -0.1 => "class=\"n better\"",
            _ => "class=\"n\"",
        };
        html.tag(
            "td",
            class,
            part.map(|part| format!("{:+} %", rounded(part * 100.0))).unwrap_or_default(),
        );
        html.tag("td", "class=\"n\"", if waited > 0.5 { seconds(waited) } else { String::new() });
        let peak = peak.map(|(reserved, peak)| format!("{} of {}", bytes(peak), bytes(reserved)));
        html.tag("td", "class=\"n\"", peak.unwrap_or_default()).raw("</tr>\n");
    }

    /// How long the whole took, this run last.
    fn runs(&self, html: &mut Html) {
        let earlier = &self.earlier.records;
        let shown = earlier[earlier.len().saturating_sub(RUNS)..].iter().chain([self.record]);
        let shown: Vec<&Record> = shown.collect();
        let most = shown.iter().map(|record| record.seconds).fold(0.1, f64::max);
        html.raw("<h2>Runs</h2>\n");
        let longest = (self.words.seconds)(most);
        let key = format!(
            "the last {} of this suite, this one in colour; the longest took {longest}",
            shown.len()
        );
        html.tag("p", "class=\"dim\"", key);
        html.raw(format!("<svg viewBox=\"0 0 {WIDTH} 110\" role=\"img\">"));
        for (at, record) in shown.iter().enumerate() {
            #[expect(clippy::cast_precision_loss, reason = "some dozens of runs")]
            let x = 28.0 * at as f64;
            let height = 90.0 * record.seconds / most;
            let ok = record.outcome.as_ref().is_some_and(|outcome| outcome.ok);
            let this = if record.id == self.record.id { " this" } else { "" };
            let bad = if ok { "" } else { " bad" };
            html.raw("<g>");
            html.tag(
                "title",
                "",
                format!("{}: {}", record.id, (self.words.seconds)(record.seconds)),
            );
            html.raw(format!(
                "<rect class=\"run{this}{bad}\" x=\"{x}\" y=\"{:.1}\" width=\"20\" height=\"{height:.1}\"/></g>",
                100.0 - height
            ));
        }
        html.raw("</svg>\n");
    }
}

fn line(html: &mut Html, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let (from, to) =
        (format!("x1=\"{x1:.1}\" y1=\"{y1:.1}\""), format!("x2=\"{x2:.1}\" y2=\"{y2:.1}\""));
    html.raw(format!("<line class=\"{class}\" {from} {to}/>"));
}

/// Small words beside what they belong to.
fn label(html: &mut Html, (x, y): (f64, f64), anchor: &str, words: impl AsRef<str>) {
    let place = format!("class=\"dim\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\"");
    html.tag("text", &place, words);
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Build => "build",
        Kind::Cluster => "cluster",
        Kind::Load | Kind::Push => "load",
        Kind::Step => "step",
        Kind::Test => "test",
    }
}

/// To a whole number, which is never `-0`.
fn rounded(value: f64) -> f64 {
    value.round() + 0.0
}

/// A name as far as the column goes.
fn cut(name: &str) -> String {
    const COLUMN: usize = 32;
    if name.chars().count() <= COLUMN {
        return name.to_owned();
    }
    name.chars().take(COLUMN - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::record::tests::RUN;

    fn shown(text: &str) -> String {
        let record = Record::read("20261121-120000-1", text).unwrap().unwrap();
        let words =
            Words { seconds: |time| format!("{time:.1} s"), bytes: |bytes| format!("{bytes} B") };
        page(&record, &Past { records: vec![record.clone()], ..Past::default() }, &words)
    }

    #[test]
    fn the_page_shows_every_step_its_path_and_the_memory() {
        let page = shown(RUN);
        for part in [
            "Critical path: db → test",
            "class=\"test critical\"",
            "class=\"step critical failed\"",
            "class=\"used\" d=\"M",
            "budget 4000 B, not to scale",
            "700 B of 900 B",
            "0.3 s: waits for memory",
            "<td class=\"n\">10.0 s (1)</td><td class=\"n\">+0 %</td>",
        ] {
            assert!(page.contains(part), "{part}\n{page}");
        }
    }

    #[test]
    fn nothing_is_fetched_and_nothing_foreign_is_markup() {
        let evil =
            RUN.replace("no image", "<script>alert(1)</script>").replace("\"shop\"", "\"<b>&\"");
        let page = shown(&evil);
        for part in ["<script", "http://", "https://", "src=", "<b>", "url(", "no <b>"] {
            assert!(!page.contains(part), "{part}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    }

    #[test]
    fn a_killed_run_without_steps_has_a_page_too() {
        let plan: String = RUN.split_inclusive('\n').take(2).collect();
        assert!(shown(&plan).contains("killed"));
    }
}
