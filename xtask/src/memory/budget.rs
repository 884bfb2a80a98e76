//! The budget: how many bytes the builds of this machine may hold together.
//!
//! ```text
//! budget = the least of   engine's total    − cluster          − reserve
//!                         host's available  − cluster to come  − reserve
//!                         every cgroup      − used − to come   − reserve
//! ```
//!
//! A limit says what there is in all, so a cluster comes off it, up or not. What is available now
//! or used now has a cluster that is up in it already: only one that is coming up comes off. Of an
//! engine in a virtual machine or on another host nothing but its total is known: our own host and
//! cgroups say nothing of it, and its free memory leaves out what page cache would give back. Swap
//! is never counted: a build that swaps is as good as hung.
//!
//! While other runs hold memory, what is available is what they have left so far; they may still be
//! growing. Then what was available before them counts instead, and the ledger takes off what they
//! hold.
//!
//! Without a `reserve` in the configuration it is in proportion to the least that there is in all:
//! of a machine of 2 GiB a whole GiB would be half.
//!
//! A need above the budget but not above it and the reserve together runs alone. One above both is
//! refused.

use std::fmt;

use crate::figure;

/// What comes off is counted but not shown below this many bytes: 0.01 GiB.
const SMALLEST: u64 = 10 << 20;

/// The reserve where none is configured: this part of the least that there is in all, and no more
/// than [`MOST_RESERVE`].
const RESERVE_PART: u64 = 8;
const MOST_RESERVE: u64 = 1 << 30;

/// The machine that builds, as far as memory goes. All figures in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `podman`, `docker`.
    pub engine: &'static str,
    /// It builds in a virtual machine or on another host.
    pub remote: bool,
    pub total: u64,
    /// Of the host we run on; none where it does not say.
    pub available: Option<u64>,
    /// Control groups with a limit, above us or above the engine.
    pub groups: Vec<Group>,
}

/// A control group with a limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Below the mount: `/docker/4f2a`.
    pub path: String,
    /// The file the limit is in.
    pub file: String,
    pub limit: u64,
    /// Bytes that nothing can reclaim.
    pub used: u64,
}

/// What has a claim on the machine besides the builds of this run. All figures in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Claims {
    /// For everything that is neither build nor cluster; none: in proportion.
    pub reserve: Option<u64>,
    /// Clusters that are up.
    pub up: u64,
    /// A cluster that is coming up.
    pub coming: u64,
    /// What other runs hold now.
    pub others: Option<Others>,
}

/// What other runs that build on this machine hold, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    pub held: u64,
    /// What was available before them.
    pub free: Option<u64>,
}

/// What builds may hold, and why so much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    pub bytes: u64,
    /// With the reserve: what a build that runs alone may take.
    pub capacity: u64,
    /// The least first.
    pub terms: Vec<Term>,
}

/// One bound on the budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub source: String,
    pub bytes: u64,
    /// What comes off, by name; nothing that is zero.
    pub less: Vec<(&'static str, u64)>,
    /// The file of the control group that sets it.
    pub file: Option<String>,
}

/// How a need stands to the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Beside,
    /// Above the budget: nothing else may hold memory meanwhile.
    Alone,
    Never,
}

impl Budget {
    pub fn of(machine: &Machine, claims: &Claims) -> Self {
        let reserve = claims.reserve.unwrap_or_else(|| machine.reserve());
        let mut terms = vec![total(machine, claims, reserve)];
        if !machine.remote {
            let coming = [("cluster", claims.coming), ("reserve", reserve)];
            let before = claims.others.and_then(|others| others.free);
            match (before.filter(|free| machine.available < Some(*free)), machine.available) {
                (Some(free), _) => terms.push(Term::new("available before others", free, &coming)),
                (None, Some(bytes)) => terms.push(Term::new("available", bytes, &coming)),
                (None, None) => {}
            }
            for group in &machine.groups {
                // With others at work, the ledger says what they hold.
                let used = group.used.saturating_sub(claims.others.unwrap_or_default().held);
                let less = [("used", used), coming[0], coming[1]];
                let term = Term::new(format!("cgroup {}", group.path), group.limit, &less);
                terms.push(Term { file: Some(group.file.clone()), ..term });
            }
        }
        terms.sort_by_key(Term::left);
        let capacity = terms.iter().map(Term::left_for_one).min().unwrap_or(0);
        Self { bytes: terms.first().map_or(0, Term::left), capacity, terms }
    }

