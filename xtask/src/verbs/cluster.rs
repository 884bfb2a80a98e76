//! stub
use super::*;
pub(super) fn run(_: &Session, _: &cli::Cluster) -> Result<Exit> {
    Ok(Exit::Done)
}
