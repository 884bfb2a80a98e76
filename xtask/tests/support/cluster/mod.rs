//! A cluster without one: programs in the place of kind and kubectl, and podman's containers as
//! files.

use std::os::unix::fs::PermissionsExt as _;

use super::Case;

pub(crate) const CONFIG: &str = "\
[images.api]
dockerfile = 'Dockerfile'
[clusters.c]
name = 'c-e2e'
node-image = 'node:1'
[suites.s]
cluster = 'c'
images = ['api']
test = { run = ['true'] }
";

impl Case {
    /// A suite `s` on the cluster `c-e2e`.
    pub(crate) fn with_cluster() -> Self {
        let case = Self::new().config(CONFIG).file("Dockerfile", "FROM scratch\nCOPY f /\n");
        case.write("f", "1");
        case.tell_engine("podman-images", include_str!("../podman"));
        case.tell_engine("podman", include_str!("podman"));
        case.tell_engine("kind", include_str!("kind"));
        case.tell_engine("kubectl", include_str!("kubectl"));
        for program in ["podman-images", "podman", "kind", "kubectl"] {
            let executable = std::fs::Permissions::from_mode(0o755);
            fs_err::set_permissions(case.engine(program), executable).unwrap();
        }
        case
    }

    /// A container of the cluster's name that somebody else has made; gives back its id.
    pub(crate) fn strange_container(&self, node: &str, more: &str) -> String {
        let id = format!("{:064x}", self.containers().len() + 1);
        let text = format!("name=c-e2e-{node}\ncluster=c-e2e\n{more}");
        self.tell_engine(&format!("containers/{id}"), &text);
        id
    }

    /// Ids of the containers there are.
    pub(crate) fn containers(&self) -> Vec<String> {
        let Ok(entries) = fs_err::read_dir(self.engine("containers")) else { return Vec::new() };
        let ids = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }
}
