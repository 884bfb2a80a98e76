//! Which steps have become slower, beyond the noise they were seen to have.
//!
//! The times of a step scatter by a part of themselves, and now and then one is far off (a busy
//! machine, a slow network). So their logarithms are compared, and nothing is believed of one
//! figure that others could not bear out:
//!
//! - **middle**: the mean of the middle half, which no outlier moves and which wastes less than a
//!   median.
//! - **spread**: Rousseeuw and Croux's Qn, the quarter of all differences between two figures that
//!   is smallest, scaled to the standard deviation of a normal distribution. As robust as the usual
//!   median of deviations (MAD), and from 25 figures twice as sure.
//! - **lasting**: the middle of the last [`RECENT`] runs is above that of the runs before by more
//!   than [`SURE`] times what the two middles together scatter by. One slow run changes nothing;
//!   three of five do.
//! - **at once**: the last run alone is half as long again, above every figure before, and by more
//!   than [`LONE`] spreads. Too much to wait for four more runs.
//!
//! With 8 % of noise and 30 runs, a step that is 25 % slower in the last five is missed once in
//! forty times, and one in fifty gates over ten unchanged steps is wrong: the test counts both over
//! a thousand seeds. A single run 25 % slower is not named: at three spreads, one of ten steps has
//! its like in every hundred runs.

use std::collections::BTreeMap;

use serde::Serialize;

use super::past::Past;
use super::record::Step;
use crate::event::Kind;

/// Runs that are compared with those before.
const RECENT: usize = 5;
/// Fewest runs before them: of fewer nobody knows the noise.
const LEAST: usize = 8;
/// Most runs before them: what was the case a hundred runs ago need not be so again.
const MOST: usize = 30;
/// In scatters of the difference. 3.5 halves the false alarms and misses one in fourteen.
const SURE: f64 = 3.0;
/// In spreads of a single figure.
const LONE: f64 = 6.0;
/// A single figure must be so many times what was usual.
const MUCH: f64 = 1.5;
/// Noise that is always there, as a part: with figures that all but agree, nothing is a regression
/// yet.
const FLOOR: f64 = 0.03;
/// Seconds below which nobody cares.
const WORTH: f64 = 0.5;

/// A step that has become slower.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Regression {
    pub name: String,
    pub action: String,
    /// What it took usually, in seconds.
    pub before: f64,
    /// What it takes now.
    pub now: f64,
    /// Above which it is beyond the noise.
    pub limit: f64,
    /// Whether the last run alone shows it.
    pub at_once: bool,
}

/// Runs that a step must have been done in to be judged.
pub const NEEDED: usize = RECENT + LEAST;

/// Times of a step: in which run, and seconds.
type Series = Vec<(usize, f64)>;

/// All steps that have become slower in the last runs.
pub(super) fn regressions(past: &Past) -> Vec<Regression> {
    let judged = lately(past).into_iter().filter_map(|((_, name, action), times)| {
        let times: Vec<f64> = times.into_iter().map(|(_, seconds)| seconds).collect();
        judge(&times).map(|found| Regression {
            name: name.to_owned(),
            action: action.to_owned(),
            ..found
        })
    });
    let mut found: Vec<Regression> = judged.collect();
    found.sort_by(|a, b| (b.now - b.before).total_cmp(&(a.now - a.before)));
    found
}

/// Whether there are figures enough of any step to say that it has, or has not, become slower.
pub(super) fn can_judge(past: &Past) -> bool {
    lately(past).values().any(|times| times.len() >= NEEDED)
}

/// Times of the steps that were done lately: what was not done has not become slower.
fn lately(past: &Past) -> BTreeMap<(Kind, &str, &str), Series> {
    let mut series: BTreeMap<(Kind, &str, &str), Series> = BTreeMap::new();
    for (at, record) in past.records.iter().enumerate() {
        for step in record.steps.iter().filter(|step| step.ok) {
            let Step { kind, name, action, .. } = step;
            series.entry((*kind, name, action)).or_default().push((at, step.seconds()));
        }
    }
    let lately = past.records.len().saturating_sub(RECENT);
    series.retain(|_, times| times.last().is_some_and(|(at, _)| *at >= lately));
    series
}

/// Judges the times of one step, the oldest first.
fn judge(times: &[f64]) -> Option<Regression> {
    let (before, recent) = times.split_at(times.len().checked_sub(RECENT)?);
    let before = &before[before.len().saturating_sub(MOST)..];
    if before.len() < LEAST {
        return None;
    }
    let logs = |times: &[f64]| times.iter().map(|time| time.max(1e-3).ln()).collect::<Vec<_>>();
    let (old, new) = (logs(before), logs(recent));
    let spread = spread(&old).max(FLOOR);
    let usual = middle(&old);
    let limit = (usual + SURE * spread * scatter(old.len(), new.len())).exp();
    let lone_limit = (usual + LONE * spread).exp().max(usual.exp() * MUCH);
    let highest = before.iter().copied().fold(lone_limit, f64::max);
    let (usual, now) = (usual.exp(), middle(&new).exp());
    let last = *recent.last()?;
    let found = |now, limit, at_once| {
        let name = String::new();
        Some(Regression { action: name.clone(), name, before: usual, now, limit, at_once })
    };
    if now > limit && now - usual > WORTH {
        found(now, limit, false)
    } else if last > highest && last - usual > WORTH {
        found(last, highest, true)
    } else {
        None
    }
}

/// The mean of the middle half.
fn middle(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    let half = &sorted[cut..sorted.len() - cut];
    half.iter().sum::<f64>() / count(half.len())
}

