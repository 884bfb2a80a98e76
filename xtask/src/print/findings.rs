//! What `doctor` found, as text.

use crate::doctor::{Finding, State};
use crate::text::{DIM, GREEN, OFF, RED, YELLOW};

pub(crate) fn line(finding: &Finding) -> String {
    let check = finding.check;
    match &finding.state {
        State::Fine { detail } => format!("{GREEN}ok{OFF}     {check:<16} {DIM}{detail}{OFF}"),
        State::Note { what, why, how } => {
            let how = how.as_ref().map(|how| format!("\n       {how}")).unwrap_or_default();
            format!("{YELLOW}note{OFF}   {check:<16} {what}\n       {DIM}{why}{OFF}{how}")
        }
        State::Fault { what, why, mend } => {
            format!(
                "{RED}fault{OFF}  {check:<16} {what}\n       {DIM}{why}{OFF}\n       mend: {}",
                mend.command
            )
        }
        State::CannotMend { what, why, how } => {
            format!("{RED}fault{OFF}  {check:<16} {what}\n       {DIM}{why}{OFF}\n       {how}")
        }
    }
}
