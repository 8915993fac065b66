//! `migrate instances`.

use comfy_table::{Table, presets};
use serde_json::json;

use crate::cli::{Context, Exit};
use crate::engine::failure::Outcome;
use crate::words::version::Version;

pub(crate) async fn run(context: &Context) -> Outcome<Exit> {
    let instances = context.config.engine()?.instances().await?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "APP",
        "INSTANCE",
        "SCHEMA",
        "STILL USES",
        "STATE",
        "SERVES",
        "SEEN",
        "ROLE",
    ]);
    for instance in &instances {
        let uses: Vec<String> =
            instance.still_uses.iter().map(|version| Version::from(*version).to_string()).collect();
        table.add_row([
            instance.app.clone(),
            instance.instance.clone(),
            Version::from(instance.schema_version).to_string(),
            uses.join(" "),
            instance.state.clone(),
            if instance.may_serve { "yes" } else { "no" }.to_owned(),
            format!("{} s ago", instance.seen_seconds_ago),
            instance.role.clone(),
        ]);
    }
    let text = if instances.is_empty() { "no instance has registered".to_owned() } else { table.to_string() };
    context.output.result(json!({ "instances": instances }), &text);
    Ok(Exit::Done)
}
