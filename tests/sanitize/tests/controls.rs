//! What the sanitizers must report. `scripts/sanitize` runs each of these under its tool and fails when the tool is
//! silent; nobody else runs them.

#![expect(unsafe_code, reason = "what is wrong here cannot be written without")]

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A cell that says it can be shared, and cannot.
struct Shared(UnsafeCell<u64>);

// SAFETY: there is none, which is the point.
unsafe impl Sync for Shared {}

#[test]
#[ignore = "wrong by intent"]
fn a_data_race() {
    let (shared, running) = (Shared(UnsafeCell::new(0)), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let shared = &shared;
                // Both run before either writes; relaxed, so that nothing comes before anything.
                running.fetch_add(1, Ordering::Relaxed);
                while running.load(Ordering::Relaxed) < 2 {
                    thread::yield_now();
                }
                for n in 0..100 {
                    // SAFETY: there is none, both threads write.
                    unsafe { shared.0.get().write_volatile(n) };
                }
            });
        }
    });
    assert_eq!(shared.0.into_inner(), 99);
}

#[test]
#[ignore = "wrong by intent"]
fn a_read_out_of_bounds() {
    let bytes = vec![1_u8, 2, 3, 4];
    let beyond = bytes.len();
    // SAFETY: there is none, the byte is behind the end.
    let byte = unsafe { *bytes.as_ptr().add(beyond) };
    assert!(bytes.len() == 4 || byte == 0);
}
