//! What the demo shows at the end.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};

use super::shop::Report;
use crate::cli::output::print;

/// Statements that each version must have done for the result to mean anything.
const ENOUGH: u64 = 5_000;

/// The phases in the order they were played.
const PHASES: [&str; 7] = ["before", "expand", "backfill", "rollout", "contract", "reopen", "drop"];

/// The sum of all reports.
#[derive(Default)]
pub(super) struct Tally {
    /// Statements, errors and wrong rows by version.
    versions: BTreeMap<String, (u64, u64, u64)>,
    latencies: BTreeMap<String, Vec<u32>>,
    examples: Vec<String>,
    /// Rows whose old column was not current after the reopen.
    pub(super) stale: i64,
}

impl Tally {
    pub(super) fn add(&mut self, code: &str, report: Report) {
        let sum = self.versions.entry(code.to_owned()).or_default();
        sum.0 += report.statements;
        sum.1 += u64::try_from(report.errors.len()).unwrap_or(u64::MAX);
        sum.2 += u64::try_from(report.wrong.len()).unwrap_or(u64::MAX);
        self.examples.extend(report.errors.into_iter().chain(report.wrong).take(3));
        for (phase, micros) in report.latencies {
            self.latencies.entry(phase).or_default().extend(micros);
        }
    }

    /// Prints the tables. True if nothing was lost and enough was done.
    pub(super) fn show(&mut self) -> bool {
        let mut versions = Table::new();
        versions.load_preset(presets::UTF8_BORDERS_ONLY).set_header([
            "version",
            "statements",
            "errors",
            "lost or wrong rows",
        ]);
        let mut fine = self.stale == 0 && self.versions.len() == 2;
        for (code, (statements, errors, wrong)) in &self.versions {
            versions.add_row([code.clone(), statements.to_string(), errors.to_string(), wrong.to_string()]);
            fine &= *statements >= ENOUGH && *errors == 0 && *wrong == 0;
        }
        let mut latencies = Table::new();
        latencies.load_preset(presets::UTF8_BORDERS_ONLY).set_header([
            "while",
            "statements",
            "p50 ms",
            "p99 ms",
            "max ms",
        ]);
        for phase in PHASES {
            let Some(micros) = self.latencies.get_mut(phase) else { continue };
            micros.sort_unstable();
            let at = |percent: usize| {
                let place = (micros.len() * percent / 100).min(micros.len().saturating_sub(1));
                format!("{:.1}", f64::from(micros.get(place).copied().unwrap_or_default()) / 1_000.0)
            };
            latencies.add_row([phase.to_owned(), micros.len().to_string(), at(50), at(99), at(100)]);
        }
        print(&format!("\n{versions}\n{latencies}"));
        for example in &self.examples {
            print(&format!("  {example}"));
        }
        print(if fine { "Nobody noticed." } else { "Something went wrong: see above." });
        fine
    }
}
