//! The locks that the crate's own sources name, on the scheduler's: so that the stripes that are tested are the real ones.

use std::ops::{Deref, DerefMut};

use shuttle::sync;
pub use sync::{RwLockReadGuard, RwLockWriteGuard};

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
        MutexGuard(Some(self.0.lock().expect("a panic ends the schedule")))
    }
}

/// Empty only while its owner waits for a condition.
#[derive(Debug)]
pub struct MutexGuard<'a, T>(Option<sync::MutexGuard<'a, T>>);

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("nobody looks while he waits")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("nobody looks while he waits")
    }
}

/// A condition without poison.
#[derive(Debug, Default)]
pub struct Condvar(sync::Condvar);

impl Condvar {
    /// As `parking_lot`'s.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        if let Some(held) = guard.0.take() {
            guard.0 = Some(self.0.wait(held).expect("a panic ends the schedule"));
        }
    }

    /// As `parking_lot`'s.
    pub fn notify_all(&self) {
        self.0.notify_all();
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
