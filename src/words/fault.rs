//! Named fault points: places where a test can kill the process or hold it still, to prove that the same command run
//! again finishes.
//!
//! Without the feature `fault-injection` a point is an empty function. With it, the environment decides:
//! `PONTOON_FAULT=name@n` ends the process as if by SIGKILL at the n-th passage of the point (`@*`: at each); with
//! `PONTOON_FAULT_PAUSE=path` it makes that file instead and waits until somebody removes it;
//! `PONTOON_FAULT_TRACE=path` adds the name of every point that is passed to that file.

/// Marks the place `name`.
#[cfg(feature = "fault-injection")]
pub(crate) fn point(name: &str) {
    use std::io::Write;
    use std::sync::Mutex;

    static PASSED: Mutex<usize> = Mutex::new(0);

    if let Ok(path) = std::env::var("PONTOON_FAULT_TRACE")
        && let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        let _ = writeln!(file, "{name}");
    }
    let Ok(wanted) = std::env::var("PONTOON_FAULT") else { return };
    let (wanted, nth) = wanted.split_once('@').unwrap_or((wanted.as_str(), "1"));
    let Ok(mut passed) = PASSED.lock() else { return };
    if wanted != name {
        return;
    }
    *passed += 1;
    if nth != "*" && *passed != nth.parse().unwrap_or(1) {
        return;
    }
    match std::env::var("PONTOON_FAULT_PAUSE") {
        Ok(path) => {
            let _ = std::fs::write(&path, name);
            while std::path::Path::new(&path).exists() {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        Err(_) => {
            // No destructor and no buffered write may run: that is what a real kill looks like.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Marks the place `name`; does nothing in a build without the feature `fault-injection`.
#[cfg(not(feature = "fault-injection"))]
#[inline]
pub(crate) fn point(_name: &str) {}
