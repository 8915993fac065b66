//! Named fault points: places where a test can kill the process, to prove that the same command run again finishes.
//!
//! Without the feature `fault-injection` a point is an empty function.

/// Marks the place `name`. With the feature on, the process ends here as if by SIGKILL when the environment
/// variable `PONTOON_FAULT` is this name, or this name with `@n` for the n-th passage.
#[cfg(feature = "fault-injection")]
pub(crate) fn point(name: &str) {
    use std::sync::Mutex;

    static PASSED: Mutex<usize> = Mutex::new(0);

    let Ok(wanted) = std::env::var("PONTOON_FAULT") else { return };
    let (wanted, nth) =
        wanted.split_once('@').map_or((wanted.as_str(), 1), |(point, nth)| (point, nth.parse().unwrap_or(1)));
    if wanted != name {
        return;
    }
    let Ok(mut passed) = PASSED.lock() else { return };
    *passed += 1;
    if *passed == nth {
        // No destructor and no buffered write may run: that is what a real kill looks like.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    }
}

/// Marks the place `name`; does nothing in a build without the feature `fault-injection`.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(crate) fn point(_name: &str) {}