    pub fn fit(&self, need: u64) -> Fit {
        match need {
            need if need <= self.bytes => Fit::Beside,
            need if need <= self.capacity => Fit::Alone,
            _ => Fit::Never,
        }
    }

    /// What the bound that refuses `need` would have to be, and that bound.
    pub fn wanted(&self, need: u64) -> Option<(u64, &Term)> {
        let term = self.terms.iter().min_by_key(|term| term.left_for_one())?;
        Some((need.saturating_add(term.bytes.saturating_sub(term.left())), term))
    }

    /// Every bound, a line each.
    pub fn all(&self) -> String {
        let mut lines = vec![self.to_string()];
        lines.extend(
            self.terms
                .iter()
                .skip(1)
                .map(|term| format!("       not {} GiB = {term}", gib(term.left()))),
        );
        lines.join("\n")
    }
}

impl Machine {
    /// What is left to everything that is not a build, where the configuration does not say.
    fn reserve(&self) -> u64 {
        let limits = self.groups.iter().map(|group| group.limit);
        let least = limits.filter(|_| !self.remote).fold(self.total, u64::min);
        MOST_RESERVE.min(least / RESERVE_PART)
    }
}

fn total(machine: &Machine, claims: &Claims, reserve: u64) -> Term {
    let source = match (machine.remote, machine.engine) {
        (true, engine) => format!("{engine} VM"),
        (false, _) => "memory".to_owned(),
    };
    let less = [("cluster", figure::sum([claims.up, claims.coming])), ("reserve", reserve)];
    Term::new(source, machine.total, &less)
}

impl Term {
    fn new(source: impl Into<String>, bytes: u64, less: &[(&'static str, u64)]) -> Self {
        let less = less.iter().copied().filter(|(_, bytes)| *bytes > 0).collect();
        Self { source: source.into(), bytes, less, file: None }
    }

    pub fn left(&self) -> u64 {
        self.bytes.saturating_sub(figure::sum(self.less.iter().map(|(_, bytes)| *bytes)))
    }

    fn left_for_one(&self) -> u64 {
        let others = self.less.iter().filter(|(name, _)| *name != "reserve");
        self.bytes.saturating_sub(figure::sum(others.map(|(_, bytes)| *bytes)))
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "budget {} GiB", gib(self.bytes))?;
        self.terms.first().map_or(Ok(()), |term| write!(f, " = {term}"))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source, gib(self.bytes))?;
        let mut shown = self.less.iter().filter(|(_, bytes)| *bytes >= SMALLEST);
        shown.try_for_each(|(name, bytes)| write!(f, " − {name} {}", gib(*bytes)))
    }
}

