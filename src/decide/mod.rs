//! Floor 2: decisions. Everything here is a pure function of values: what a migration becomes, which state follows
//! which, whether the gate is open.

pub(crate) mod change;
pub(crate) mod draft;
pub(crate) mod gate;
pub(crate) mod history;
pub(crate) mod lint;
pub(crate) mod plan;
pub(crate) mod state;
pub(crate) mod sync;
