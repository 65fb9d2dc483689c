//! The locks that the crate's own sources name, on the scheduler's: so that the stripes that are tested are the real ones.

use shuttle::sync;
pub use sync::{MutexGuard, RwLockReadGuard, RwLockWriteGuard};

/// A mutex without poison.
#[derive(Debug, Default)]
pub struct Mutex<T>(sync::Mutex<T>);

impl<T> Mutex<T> {
    /// As `parking_lot`'s.
    pub fn new(value: T) -> Self {
        Self(sync::Mutex::new(value))
    }

    /// As `parking_lot`'s.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().expect("a panic ends the schedule")
    }
}

/// A lock without poison.
#[derive(Debug, Default)]
pub struct RwLock<T>(sync::RwLock<T>);

impl<T> RwLock<T> {
    /// As `parking_lot`'s.
    pub fn new(value: T) -> Self {
        Self(sync::RwLock::new(value))
    }

    /// As `parking_lot`'s.
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.0.read().expect("a panic ends the schedule")
    }

    /// As `parking_lot`'s.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.0.try_read().ok()
    }

    /// As `parking_lot`'s.
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.0.write().expect("a panic ends the schedule")
    }
}