/// One decimal, as the arithmetic is read; two below one GiB, where one says too little.
fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let value = bytes as f64 / f64::from(1 << 30);
    if value < 0.95 { format!("{value:.2}") } else { format!("{value:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn here(total: u64, available: u64) -> Machine {
        let available = Some(available * GIB);
        Machine { engine: "podman", total: total * GIB, available, ..Machine::default() }
    }

    fn elsewhere(engine: &'static str, total: u64) -> Machine {
        Machine { remote: true, engine, ..here(total, 24) }
    }

    fn group(path: &str, limit: u64, used: u64) -> Group {
        Group { path: path.into(), limit: limit * MIB, used: used * MIB, ..Group::default() }
    }

    fn within(machine: &Machine, groups: &[Group]) -> Machine {
        Machine { groups: groups.to_vec(), ..machine.clone() }
    }

    fn claims(up: u64, coming: u64) -> Claims {
        Claims { reserve: Some(GIB), up: up * MIB, coming: coming * MIB, others: None }
    }

    #[test]
    fn the_budget_is_the_least_bound_and_says_its_arithmetic() {
        let nested = [group("/pod", 8192, 1024), group("/pod/job", 6144, 512)];
        let table = [
            ("2 GB VM on a 32 GB host", elsewhere("podman", 2), claims(0, 0)),
            ("8 GB VM, cluster coming up", elsewhere("podman", 8), claims(0, 1638)),
            ("8 GB VM, cluster up", elsewhere("docker", 8), claims(1638, 0)),
            ("GitHub's 16 GB runner", here(16, 14), claims(0, 1536)),
            ("the same, cluster up", here(16, 12), claims(1536, 0)),
            ("container", within(&here(32, 28), &[group("/docker/a", 4096, 100)]), claims(0, 0)),
            ("nested containers", within(&here(32, 28), &nested), claims(0, 1024)),
            (
                "remote: our own cgroup is not its",
                within(&elsewhere("docker", 16), &nested),
                claims(0, 0),
            ),
            ("no files to read", Machine { available: None, ..here(4, 0) }, claims(0, 0)),
            ("a cluster larger than the VM", elsewhere("podman", 2), claims(0, 4096)),
        ];
        let text: Vec<String> = table
            .into_iter()
            .map(|(what, machine, claims)| format!("{what}: {}", Budget::of(&machine, &claims)))
            .collect();
        insta::assert_snapshot!(text.join("\n"), @"
        2 GB VM on a 32 GB host: budget 1.0 GiB = podman VM 2.0 − reserve 1.0
        8 GB VM, cluster coming up: budget 5.4 GiB = podman VM 8.0 − cluster 1.6 − reserve 1.0
        8 GB VM, cluster up: budget 5.4 GiB = docker VM 8.0 − cluster 1.6 − reserve 1.0
        GitHub's 16 GB runner: budget 11.5 GiB = available 14.0 − cluster 1.5 − reserve 1.0
        the same, cluster up: budget 11.0 GiB = available 12.0 − reserve 1.0
        container: budget 2.9 GiB = cgroup /docker/a 4.0 − used 0.10 − reserve 1.0
        nested containers: budget 3.5 GiB = cgroup /pod/job 6.0 − used 0.50 − cluster 1.0 − reserve 1.0
        remote: our own cgroup is not its: budget 15.0 GiB = docker VM 16.0 − reserve 1.0
        no files to read: budget 3.0 GiB = memory 4.0 − reserve 1.0
        a cluster larger than the VM: budget 0.00 GiB = podman VM 2.0 − cluster 4.0 − reserve 1.0
        ");
    }

    #[test]
    fn what_was_available_before_others_counts_and_no_limit_of_theirs() {
        let machine = within(&here(16, 2), &[group("/a", 8192, 6000)]);
        let others = Others { held: 5 * GIB, free: Some(14 * GIB) };
        let budget = Budget::of(&machine, &Claims { others: Some(others), ..claims(0, 0) });
        insta::assert_snapshot!(budget.all(), @"
        budget 6.1 GiB = cgroup /a 8.0 − used 0.86 − reserve 1.0
               not 13.0 GiB = available before others 14.0 − reserve 1.0
               not 15.0 GiB = memory 16.0 − reserve 1.0
        ");
    }

    #[test]
    fn the_reserve_is_in_proportion_unless_it_is_configured() {
        let own = Claims { reserve: None, ..claims(0, 0) };
        let small = Budget::of(&elsewhere("podman", 2), &own);
        assert!((707 + 730) * MIB <= small.bytes, "{small}");
        let limited = Budget::of(&within(&here(24, 20), &[group("/a", 700, 0)]), &own);
        let large = Budget::of(&here(24, 20), &own);
        let all = [small, limited, large].map(|budget| budget.to_string());
        insta::assert_snapshot!(all.join("\n"), @"
        budget 1.8 GiB = podman VM 2.0 − reserve 0.25
        budget 0.60 GiB = cgroup /a 0.68 − reserve 0.09
        budget 19.0 GiB = available 20.0 − reserve 1.0
        ");
    }

    #[test]
    fn a_need_above_the_budget_may_use_the_reserve_alone() {
        let budget = Budget::of(&elsewhere("podman", 2), &claims(0, 0));
        let fits = [GIB, GIB + 1, 2 * GIB, 2 * GIB + 1].map(|need| budget.fit(need));
        assert_eq!(fits, [Fit::Beside, Fit::Alone, Fit::Alone, Fit::Never]);
        let (wanted, term) = budget.wanted(3 * GIB).unwrap();
        assert_eq!((wanted, term.source.as_str()), (4 * GIB, "podman VM"));
    }

    #[test]
    fn all_bounds_are_listed_the_least_first() {
        let machine = within(&here(16, 12), &[group("/a", 8192, 1024)]);
        insta::assert_snapshot!(Budget::of(&machine, &claims(0, 1536)).all(), @"
        budget 4.5 GiB = cgroup /a 8.0 − used 1.0 − cluster 1.5 − reserve 1.0
               not 9.5 GiB = available 12.0 − cluster 1.5 − reserve 1.0
               not 13.5 GiB = memory 16.0 − cluster 1.5 − reserve 1.0
        ");
    }
}
