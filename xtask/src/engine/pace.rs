//! How long the same work takes on one builder beside the others, kept for the next run.
//!
//! What it is worked out from is in [`crate::schedule::Place::pace`]; here it is only kept, by the
//! builder's name. The file may be lost or corrupt at any time: then all are taken to be alike
//! until a run has shown otherwise.

use std::collections::BTreeMap;

use crate::private::PrivatePath;

/// The largest file of paces that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Builder → its pace, from the file `paces`.
pub fn known(paces: &PrivatePath) -> BTreeMap<String, f64> {
    let text = paces.read(LARGEST).unwrap_or_default();
    let known: BTreeMap<String, f64> = serde_json::from_slice(&text).unwrap_or_default();
    known.into_iter().filter(|(_, pace)| pace.is_finite() && *pace > 0.0).collect()
}

/// Works newer ones into the file `paces`; builders that were not there this time keep theirs.
pub fn keep(paces: &PrivatePath, newer: BTreeMap<String, f64>) -> anyhow::Result<()> {
    let mut all = known(paces);
    all.extend(newer);
    paces.write(&serde_json::to_vec_pretty(&all)?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_until_there_is_a_newer_one_and_nonsense_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = PrivatePath::below(folder.path(), "state/paces.json");
        let of = |pairs: &[(&str, f64)]| -> BTreeMap<String, f64> {
            pairs.iter().map(|(name, pace)| ((*name).to_owned(), *pace)).collect()
        };
        keep(&file, of(&[("local", 1.0), ("large", 0.5)])).unwrap();
        keep(&file, of(&[("local", 1.1)])).unwrap();
        assert_eq!(known(&file), of(&[("local", 1.1), ("large", 0.5)]));
        for nonsense in ["", "[]", "{\"large\": -1}", "{\"large\": 0, \"local\": 1e999}"] {
            fs_err::write(&file, nonsense).unwrap();
            assert_eq!(known(&file), of(&[]), "{nonsense}");
        }
    }
}
