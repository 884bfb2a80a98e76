//! The command that makes room where a bound is too low.
//!
//! | the bound | who sets it |
//! | --- | --- |
//! | the whole of a virtual machine | podman's machine, Docker Desktop |
//! | a control group of a container (`libpod-ID.scope`, `docker-ID.scope`, `docker/ID`) | the engine that runs it |
//! | of a pod (`kubepods…`) | its manifest |
//! | of a unit (`NAME.slice`, `NAME.service`, `NAME.scope`) | systemd, the user's own below `user@UID.service` |
//! | the root of the mount: no machine limits that, so we are in a container that sees no more | whoever started it |
//! | any other | a file that root may write |
//! | what is available | whatever else runs here |

use crate::memory::budget::{Machine, Term};

const MIB: u64 = 1 << 20;

/// The command that raises the bound `term` so that `wanted` bytes are there.
pub fn raise(machine: &Machine, term: &Term, wanted: u64) -> String {
    let mib = wanted.div_ceil(256 * MIB) * 256;
    match (machine.remote, machine.engine, &term.file) {
        (true, "podman", _) => {
            let set = format!("podman machine set --memory {mib}");
            format!("podman machine stop && {set} && podman machine start")
        }
        (true, _, _) => {
            let gib = mib.div_ceil(1024);
            format!(
                "Docker Desktop → Settings → Resources → Memory limit: {gib} GB, then restart it"
            )
        }
        (false, _, Some(file)) => raise_group(file, mib),
        (false, _, None) => {
            format!("build where {mib} MiB are free: close programs, or take a larger machine")
        }
    }
}

/// For the group whose limit is in `file`.
fn raise_group(file: &str, mib: u64) -> String {
    let (folder, limit) = file.rsplit_once('/').unwrap_or(("", file));
    let below = folder.strip_prefix("/sys/fs/cgroup").unwrap_or(folder);
    let path = below.strip_prefix("/memory").unwrap_or(below);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some((engine, id)) =
        parts.iter().enumerate().rev().find_map(|at| container(&parts, at.0))
    {
        let swap =
            if engine == "docker" { format!(" --memory-swap {mib}m") } else { String::new() };
        return format!("{engine} update --memory {mib}m{swap} {id}");
    }
    let unit = parts.last().copied().unwrap_or_default();
    if parts.iter().any(|part| part.starts_with("kubepods")) {
        format!("set `resources.limits.memory` of this pod to {mib}Mi")
    } else if parts.is_empty() {
        format!("start the container that this runs in with `--memory {mib}m`")
    } else if [".slice", ".service", ".scope"].iter().any(|kind| unit.ends_with(kind)) {
        let of_user = parts[..parts.len() - 1].iter().any(|part| part.starts_with("user@"));
        let user = if of_user { "--user " } else { "" };
        let property = match limit {
            "memory.high" => "MemoryHigh",
            "memory.max" => "MemoryMax",
            _ => "MemoryLimit",
        };
        format!("systemctl {user}set-property --runtime {unit} {property}={mib}M")
    } else {
        format!("echo {} > {file}", mib * MIB)
    }
}

/// The container, by engine and short id, whose group is the part `at` of a path.
fn container<'a>(parts: &[&'a str], at: usize) -> Option<(&'static str, &'a str)> {
    let name = parts[at].strip_suffix(".scope").unwrap_or(parts[at]);
    let (engine, id) = match name.split_once('-') {
        Some(("libpod", id)) => ("podman", id),
        Some(("docker", id)) => ("docker", id),
        _ if at > 0 && parts[at - 1] == "docker" => ("docker", name),
        _ => return None,
    };
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| (engine, &id[..12]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(engine: &'static str, remote: bool, file: Option<&str>) -> String {
        let file = file.map(str::to_owned);
        let term = Term { source: String::new(), bytes: 0, less: Vec::new(), file };
        let machine = Machine { engine, remote, ..Machine::default() };
        raise(&machine, &term, 3_000 * MIB)
    }

    #[test]
    fn each_bound_has_the_command_that_raises_it() {
        let id = "0123456789ab".to_owned() + &"0".repeat(52);
        let podman = |path: &str| told("podman", false, Some(&format!("/sys/fs/cgroup{path}")));
        let table = [
            told("podman", true, None),
            told("docker", true, None),
            told("podman", false, None),
            podman("/a/memory.max"),
            podman("/memory/process/a/memory.limit_in_bytes"),
            podman("/memory.max"),
            podman("/memory/memory.limit_in_bytes"),
            podman(&format!("/machine.slice/libpod-{id}.scope/container/memory.max")),
            podman(&format!("/memory/libpod_parent/libpod-{id}/memory.limit_in_bytes")),
            podman(&format!("/system.slice/docker-{id}.scope/memory.max")),
            podman(&format!("/memory/docker/{id}/memory.limit_in_bytes")),
            podman(&format!("/kubepods.slice/kubepods-pod7.slice/cri-{id}.scope/memory.max")),
            podman("/user.slice/user-1000.slice/memory.high"),
            podman("/user.slice/user-1000.slice/user@1000.service/memory.max"),
            podman("/user.slice/user-1000.slice/user@1000.service/app.slice/memory.max"),
            podman("/memory/system.slice/ci.service/memory.limit_in_bytes"),
        ];
        insta::assert_snapshot!(table.join("\n"), @r"
        podman machine stop && podman machine set --memory 3072 && podman machine start
        Docker Desktop → Settings → Resources → Memory limit: 3 GB, then restart it
        build where 3072 MiB are free: close programs, or take a larger machine
        echo 3221225472 > /sys/fs/cgroup/a/memory.max
        echo 3221225472 > /sys/fs/cgroup/memory/process/a/memory.limit_in_bytes
        start the container that this runs in with `--memory 3072m`
        start the container that this runs in with `--memory 3072m`
        podman update --memory 3072m 0123456789ab
        podman update --memory 3072m 0123456789ab
        docker update --memory 3072m --memory-swap 3072m 0123456789ab
        docker update --memory 3072m --memory-swap 3072m 0123456789ab
        set `resources.limits.memory` of this pod to 3072Mi
        systemctl set-property --runtime user-1000.slice MemoryHigh=3072M
        systemctl set-property --runtime user@1000.service MemoryMax=3072M
        systemctl --user set-property --runtime app.slice MemoryMax=3072M
        systemctl set-property --runtime ci.service MemoryLimit=3072M
        ");
    }
}
