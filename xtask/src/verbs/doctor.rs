//! stub
use super::*;
pub(super) fn run(_: &Session, _: bool) -> Result<Exit> {
    Ok(Exit::Done)
}
