//! Which row a batch of one page or one number fails at.

use crate::decide::plan::{Convert, Job, Once, Plan, Work};
use crate::engine::Engine;
use crate::engine::batch::{batch_begin, convert_rows, range};
use crate::engine::failure::Failure;
use crate::pg::error::PgError;
use crate::pg::session::Session;
use crate::words::ident::literal;

impl Engine {
    /// A batch of one page or row fails: find the row, and say which.
    pub(super) async fn name_the_row(
        &self,
        session: &mut Session,
        plan: &Plan,
        job: &Job,
        error: PgError,
    ) -> Failure {
        let version = plan.version;
        let found = match job.once() {
            None => self.find_the_row(session, plan, job).await.ok().flatten(),
            Some(once) => {
                let key = self.next_listed(session, plan, job, once).await.ok().flatten();
                key.map(|key| (key, None))
            }
        };
        let Some((key, of_row)) = found else {
            let failure = Failure::from(error);
            let message = format!("backfill of {}: {}", job.table.plain(), failure.message);
            return Failure { message, ..failure };
        };
        let done = if job.once().is_none() { "converted" } else { "changed" };
        let error = of_row.unwrap_or(error);
        let raised = error.code() == Some("P0001");
        Failure::failed(format!("a row of {} cannot be {done}: {error}", job.table.plain()))
            .details(vec![format!("row with {key}")])
            .next(match &job.work {
                // In psql no trigger would have been asked.
                Work::Convert(Convert { quiet: true, .. }) if raised => format!(
                    "if a trigger of the table's refuses it: let the role set session_replication_role, or run `migrate backfill \
                     {version}` as one that may"
                ),
                _ => format!(
                    "correct that row and run `migrate backfill {version}` again, or `migrate abort {version}`"
                ),
            })
    }

    /// The key of the row that a data job comes to next.
    async fn next_listed(
        &self,
        session: &mut Session,
        plan: &Plan,
        job: &Job,
        once: &Once,
    ) -> Result<Option<String>, PgError> {
        #[derive(serde::Deserialize)]
        struct Row {
            key: String,
        }
        session.execute(&batch_begin(job, &plan.search_path)).await?;
        let key = async {
            let Some(chunk) = self.ledger.chunk_claim(session, plan.version, &job.id).await? else {
                return Ok(None);
            };
            let sql = format!(
                "SELECT {} AS key FROM {} WHERE _pontoon_n = {}",
                once.named_key(),
                once.list,
                chunk.next_page
            );
            Ok(session.optional::<Row>(&sql, &[]).await?.map(|row| row.key))
        }
        .await;
        session.rollback().await;
        key
    }

    async fn find_the_row(
        &self,
        session: &mut Session,
        plan: &Plan,
        job: &Job,
    ) -> Result<Option<(String, Option<PgError>)>, PgError> {
        #[derive(serde::Deserialize)]
        struct Row {
            place: String,
            key: String,
        }
        let key = self.ledger.row_key(session, job.counted()).await?;
        session.execute(&batch_begin(job, &plan.search_path)).await?;
        let found = async {
            let Some(chunk) = self.ledger.chunk_claim(session, plan.version, &job.id).await? else {
                return Ok(None);
            };
            let range = range("", chunk.next_page, chunk.next_page + 1);
            let rows: Vec<Row> = session
                .rows(
                    &format!(
                        "SELECT ctid::text AS place, {key} AS key FROM ONLY {} WHERE {range}",
                        job.counted()
                    ),
                    &[],
                )
                .await?;
            for Row { place, key } in rows {
                session.execute("SAVEPOINT row").await?;
                for one in convert_rows(job, |row| format!("{row}ctid = {}::tid", literal(&place))) {
                    if let Err(error) = session.execute(&one).await {
                        return if error.is_data() || error.code().is_some() {
                            Ok(Some((key, Some(error))))
                        } else {
                            Err(error)
                        };
                    }
                }
                session.execute("RELEASE SAVEPOINT row").await?;
            }
            Ok(None)
        }
        .await;
        session.rollback().await;
        found
    }
}
