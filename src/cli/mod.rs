//! Floor 5: people. Arguments, configuration, output; one file per command in [`commands`]. Only this floor prints and
//! reads the environment.

mod args;
mod commands;
mod config;
mod diagnostics;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

pub(crate) use args::{Arguments, Command};
pub(crate) use config::Config;
pub(crate) use output::Output;

use crate::engine::failure::{Failure, Kind};

/// What every command may use.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) output: Output,
}

/// How a command ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done, or nothing to do.
    Done,
    /// 3: work is pending, and `--exit-code` asked.
    Pending,
    /// 4: a safety check said no; the output says why.
    Refused,
    /// 1: the output says what is wrong.
    Findings,
    /// The code of a program that was run.
    Of(u8),
}

/// Runs the program. The exit codes are a stable part of its interface:
/// 0 done, 1 failed, 2 usage or configuration, 3 work pending, 4 refused by a safety check, 5 another runner at work,
/// 6 the database cannot be reached or used, 130 and 143 ended by a signal.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            if !error.use_stderr() {
                let _ = error.print();
                return ExitCode::SUCCESS;
            }
            output::say(&output::masked(&error.render().to_string()));
            return ExitCode::from(2);
        }
    };
    init_logging(&arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let output = Output::new(&arguments);
            return ExitCode::from(output.failure(&Failure::failed(format!("cannot start: {error}"))));
        }
    };
    let code = runtime.block_on(run(&arguments));
    // Renewal tasks may still hold connections; nobody needs to wait for them.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    ExitCode::from(code)
}

async fn run(arguments: &Arguments) -> u8 {
    let output = Output::new(arguments);
    let config = match Config::load(arguments) {
        Ok(config) => config,
        Err(failure) => return output.failure(&failure),
    };
    let context = Context { config, output };
    // `run` passes signals on to its child; every other command ends at a step's edge: what is recorded stays.
    let supervises = matches!(arguments.command, Command::Run(_) | Command::DemoShop(_));
    let result = if supervises {
        commands::dispatch(&context, &arguments.command).await
    } else {
        tokio::select! {
            result = commands::dispatch(&context, &arguments.command) => result,
            code = interrupted() => {
                context.output.say("interrupted; what is recorded stays, run the same command again to go on");
                return code;
            }
        }
    };
    match result {
        Ok(Exit::Done) => 0,
        Ok(Exit::Findings) => 1,
        Ok(Exit::Pending) => 3,
        Ok(Exit::Refused) => 4,
        Ok(Exit::Of(code)) => code,
        Err(failure) => context.output.failure(&failure),
    }
}

async fn interrupted() -> u8 {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => 130,
        _ = term.recv() => 143,
    }
}

fn init_logging(arguments: &Arguments) {
    let level = match arguments.verbose {
        0 => "off",
        1 => "pontoon=info",
        _ => "pontoon=debug",
    };
    let wanted = std::env::var("MIGRATE_LOG").unwrap_or_else(|_| level.to_owned());
    let filter: Targets = wanted.parse().unwrap_or_default();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let subscriber = tracing_subscriber::registry().with(lines.with_filter(filter));
    // A second call, from a test in the same process, changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

impl Kind {
    /// The exit code of a failure.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 4,
            Self::Busy => 5,
            Self::Environment => 6,
        }
    }
}
