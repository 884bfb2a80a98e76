//! placeholder
pub fn podman_differs(_text: &[u8]) -> Vec<(usize, String)> {
    Vec::new()
}
