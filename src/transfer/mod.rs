//! Moving artifacts with everything that belongs to them from one place to another.

mod copy;

pub use self::copy::{Absent, Copied, Copier};
