//! Shows what the engine does: a bar on a terminal, plain lines otherwise. Everything goes to stderr.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::say;
use crate::engine::{Happening, Observer};

/// Between two plain lines of progress.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The observer that writes to the screen.
pub(crate) struct Screen {
    quiet: bool,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bar: Option<ProgressBar>,
    said: Option<Instant>,
    job_started: Option<(Instant, i64)>,
}

impl Screen {
    pub(crate) fn new(json: bool) -> Self {
        Self { quiet: json, terminal: std::io::stderr().is_terminal(), state: Mutex::new(State::default()) }
    }

    fn line(&self, state: &State, text: &str) {
        match &state.bar {
            Some(bar) => bar.suspend(|| say(text)),
            None => say(text),
        }
    }

    fn progress(
        &self,
        state: &mut State,
        job: &str,
        unit: &str,
        pages: i64,
        pages_done: i64,
        converted: i64,
    ) {
        let (started, first) = *state.job_started.get_or_insert_with(|| (Instant::now(), pages_done));
        let eta = eta(started.elapsed(), pages_done - first, pages - pages_done);
        let text = format!("{job}: {pages_done} of {pages} {unit}, {converted} rows changed{eta}");
        if self.terminal {
            let bar = state.bar.get_or_insert_with(|| {
                let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
                if let Ok(style) = ProgressStyle::with_template("  {bar:30} {percent:>3}%  {msg}") {
                    bar.set_style(style);
                }
                bar
            });
            bar.set_length(u64::try_from(pages).unwrap_or_default());
            bar.set_position(u64::try_from(pages_done).unwrap_or_default());
            bar.set_message(text);
        } else if state.said.is_none_or(|said| said.elapsed() >= LINE_EVERY) || pages_done == pages {
            state.said = Some(Instant::now());
            say(&format!("  backfill {text}"));
        }
    }
}

/// The time that the pages left will take at the pace so far.
fn eta(elapsed: Duration, done: i64, left: i64) -> String {
    if done <= 0 || left <= 0 {
        return String::new();
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate for people")]
    let seconds = elapsed.as_secs_f64() * left as f64 / done as f64;
    format!(", about {seconds:.0} s left")
}

impl Observer for Screen {
    fn saw(&self, happening: Happening) {
        if self.quiet {
            return;
        }
        let Ok(mut state) = self.state.lock() else { return };
        match happening {
            Happening::Phase { version, name, what } => {
                self.line(&state, &format!("{what} {version} {name}"));
            }
            Happening::Step { title, elapsed } => {
                self.line(&state, &format!("  {title} ({} ms)", elapsed.as_millis()));
            }
            Happening::Waiting { title, blockers, attempt } => {
                self.line(&state, &format!("  waiting (try {attempt}): {title}"));
                for blocker in blockers {
                    self.line(&state, &format!("    in the way: {blocker}"));
                }
            }
            Happening::Paused { reason } => self.line(&state, &format!("  paused: {reason}")),
            Happening::Reconnecting { reason } => {
                self.line(&state, &format!("  connection lost, connecting again: {reason}"));
            }
            Happening::Progress { job, unit, pages, pages_done, converted } => {
                self.progress(&mut state, &job, unit, pages, pages_done, converted);
            }
            Happening::ProgressDone => {
                if let Some(bar) = state.bar.take() {
                    bar.abandon();
                }
                *state = State::default();
            }
            Happening::Note(text) => self.line(&state, &format!("  {text}")),
        }
    }
}
