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
    /// The versions that it stands in for, from the first to its own.
    pub(crate) replaces: Option<(Version, Version)>,
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
    Changed {
        version: Version,
        path: String,
    },
    Missing {
        version: Version,
    },
    OlderThanExpanded {
        version: Version,
        newest: Version,
        path: String,
    },
    OlderThanServed {
        version: Version,
        served: Version,
        path: String,
    },
    /// It came when everything up to the baseline counted as applied.
    BelowBaseline {
        baseline: Version,
        path: String,
    },
    /// It stands in for migrations of which only some are done here.
    HalfReplaced {
        version: Version,
        newest: Version,
        path: String,
    },
    /// One of the files that it stands in for is still in the folder.
    Beside {
        version: Version,
        path: String,
    },
    /// Its own version is not the last of those that it stands in for.
    WrongRange {
        last: Version,
        path: String,
    },
}

impl Conflict {
    /// The sentence and the next command.
    pub(crate) fn explain(&self) -> (String, String) {
        match self {
            Self::Changed { version, path } => (
                format!("`{path}` is not the file that was expanded as migration {version}"),
                format!(
                    "bring the file back; a change that is meant goes into a new file, or, if this one is not contracted yet, `migrate abort {version}` and expand again"
                ),
            ),
            Self::HalfReplaced { version, newest, path } if version == newest => (
                format!(
                    "`{path}` stands in for everything up to {version}, and not all of that is done here"
                ),
                "migrate status; then contract or abort what is not done".to_owned(),
            ),
            Self::HalfReplaced { version, newest, path } => (
                format!(
                    "`{path}` stands in for everything up to {version}, and here migration {newest} is as far as it went"
                ),
                format!(
                    "bring what is applied here to its end with the files before they were squashed, up to {version}"
                ),
            ),
            Self::Beside { version, path } => (
                format!("`{path}` stands in for migration {version}, whose file is still in the folder"),
                "take out the files that were squashed, or the one that stands in for them".to_owned(),
            ),
            Self::WrongRange { last, path } => (
                format!(
                    "`{path}` says that it replaces migrations up to {last}, which is not its own version"
                ),
                format!("give it the version {last}"),
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
            Self::BelowBaseline { baseline, path } => (
                format!("`{path}` is new, and not above the baseline {baseline}: it would never run"),
                format!(
                    "migrate new --renumber {path}; or, if it was applied otherwise, migrate baseline {baseline}"
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
    let live = || entries.iter().filter(|entry| entry.state != State::Aborted);
    let replaced = |version: Version| {
        files.iter().filter_map(|file| file.replaces).any(|(from, to)| from <= version && version <= to)
    };
    for file in files {
        let (version, path) = (file.version, file.path.clone());
        if let Some((from, to)) = file.replaces {
            if to != version {
                conflicts.push(Conflict::WrongRange { last: to, path });
                continue;
            }
            let beside = files.iter().find(|other| from <= other.version && other.version < to);
            if let Some(beside) = beside {
                conflicts.push(Conflict::Beside { version: beside.version, path });
                continue;
            }
            let itself = known.get(&version).is_some_and(|entry| entry.checksum == file.checksum);
            let mut before = live().filter(|entry| from <= entry.version && entry.version <= to).peekable();
            if !itself && before.peek().is_some() {
                let newest = before.clone().map(|entry| entry.version).max().unwrap_or(from);
                if newest != to || before.any(|entry| entry.state != State::Done) {
                    conflicts.push(Conflict::HalfReplaced { version, newest, path });
                }
                continue;
            }
            if !itself && from.number() <= baseline && baseline < to.number() {
                conflicts.push(Conflict::HalfReplaced { version, newest: baseline.into(), path });
                continue;
            }
        }
        match known.get(&version) {
            Some(entry) if entry.state == State::Aborted && version.number() <= baseline => {}
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
        if files.iter().any(|file| file.version == entry.version) || replaced(entry.version) {
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
        FileFact {
            version: version.into(),
            checksum: checksum.to_owned(),
            path: format!("{version}_x.sql"),
            replaces: None,
        }
    }

    #[test]
    fn a_squashed_file_stands_in_for_what_is_done_and_for_nothing_half_done() {
        let squash = FileFact { replaces: Some((1.into(), 3.into())), ..file(3, "s") };
        let files = [squash.clone(), file(4, "d")];
        let done = |last: i64| (1..=last).map(|n| entry(n, "x", State::Done)).collect::<Vec<_>>();
        assert_eq!(compare(&files, &done(3), None, 0, &[]).unwrap().expand, [4.into()]);
        assert_eq!(compare(&files, &[], None, 0, &[]).unwrap().expand, [3.into(), 4.into()]);
        assert_eq!(compare(&files, &[entry(3, "s", State::Done)], None, 0, &[]).unwrap().expand, [4.into()]);
        let half = compare(&files, &done(2), None, 0, &[]).unwrap_err();
        assert!(matches!(half[..], [Conflict::HalfReplaced { .. }]));
        let beside = compare(&[file(2, "b"), squash.clone()], &[], None, 0, &[]).unwrap_err();
        assert!(matches!(beside[..], [Conflict::Beside { .. }]));
        let early = compare(&files, &[], None, 2, &[]).unwrap_err();
        assert!(matches!(early[..], [Conflict::HalfReplaced { .. }]));
        let wrong = FileFact { version: 5.into(), ..squash };
        assert!(matches!(
            compare(&[wrong], &[], None, 0, &[]).unwrap_err()[..],
            [Conflict::WrongRange { .. }]
        ));
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
