//! Versions known to be broken, each with where that was reported. Only what harms a run of ours is
//! here.

use super::machine::Version;

/// Versions of a program that do harm, from the first of them to the first that does not.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) program: &'static str,
    pub(super) from: Version,
    pub(super) fixed: Version,
    /// Harmful only beside this program, from that version on.
    pub(super) beside: Option<(&'static str, Version)>,
    pub(super) harm: &'static str,
    /// Issues: `owner/repository#number`.
    pub(super) reported: &'static str,
}

pub(super) const BROKEN: [Broken; 5] = [
    Broken {
        program: "podman",
        from: (4, 8, 0),
        fixed: (4, 8, 1),
        beside: None,
        harm: "`podman exec` fails where client and machine differ, and kind's nodes stay without configuration",
        reported: "containers/podman#20821, kubernetes-sigs/kind#3439",
    },
    Broken {
        program: "podman",
        from: (5, 5, 0),
        fixed: (5, 5, 1),
        beside: None,
        harm: "containers made by an earlier podman do not start, so a kept cluster is lost",
        reported: "containers/podman#26161",
    },
    Broken {
        program: "podman",
        from: (5, 6, 0),
        fixed: (5, 6, 2),
        beside: None,
        harm: "a build that is not root may not write to its cache mounts",
        reported: "containers/podman#27044, containers/podman#27131",
    },
    Broken {
        program: "conmon",
        from: (2, 1, 9),
        fixed: (2, 1, 10),
        beside: None,
        harm: "no container starts: `no logs from conmon`",
        reported: "containers/conmon#475",
    },
    OLD_CRUN,
];

/// Podman 5 writes runtime specification 1.2, of which this crun says `unknown version specified`.
/// Ubuntu 24.04 has it.
pub(super) const OLD_CRUN: Broken = Broken {
    program: "crun",
    from: (0, 0, 0),
    fixed: (1, 14, 3),
    beside: Some(("podman", (5, 0, 0))),
    harm: "no container starts: `unknown version specified`",
    reported: "containers/podman#27272, actions/runner-images#14473",
};

impl Broken {
    /// Whether `version_of` a program shows this one.
    pub(super) fn is_here(&self, version_of: impl Fn(&str) -> Option<Version>) -> bool {
        let at_least =
            |(name, least): (&str, Version)| version_of(name).is_some_and(|v| v >= least);
        let is_one = |version| (self.from..self.fixed).contains(&version);
        version_of(self.program).is_some_and(is_one) && self.beside.is_none_or(at_least)
    }
}
