//! Jobs and chunks of the ledger: what backfill has to do, who does it, how far it is.

use serde::{Deserialize, Serialize};

use crate::decide::plan::Job;
use crate::pg::error::PgError;
use crate::pg::ledger::{Done, Ledger, Present};
use crate::pg::session::Session;
use crate::pg::statements::query;
use crate::words::ident::{Ident, QualifiedName};
use crate::words::version::Version;

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) id: String,
    pub(crate) pages: i64,
    pub(crate) pages_done: i64,
    pub(crate) converted: i64,
    /// Rows that only the last sweep found.
    pub(crate) swept: Option<i64>,
    pub(crate) finished: bool,
    pub(crate) seconds: f64,
}

impl Progress {
    /// What is counted: pages, or the rows of a data job.
    pub(crate) fn unit(&self) -> &'static str {
        if self.id.starts_with('d') { "rows" } else { "pages" }
    }
}

/// A claimed chunk, in pages.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(crate) struct Chunk {
    pub(crate) first_page: i64,
    pub(crate) next_page: i64,
    pub(crate) end_page: i64,
}

impl Ledger {
    /// Starts a job if it has not begun: freezes its pages and cuts them into chunks; `size` is the number of rows where
    /// it goes by a list of them. In the caller's transaction. True if it has begun now.
    pub(crate) async fn job_start(
        &self,
        session: &mut Session,
        version: Version,
        job: &Job,
        pages_per_chunk: i64,
        size: Option<i64>,
    ) -> Result<bool, PgError> {
        #[derive(Deserialize)]
        struct Pages {
            value: i64,
        }
        let table = job.counted().to_string();
        let params = [
            version.number().into(),
            job.id.as_str().into(),
            table.as_str().into(),
            size.unwrap_or(-1).into(),
        ];
        let fresh: Option<Pages> = session.optional(&query("job_start", &self.schema), &params).await?;
        let begun = fresh.is_some();
        if fresh.is_some_and(|pages| pages.value > 0) {
            let params = [version.number().into(), job.id.as_str().into(), pages_per_chunk.into()];
            let _: Vec<Present> = session.rows(&query("job_chunks", &self.schema), &params).await?;
        }
        Ok(begun)
    }

    /// A plan's job as it is now: itself, or one for each partition that holds rows of its table.
    pub(crate) async fn parts(&self, session: &mut Session, job: &Job) -> Result<Vec<Job>, PgError> {
        #[derive(Deserialize)]
        struct Partition {
            schema: String,
            name: String,
            oid: i64,
        }
        if !job.is_by_partition() {
            return Ok(vec![job.clone()]);
        }
        let (open, sealed) = job.parted();
        let (open, sealed) = (open.to_string(), sealed.to_string());
        let params = [open.as_str().into(), sealed.as_str().into()];
        let found: Vec<Partition> = session.rows(&query("job_parts", &self.schema), &params).await?;
        let part = |found: Partition| {
            let table = QualifiedName::new(Ident::new(found.schema), Ident::new(found.name));
            if [job.parted().0, job.parted().1].contains(&&table) {
                job.clone()
            } else {
                job.of_partition(table, found.oid)
            }
        };
        Ok(found.into_iter().map(part).collect())
    }

    /// Notes a partition that came later, and in which there is nothing to do.
    pub(crate) async fn job_admit(&self, session: &mut Session, version: Version, job: &Job) -> Done {
        let table = job.table.to_string();
        let params = [version.number().into(), job.id.as_str().into(), table.as_str().into()];
        let _: Vec<Present> = session.rows(&query("job_admit", &self.schema), &params).await?;
        Ok(())
    }

    /// Whether nobody else is making this list of rows. Held until the transaction ends.
    pub(crate) async fn list_lock(
        &self,
        session: &mut Session,
        list: &QualifiedName,
    ) -> Result<bool, PgError> {
        session.one(&query("list_lock", &self.schema), &[list.to_string().as_str().into()]).await
    }

    pub(crate) async fn job_exists(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<bool, PgError> {
        session.one(&query("job_exists", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn job_reset(&self, session: &mut Session, version: Version, job: &str) -> Done {
        let _: Vec<Present> =
            session.rows(&query("job_reset", &self.schema), &[version.number().into(), job.into()]).await?;
        Ok(())
    }

    pub(crate) async fn jobs_drop(&self, session: &mut Session, version: Version) -> Done {
        let _: Vec<Present> =
            session.rows(&query("jobs_drop", &self.schema), &[version.number().into()]).await?;
        Ok(())
    }

    /// Whether the table was not rewritten since the job was cut into chunks.
    pub(crate) async fn job_is_current(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<bool, PgError> {
        session.one(&query("job_filenode", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn pages(&self, session: &mut Session, table: &QualifiedName) -> Result<i64, PgError> {
        session.one(&query("job_pages", &self.schema), &[table.to_string().as_str().into()]).await
    }

    pub(crate) async fn job_finish(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
        swept: i64,
    ) -> Done {
        let params = [version.number().into(), job.into(), swept.into()];
        let _: bool = session.one(&query("job_finish", &self.schema), &params).await?;
        Ok(())
    }

    pub(crate) async fn chunk_claim(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<Option<Chunk>, PgError> {
        session.optional(&query("chunk_claim", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn chunk_advance(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
        chunk: i64,
        next: i64,
        rows: i64,
    ) -> Done {
        let params = [version.number().into(), job.into(), chunk.into(), next.into(), rows.into()];
        let _: bool = session.one(&query("chunk_advance", &self.schema), &params).await?;
        Ok(())
    }

    pub(crate) async fn chunks_left(
        &self,
        session: &mut Session,
        version: Version,
        job: &str,
    ) -> Result<i64, PgError> {
        session.one(&query("chunks_left", &self.schema), &[version.number().into(), job.into()]).await
    }

    pub(crate) async fn progress(
        &self,
        session: &mut Session,
        version: Version,
    ) -> Result<Vec<Progress>, PgError> {
        session.rows(&query("progress", &self.schema), &[version.number().into()]).await
    }
}
