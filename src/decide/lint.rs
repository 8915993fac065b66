//! What a file alone shows, without a database.

use crate::decide::change::alter_type::meaning;
use crate::model::directive::Directive;
use crate::model::migration::MigrationFile;
use crate::model::problem::Problem;
use crate::model::sql::{Action, Statement, StatementKind};

/// A rule and how much it weighs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) is_error: bool,
    pub(crate) problem: Problem,
}

/// Looks at every statement. Rules named by an `allow` directive of a statement keep quiet about it; one that allows
/// nothing is a finding itself.
pub(crate) fn lint(file: &MigrationFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    for statement in &file.statements {
        let mut found = look(statement);
        for placed in &statement.directives {
            let Directive::Allow { rule, .. } = &placed.directive else { continue };
            let before = found.len();
            found.retain(|finding| finding.problem.rule != rule);
            if found.len() == before {
                let title = format!("`allow {rule}` allows nothing here");
                let problem = Problem::new("unused-allow", placed.span.clone(), title, "this directive")
                    .help("take it out");
                found.push(Finding { is_error: false, problem });
            }
        }
        findings.extend(found);
    }
    findings
}

fn look(statement: &Statement) -> Vec<Finding> {
    let as_written =
        statement.directives.iter().any(|placed| matches!(placed.directive, Directive::Phase(_)));
    if as_written {
        let problem = Problem::new(
            "not-analysed",
            statement.span.clone(),
            "this statement runs as written",
            "nobody checks what it locks or breaks",
        )
        .help("say why: `-- migrate: allow not-analysed because <reason>`");
        return vec![Finding { is_error: false, problem }];
    }
    match &statement.kind {
        StatementKind::Other(what) => {
            vec![Finding { is_error: true, problem: Problem::unsupported(statement.span.clone(), what) }]
        }
        StatementKind::DropObjects(objects) if objects.cascade => {
            vec![Finding { is_error: true, problem: Problem::cascade(statement.span.clone()) }]
        }
        StatementKind::AlterTable { actions, .. } => actions
            .iter()
            .filter_map(|(span, action)| match action {
                Action::Other(what) => Some(Finding {
                    is_error: true,
                    problem: Problem::unsupported(span.clone(), &format!("ALTER TABLE … {what}")),
                }),
                Action::DropColumn { cascade: true, .. } | Action::DropConstraint { cascade: true, .. } => {
                    Some(Finding { is_error: true, problem: Problem::cascade(span.clone()) })
                }
                Action::AlterType { using, .. } => {
                    let problem = using.as_ref().and_then(meaning)?;
                    Some(Finding { is_error: true, problem })
                }
                Action::AddColumn { .. }
                | Action::DropColumn { .. }
                | Action::RenameColumn { .. }
                | Action::SetDefault { .. }
                | Action::DropDefault { .. }
                | Action::SetNotNull { .. }
                | Action::DropNotNull { .. }
                | Action::AddConstraint(_)
                | Action::DropConstraint { .. }
                | Action::ValidateConstraint { .. }
                | Action::RenameConstraint { .. }
                | Action::Setting { .. }
                | Action::RenameTable(_)
                | Action::RowSecurity { .. }
                | Action::AttachPartition { .. }
                | Action::DetachPartition { .. } => None,
            })
            .collect(),
        StatementKind::Begin
        | StatementKind::Commit
        | StatementKind::CreateTable { .. }
        | StatementKind::CreateIndex(_)
        | StatementKind::Update { .. }
        | StatementKind::Data(_)
        | StatementKind::InsertValues { .. }
        | StatementKind::CreateObject { .. }
        | StatementKind::AddEnumValue
        | StatementKind::Rename(_)
        | StatementKind::Describe(_)
        | StatementKind::Revoke
        | StatementKind::CreateOnTable(_)
        | StatementKind::DropObjects(_)
        | StatementKind::Publication(_) => Vec::new(),
    }
}
