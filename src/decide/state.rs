//! The states of a migration and the one function that says which follows which. The database repeats the rule as a
//! CHECK constraint on the list of states; the ledger changes a state only by an event of this function.

#![warn(clippy::wildcard_enum_match_arm)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Pending,
    Expanding,
    Expanded,
    Backfilling,
    Ready,
    Closing,
    Sealed,
    Dropping,
    Done,
    Aborting,
    Aborted,
}

/// What happens to a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Event {
    ExpandStarted,
    ExpandFinished,
    BackfillStarted,
    BackfillFinished,
    /// The gate was open.
    Closed,
    /// There was nothing to contract.
    NothingToContract,
    SealFinished,
    DropStarted,
    DropFinished,
    Reopened,
    AbortStarted,
    AbortFinished,
}

/// An event that a state does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a migration that is {state} cannot take this step")]
pub(crate) struct Illegal {
    pub(crate) state: State,
    pub(crate) event: Event,
}

impl State {
    pub(crate) const ALL: [Self; 11] = [
        Self::Pending,
        Self::Expanding,
        Self::Expanded,
        Self::Backfilling,
        Self::Ready,
        Self::Closing,
        Self::Sealed,
        Self::Dropping,
        Self::Done,
        Self::Aborting,
        Self::Aborted,
    ];

    /// The state after an event.
    ///
    /// # Errors
    /// An event that has no place here.
    pub(crate) fn after(self, event: Event) -> Result<Self, Illegal> {
        use Event as E;
        Ok(match (self, event) {
            (Self::Pending | Self::Aborted | Self::Expanding, E::ExpandStarted) => Self::Expanding,
            (Self::Expanding, E::ExpandFinished) => Self::Expanded,
            (Self::Expanded | Self::Backfilling, E::BackfillStarted) => Self::Backfilling,
            (Self::Expanded | Self::Backfilling, E::BackfillFinished) => Self::Ready,
            (Self::Ready, E::Closed) => Self::Closing,
            (Self::Ready, E::NothingToContract) => Self::Done,
            (Self::Closing, E::SealFinished) => Self::Sealed,
            (Self::Sealed, E::DropStarted) => Self::Dropping,
            (Self::Dropping, E::DropFinished) => Self::Done,
            (Self::Closing | Self::Sealed, E::Reopened) => Self::Ready,
            (
                Self::Expanding | Self::Expanded | Self::Backfilling | Self::Ready | Self::Aborting,
                E::AbortStarted,
            ) => Self::Aborting,
            (Self::Aborting, E::AbortFinished) => Self::Aborted,
            (
                Self::Pending
                | Self::Expanding
                | Self::Expanded
                | Self::Backfilling
                | Self::Ready
                | Self::Closing
                | Self::Sealed
                | Self::Dropping
                | Self::Done
                | Self::Aborting
                | Self::Aborted,
                E::ExpandStarted
                | E::ExpandFinished
                | E::BackfillStarted
                | E::BackfillFinished
                | E::Closed
                | E::NothingToContract
                | E::SealFinished
                | E::DropStarted
                | E::DropFinished
                | E::Reopened
                | E::AbortStarted
                | E::AbortFinished,
            ) => return Err(Illegal { state: self, event }),
        })
    }

    /// Whether both shapes are in the table, so that other migrations must keep off.
    pub(crate) fn is_in_flight(self) -> bool {
        match self {
            Self::Expanding
            | Self::Expanded
            | Self::Backfilling
            | Self::Ready
            | Self::Closing
            | Self::Sealed
            | Self::Dropping
            | Self::Aborting => true,
            Self::Pending | Self::Done | Self::Aborted => false,
        }
    }

    /// Whether its data jobs may still have rows to come to.
    pub(crate) fn has_jobs_to_do(self) -> bool {
        matches!(self, Self::Expanding | Self::Expanded | Self::Backfilling)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Expanding => "expanding",
            Self::Expanded => "expanded",
            Self::Backfilling => "backfilling",
            Self::Ready => "ready",
            Self::Closing => "closing",
            Self::Sealed => "sealed",
            Self::Dropping => "dropping",
            Self::Done => "done",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A text in the ledger that is no state: it was written by a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger holds an unknown state `{0}`; a newer version of migrate wrote it")]
pub(crate) struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.word() == text).ok_or_else(|| UnknownState(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENTS: [Event; 12] = [
        Event::ExpandStarted,
        Event::ExpandFinished,
        Event::BackfillStarted,
        Event::BackfillFinished,
        Event::Closed,
        Event::NothingToContract,
        Event::SealFinished,
        Event::DropStarted,
        Event::DropFinished,
        Event::Reopened,
        Event::AbortStarted,
        Event::AbortFinished,
    ];

    #[test]
    fn words_round_trip() {
        for state in State::ALL {
            assert_eq!(state.word().parse(), Ok(state));
        }
    }

    #[test]
    fn every_state_but_the_last_two_leads_somewhere() {
        for state in State::ALL {
            let leads = EVENTS.iter().any(|event| state.after(*event).is_ok_and(|next| next != state));
            assert_eq!(leads, state != State::Done, "{state}");
        }
    }

    proptest! {
        #[test]
        fn nothing_leads_back_from_the_drop(events in proptest::collection::vec(0usize..EVENTS.len(), 0..60)) {
            let (mut state, mut dropping) = (State::Pending, false);
            for event in events {
                state = state.after(EVENTS[event]).unwrap_or(state);
                prop_assert!(!dropping || matches!(state, State::Dropping | State::Done));
                dropping |= state == State::Dropping;
            }
        }
    }
}
