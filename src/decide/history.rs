//! Compares the folder with the ledger: what is due, and what must not go on.

use std::collections::BTreeMap;

use crate::decide::state::State;
use crate::words::version::Version;

/// A file, as far as history goes.
#[derive(Debug, Clone)]
pub(crate) struct FileFact {
    pub(crate) version: Version,
    pub(crate) checksum: String,
    pub(crate) path: String,
}

/// A ledger entry, as far as history goes.
#[derive(Debug, Clone)]
pub(crate) struct EntryFact {
    pub(crate) version: Version,
    pub(crate) checksum: String,
    pub(crate) state: State,
    /// Expanding, and no step has taken effect yet.
    pub(crate) untouched: bool,
}

/// What there is to do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Due {
    /// To expand, in order; those already expanding come as well.
    pub(crate) expand: Vec<Version>,
    /// Aborted, with an unchanged file: they wait until somebody names them.
    pub(crate) aborted: Vec<Version>,
    /// In the ledger and newer than the folder: the deploy was rolled back.
    pub(crate) ahead: Vec<Version>,
}

/// A reason not to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Conflict {
    Changed { version: Version, path: String },
    Missing { version: Version },
    OlderThanExpanded { version: Version, newest: Version, path: String },
    OlderThanServed { version: Version, served: Version, path: String },
}

impl Conflict {
    /// The sentence and the next command.
    pub(crate) fn explain(&self) -> (String, String) {
        match self {
            Self::Changed { version, path } => (
                format!("`{path}` is not the file that was expanded as migration {version}"),
                format!(
                    "bring the file back, or, if the change is meant, `migrate abort {version}` and expand again"
                ),
            ),
            Self::Missing { version } => (
                format!("migration {version} was applied here, and its file is gone"),
                "bring the file back; an applied migration stays in the folder".to_owned(),
            ),
            Self::OlderThanExpanded { version, newest, path } => (
                format!("`{path}` is new, and older than migration {newest}, which was expanded already"),
                format!(
                    "give it a number after {newest}: `migrate new --renumber {path}`; code at {newest} would count as knowing {version}"
                ),
            ),
            Self::OlderThanServed { version, served, path } => (
                format!("`{path}` is new, and older than version {served}, which has served here"),
                format!(
                    "give it a number after {served}: `migrate new --renumber {path}`; code at {served} would count as knowing {version}"
                ),
            ),
        }
    }
}

/// Decides what is due. `named` are versions that the user typed.
pub(crate) fn compare(
    files: &[FileFact],
    entries: &[EntryFact],
    served: Option<i64>,
    baseline: i64,
    named: &[Version],
) -> Result<Due, Vec<Conflict>> {
    let known: BTreeMap<Version, &EntryFact> = entries.iter().map(|entry| (entry.version, entry)).collect();
    let newest_file = files.last().map(|file| file.version);
    let newest_expanded =
        entries.iter().filter(|entry| entry.state != State::Aborted).map(|entry| entry.version).max();
    let (mut due, mut conflicts) = (Due::default(), Vec::new());
    for file in files {
        let (version, path) = (file.version, file.path.clone());
        match known.get(&version) {
            Some(entry) if entry.state == State::Aborted => {
                let again = entry.checksum != file.checksum || named.contains(&version);
                if again { due.expand.push(version) } else { due.aborted.push(version) }
            }
            Some(entry) if entry.checksum != file.checksum && !entry.untouched => {
                conflicts.push(Conflict::Changed { version, path });
            }
            Some(entry) if entry.state == State::Expanding => due.expand.push(version),
            Some(_) => {}
            None if version.number() <= baseline => {}
            None => match (newest_expanded, served.map(Version::from)) {
                (Some(newest), _) if version < newest => {
                    conflicts.push(Conflict::OlderThanExpanded { version, newest, path });
                }
                (_, Some(served)) if version < served => {
                    conflicts.push(Conflict::OlderThanServed { version, served, path });
                }
                _ => due.expand.push(version),
            },
        }
    }
    for entry in
        entries.iter().filter(|entry| entry.state != State::Aborted && entry.version.number() > baseline)
    {
        if files.iter().any(|file| file.version == entry.version) {
            continue;
        }
        if newest_file.is_some_and(|newest| entry.version < newest) {
            conflicts.push(Conflict::Missing { version: entry.version });
        } else {
            due.ahead.push(entry.version);
        }
    }
    if conflicts.is_empty() { Ok(due) } else { Err(conflicts) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: i64, checksum: &str) -> FileFact {
        FileFact { version: version.into(), checksum: checksum.to_owned(), path: format!("{version}_x.sql") }
    }

    fn entry(version: i64, checksum: &str, state: State) -> EntryFact {
        EntryFact { version: version.into(), checksum: checksum.to_owned(), state, untouched: false }
    }

    #[test]
    fn pending_files_are_due_in_order_and_a_half_expanded_one_again() {
        let due = compare(
            &[file(1, "a"), file(2, "b"), file(3, "c")],
            &[entry(1, "a", State::Done), entry(2, "b", State::Expanding)],
            None,
            0,
            &[],
        );
        assert_eq!(due.unwrap().expand, [2.into(), 3.into()]);
    }

    #[test]
    fn changed_missing_and_late_files_are_conflicts() {
        let changed = compare(&[file(1, "z")], &[entry(1, "a", State::Ready)], None, 0, &[]);
        assert!(matches!(changed.unwrap_err()[..], [Conflict::Changed { .. }]));
        let missing =
            compare(&[file(2, "b")], &[entry(1, "a", State::Done), entry(2, "b", State::Done)], None, 0, &[]);
        assert!(matches!(missing.unwrap_err()[..], [Conflict::Missing { .. }]));
        let late = compare(&[file(1, "a"), file(2, "b")], &[entry(2, "b", State::Ready)], None, 0, &[]);
        assert!(matches!(late.unwrap_err()[..], [Conflict::OlderThanExpanded { .. }]));
        let served = compare(&[file(1, "a")], &[], Some(2), 0, &[]);
        assert!(matches!(served.unwrap_err()[..], [Conflict::OlderThanServed { .. }]));
    }

    #[test]
    fn a_file_whose_first_step_failed_may_be_corrected() {
        let failed = EntryFact { untouched: true, ..entry(1, "a", State::Expanding) };
        assert_eq!(compare(&[file(1, "b")], &[failed], None, 0, &[]).unwrap().expand, [1.into()]);
    }

    #[test]
    fn a_rolled_back_deploy_and_a_baseline_are_harmless() {
        let due = compare(
            &[file(1, "a")],
            &[entry(1, "a", State::Done), entry(2, "b", State::Ready)],
            None,
            0,
            &[],
        )
        .unwrap();
        assert_eq!(due.ahead, [2.into()]);
        assert_eq!(compare(&[file(1, "a")], &[], None, 5, &[]).unwrap(), Due::default());
    }

    #[test]
    fn an_aborted_migration_waits_for_a_change_or_its_name() {
        let entries = [entry(1, "a", State::Aborted)];
        assert_eq!(compare(&[file(1, "a")], &entries, None, 0, &[]).unwrap().aborted, [1.into()]);
        assert_eq!(compare(&[file(1, "b")], &entries, None, 0, &[]).unwrap().expand, [1.into()]);
        assert_eq!(compare(&[file(1, "a")], &entries, None, 0, &[1.into()]).unwrap().expand, [1.into()]);
    }
}
