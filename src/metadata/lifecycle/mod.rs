//! Rows of the life cycle: what is counted, limited and kept for how long. Each file has the rows of one promise, with their
//! values and the ways to read and write them.

pub(super) mod cursor;
pub(super) mod event;
pub(super) mod lease;
pub(super) mod queue;
pub(super) mod quota;
pub(super) mod usage;