/// Qn, as the standard deviation of a normal distribution.
fn spread(figures: &[f64]) -> f64 {
    let pairs = |at: usize| figures[..at].iter().map(move |other| (figures[at] - other).abs());
    let mut differences: Vec<f64> = (0..figures.len()).flat_map(pairs).collect();
    differences.sort_by(f64::total_cmp);
    let half = figures.len() / 2 + 1;
    // The correction for few figures (Croux and Rousseeuw 1992).
    let n = count(figures.len());
    let few = if figures.len() % 2 == 1 { n / (n + 1.4) } else { n / (n + 3.8) };
    2.2219 * few * differences[half * (half - 1) / 2 - 1]
}

/// By how many spreads the difference of two middles scatters. The middle of normal figures
/// scatters by a fifth more than their mean.
fn scatter(old: usize, new: usize) -> f64 {
    (1.2 / count(old) + 1.2 / count(new)).sqrt()
}

fn count(figures: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "some dozens")]
    let count = figures as f64;
    count
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::report::Record;

    const NAMES: [&str; 10] = [
        "build gateway",
        "build datastorage",
        "cluster",
        "load",
        "crds",
        "postgresql",
        "redis",
        "datastorage",
        "gateway",
        "test",
    ];

    /// A normal distribution's figure: the sum of twelve even ones.
    fn normal(rng: &mut fastrand::Rng) -> f64 {
        (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
    }

    /// Thirty runs with 8 % of noise; `slow` is a step, and since which run it takes how many times
    /// as long.
    fn runs(seed: u64, slow: Option<(&str, usize, f64)>) -> Past {
        let mut rng = fastrand::Rng::with_seed(seed);
        let record =
            |at: usize, rng: &mut fastrand::Rng| {
                let step =
                    |(place, name): (usize, &&str)| {
                        let times = slow.map_or(1.0, |(which, since, times)| {
                            if which == *name && at >= since { times } else { 1.0 }
                        });
                        let usual = 3.0 + 20.0 * count(place);
                        Step {
                            name: (*name).to_owned(),
                            kind: Kind::Step,
                            action: "apply".to_owned(),
                            needs: Vec::new(),
                            start: 0.0,
                            end: usual * times * (1.0 + 0.08 * normal(rng)),
                            ok: true,
                            reserved: None,
                            peak: None,
                            error: None,
                            waits: Vec::new(),
                        }
                    };
                Record {
                    id: format!("{at}"),
                    began: SystemTime::UNIX_EPOCH,
                    suite: None,
                    machine: None,
                    budget: None,
                    images: Vec::new(),
                    steps: NAMES.iter().enumerate().map(step).collect(),
                    memory: Vec::new(),
                    outcome: None,
                    seconds: 0.0,
                }
            };
        let records = (0..30).map(|at| record(at, &mut rng)).collect();
        Past { records, unreadable: Vec::new() }
    }

    fn named(past: &Past) -> Vec<String> {
        regressions(past).into_iter().map(|found| found.name).collect()
    }

    #[test]
    fn a_step_a_quarter_slower_is_named_and_without_it_the_gate_is_silent() {
        const SEEDS: u64 = 1000;
        let (mut missed, mut false_alarms) = (0, 0);
        for seed in 0..SEEDS {
            let slow = NAMES[(seed % 10) as usize];
            missed +=
                usize::from(!named(&runs(seed, Some((slow, 25, 1.25)))).contains(&slow.into()));
            false_alarms += usize::from(!named(&runs(seed + SEEDS, None)).is_empty());
        }
        assert!(missed <= 40, "{missed} of {SEEDS} missed");
        assert!(false_alarms <= 30, "{false_alarms} false alarms in {SEEDS} gates of ten steps");
    }

    #[test]
    fn one_run_that_was_off_is_no_regression_and_one_far_off_is_said_at_once() {
        let judged = |last: f64| {
            let mut past = runs(7, None);
            let steps = past.records.last_mut().unwrap();
            steps.steps[1].end = last;
            regressions(&past)
        };
        assert_eq!(judged(23.0 * 1.25), []);
        let found = judged(23.0 * 2.0);
        assert_eq!((found[0].name.as_str(), found[0].at_once), ("build datastorage", true));
        // Slow all along now and then: seen before, so no surprise.
        let mut past = runs(7, None);
        for at in [3, 9, 29] {
            past.records[at].steps[1].end = 46.0;
        }
        assert_eq!(regressions(&past), []);
    }

    #[test]
    fn of_few_runs_and_of_steps_not_done_lately_nothing_is_said() {
        let slow = Some(("test", 25, 3.0));
        let mut few = runs(1, slow);
        few.records.drain(..18);
        assert_eq!(regressions(&few), []);
        let mut gone = runs(1, slow);
        for record in &mut gone.records[25..] {
            record.steps.clear();
        }
        assert_eq!(regressions(&gone), []);
    }

    #[test]
    fn tenths_of_a_second_are_not_worth_a_word() {
        let times: Vec<f64> = (0..30).map(|at| if at < 25 { 0.2 } else { 0.6 }).collect();
        assert_eq!(judge(&times), None);
    }

    #[test]
    fn spread_and_middle_are_those_of_a_normal_distribution_whatever_the_outliers() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut sum = 0.0;
        for _ in 0..400 {
            let mut figures: Vec<f64> = (0..25).map(|_| normal(&mut rng)).collect();
            figures[0] = 1000.0;
            assert!(middle(&figures).abs() < 1.0);
            sum += spread(&figures);
        }
        assert!((0.9..1.2).contains(&(sum / 400.0)), "{}", sum / 400.0);
    }
}
