//! `migrate run`.

use crate::cli::args::Run;
use crate::cli::{Context, Exit};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::run::{Ended, Request};
use crate::words::version::Version;

pub(crate) async fn run(context: &Context, args: &Run) -> Outcome<Exit> {
    let config = &context.config;
    let missing = |what: &str, variable: &str| {
        Failure::usage(format!("{what} is missing")).next(format!("add --{what}, or set {variable}"))
    };
    let app = config.named(args.app.as_ref(), "MIGRATE_APP").ok_or_else(|| missing("app", "MIGRATE_APP"))?;
    let flag = args.schema_version.as_ref().map(Version::to_string);
    let schema_version = config
        .named(flag.as_ref(), "MIGRATE_SCHEMA_VERSION")
        .ok_or_else(|| missing("schema-version", "MIGRATE_SCHEMA_VERSION"))?;
    schema_version.parse::<Version>().map_err(|error| Failure::usage(error.to_string()))?;
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "host".to_owned());
    let instance = config
        .named(args.instance.as_ref(), "MIGRATE_INSTANCE")
        .unwrap_or_else(|| format!("{host}:{}", std::process::id()));
    let seconds = args.ttl.as_secs();
    if !(1..=3_600).contains(&seconds) {
        return Err(Failure::usage("--ttl is between 1s and 1h"));
    }
    let request = Request {
        app,
        instance,
        schema_version,
        still_uses: args.still_uses.iter().map(Version::to_string).collect(),
        ttl: args.ttl,
        wait: args.wait,
        command: args.command.clone(),
    };
    match config.engine()?.run(&request).await? {
        Ended::Child(code) => Ok(Exit::Of(u8::try_from(code).unwrap_or(1))),
        Ended::Closed => Ok(Exit::Refused),
    }
}
