-- Every query on the ledger, by name. A test prepares each of them on a real server.

-- name: server
-- Purpose: what kind of server this is, before anything is written.
SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS in_recovery,
       current_setting('server_version') AS version_text

-- name: installed
-- Purpose: whether the ledger is there. Read as a table: a lookup by name could answer from a cache that is older than
-- another installer's COMMIT. $1 the ledger's schema.
SELECT EXISTS (SELECT FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE n.nspname = $1 AND c.relname = 'meta' AND c.relkind = 'r') AS value

-- name: format
-- Purpose: the format of the ledger's tables.
SELECT m.format AS value FROM pontoon.meta AS m

-- name: lease_take
-- Purpose: become the runner. Waits for nobody: a running step makes it fail with 55P03.
-- Locks: FOR UPDATE on the lease. $1 holder, $2 command, $3 time to live in ms.
UPDATE pontoon.lease AS l
SET epoch = l.epoch + 1, holder = $1, command = $2, backend_pid = pg_backend_pid(),
    acquired_at = clock_timestamp(), expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond'
WHERE l.only_row IN (
    SELECT c.only_row FROM pontoon.lease AS c
    WHERE c.holder IS NULL OR c.expires_at <= clock_timestamp()
       -- The connection that renews it is gone, so nobody will.
       OR NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.pid = c.backend_pid)
    FOR UPDATE NOWAIT)
RETURNING l.epoch AS value

-- name: lease_is_there
-- Purpose: whether somebody has deleted the row that is the lease. Reads only.
SELECT EXISTS (SELECT FROM pontoon.lease) AS value

-- name: lease_holder
-- Purpose: who is the runner. Reads only.
SELECT l.holder, l.command, extract(epoch FROM clock_timestamp() - l.acquired_at)::bigint AS held_seconds
FROM pontoon.lease AS l WHERE l.holder IS NOT NULL AND l.expires_at > clock_timestamp()
  AND EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.pid = l.backend_pid)

-- name: lease_renew
-- Purpose: stay the runner. No key column changes, so it waits for no step. $1 epoch, $2 time to live in ms.
UPDATE pontoon.lease AS l SET expires_at = clock_timestamp() + $2::bigint * interval '1 millisecond', backend_pid = pg_backend_pid()
WHERE l.epoch = $1 RETURNING l.epoch AS value

-- name: lease_hold
-- Purpose: the fence inside each step's transaction. No row: somebody else is the runner now. $1 epoch.
SELECT true AS value FROM pontoon.lease AS l WHERE l.epoch = $1 FOR KEY SHARE

-- name: lease_release
-- Purpose: stop being the runner. $1 epoch.
UPDATE pontoon.lease AS l SET holder = NULL, command = NULL, backend_pid = NULL, expires_at = NULL
WHERE l.epoch = $1 RETURNING l.epoch AS value

-- name: migrations
-- Purpose: every migration with its state, oldest first.
SELECT m.version, m.name, m.checksum, m.plan_hash, m.state, m.attempt, m.has_contract, m.verified,
       m.started_at, m.expanded_at, m.ready_at, m.closed_at, m.sealed_at, m.drop_due_at, m.done_at, m.aborted_at,
       extract(epoch FROM m.drop_due_at - clock_timestamp())::bigint AS drop_due_in_seconds,
       m.state = 'expanding' AND NOT EXISTS (
           SELECT FROM pontoon.step AS s LEFT JOIN json_array_elements(m.plan -> 'expand') AS p (step) ON p.step ->> 'id' = s.id
           WHERE (s.version, s.attempt) = (m.version, m.attempt)
             -- A step without a transaction may have left something when it was only started.
             AND (s.state = 'done' OR json_typeof(p.step -> 'mode') = 'object')) AS untouched,
       extract(epoch FROM clock_timestamp() - m.sealed_at)::bigint AS sealed_seconds
FROM pontoon.migration AS m ORDER BY m.version

-- name: migration_stored
-- Purpose: the plan that runs, and the shape that its last structural step left. $1 version.
SELECT m.plan, m.fingerprint FROM pontoon.migration AS m WHERE m.version = $1

-- name: migration_insert
-- Purpose: store a plan before its first step, or the new attempt of an aborted one or of one that did nothing yet.
-- $1 version, $2 name, $3 checksum, $4 file, $5 plan, $6 hash, $7 has contract, $8 serve expanded, $9 state.
INSERT INTO pontoon.migration AS m (version, name, checksum, file_text, plan, plan_hash, state, has_contract, serve_expanded)
VALUES ($1, $2, $3, $4, $5::text::json, $6, $9, $7, $8)
ON CONFLICT (version) DO UPDATE
SET name = excluded.name, checksum = excluded.checksum, file_text = excluded.file_text, plan = excluded.plan,
    plan_hash = excluded.plan_hash, state = excluded.state, attempt = m.attempt + 1, has_contract = excluded.has_contract,
    serve_expanded = excluded.serve_expanded, started_at = clock_timestamp(), expanded_at = NULL, ready_at = NULL,
    aborted_at = NULL, verified = NULL, fingerprint = NULL
WHERE (m.state = 'aborted' OR (m.state = 'expanding' AND NOT EXISTS (
    SELECT FROM pontoon.step AS s LEFT JOIN json_array_elements(m.plan -> 'expand') AS p (step) ON p.step ->> 'id' = s.id
    WHERE (s.version, s.attempt) = (m.version, m.attempt)
      AND (s.state = 'done' OR json_typeof(p.step -> 'mode') = 'object'))))
RETURNING m.attempt AS value

-- name: migration_move
-- Purpose: one transition. $1 version, $2 the state it must be in, $3 the next, $4 soak in seconds (for sealed).
UPDATE pontoon.migration AS m
SET state = $3,
    expanded_at = CASE WHEN $3 = 'expanded' THEN clock_timestamp() ELSE m.expanded_at END,
    ready_at    = CASE WHEN $3 = 'ready' AND m.ready_at IS NULL THEN clock_timestamp() ELSE m.ready_at END,
    closed_at   = CASE WHEN $3 = 'closing' THEN clock_timestamp() ELSE m.closed_at END,
    sealed_at   = CASE WHEN $3 = 'sealed' THEN clock_timestamp() ELSE m.sealed_at END,
    drop_due_at = CASE WHEN $3 = 'sealed' THEN clock_timestamp() + $4::bigint * interval '1 second' ELSE m.drop_due_at END,
    done_at     = CASE WHEN $3 = 'done' THEN clock_timestamp() ELSE m.done_at END,
    aborted_at  = CASE WHEN $3 = 'aborted' THEN clock_timestamp() ELSE m.aborted_at END,
    -- What was verified before the seal says nothing about the seal.
    verified    = CASE WHEN $3 = 'sealed' THEN NULL ELSE m.verified END
WHERE m.version = $1 AND m.state = $2
RETURNING true AS value

-- name: migration_verified
-- Purpose: the result of a verification; false sticks. $1 version, $2 result.
UPDATE pontoon.migration AS m SET verified = $2 WHERE m.version = $1 RETURNING true AS value

-- name: migration_fingerprint
-- Purpose: the shape that the last structural step left. $1 version, $2 fingerprint.
UPDATE pontoon.migration AS m SET fingerprint = $2 WHERE m.version = $1 RETURNING true AS value

-- name: highest_registered
-- Purpose: the highest version that any instance ever served.
SELECT max(i.schema_version) AS value FROM pontoon.instance AS i WHERE i.may_serve

-- name: baseline
-- Purpose: versions up to this one are taken for granted.
SELECT g.baseline AS value FROM pontoon.gate AS g

-- name: steps
-- Purpose: what has run. $1 version, $2 attempt.
SELECT s.id, s.state FROM pontoon.step AS s WHERE s.version = $1 AND s.attempt = $2

-- name: step_start
-- Purpose: intent, before the step. $1 version, $2 attempt, $3 step, $4 epoch.
INSERT INTO pontoon.step AS s (version, attempt, id, state, epoch)
SELECT $1, $2, $3, 'started', l.epoch FROM pontoon.lease AS l WHERE l.epoch = $4
ON CONFLICT (version, attempt, id) DO UPDATE
SET state = 'started', epoch = excluded.epoch, started_at = clock_timestamp(), finished_at = NULL
RETURNING true AS value

-- name: step_end
-- Purpose: outcome, in the step's own transaction where it has one. $1 version, $2 attempt, $3 step, $4 done or undone, $5 epoch.
UPDATE pontoon.step AS s SET state = $4, finished_at = clock_timestamp()
WHERE s.version = $1 AND s.attempt = $2 AND s.id = $3 AND s.epoch = $5 RETURNING true AS value

-- name: step_undone
-- Purpose: a step taken back that may have no record yet. $1 version, $2 attempt, $3 step, $4 epoch.
INSERT INTO pontoon.step AS s (version, attempt, id, state, epoch, finished_at)
VALUES ($1, $2, $3, 'undone', $4, clock_timestamp())
ON CONFLICT (version, attempt, id) DO UPDATE SET state = 'undone', epoch = excluded.epoch, finished_at = clock_timestamp()
RETURNING true AS value

-- name: forget_undone
-- Purpose: an undo is finished; what it took back has no record. $1 version, $2 attempt.
DELETE FROM pontoon.step AS s WHERE s.version = $1 AND s.attempt = $2 AND s.state = 'undone' RETURNING true AS value

-- name: job_start
-- Purpose: freeze the set of rows: the pages the table has now that the triggers are in place.
-- $1 version, $2 job, $3 table, quoted, $4 how many there are where rows are counted and not pages, else -1.
INSERT INTO pontoon.job (version, id, relid, filenode, pages)
SELECT $1, $2, c.oid, pg_relation_filenode(c.oid),
       CASE WHEN $4::bigint >= 0 THEN $4::bigint
            ELSE (pg_relation_size(c.oid) + current_setting('block_size')::bigint - 1) / current_setting('block_size')::bigint END
FROM pg_class AS c
WHERE c.oid = to_regclass($3)
  AND EXISTS (SELECT FROM pontoon.migration AS m WHERE m.version = $1 AND m.state = 'backfilling')
ON CONFLICT (version, id) DO NOTHING
RETURNING pages AS value

-- name: list_lock
-- Purpose: one process at a time makes a list of rows. Nobody waits. $1 the list, quoted.
SELECT pg_try_advisory_xact_lock(hashtextextended('pontoon ' || $1, 0)) AS value

-- name: job_exists
-- Purpose: whether a job has begun. $1 version, $2 job.
SELECT EXISTS (SELECT FROM pontoon.job AS j WHERE j.version = $1 AND j.id = $2) AS value

-- name: job_chunks
-- Purpose: cut a job into chunks. $1 version, $2 job, $3 pages per chunk.
INSERT INTO pontoon.chunk (version, job, first_page, end_page, next_page)
SELECT j.version, j.id, p.page, least(p.page + $3, j.pages), p.page
FROM pontoon.job AS j, generate_series(0, j.pages - 1, $3::bigint) AS p (page)
WHERE j.version = $1 AND j.id = $2
RETURNING first_page AS value

-- name: job_reset
-- Purpose: the table was rewritten, so pages mean nothing any more. $1 version, $2 job.
DELETE FROM pontoon.job AS j WHERE j.version = $1 AND j.id = $2 RETURNING true AS value

-- name: jobs_drop
-- Purpose: forget the jobs of an aborted attempt. $1 version.
DELETE FROM pontoon.job AS j WHERE j.version = $1 RETURNING true AS value

-- name: job_filenode
-- Purpose: whether the table is still the one that was cut into chunks. $1 version, $2 job.
SELECT coalesce(j.filenode = pg_relation_filenode(j.relid), false) AS value FROM pontoon.job AS j WHERE j.version = $1 AND j.id = $2

-- name: job_pages
-- Purpose: pages of a table now; none of one that was dropped. $1 table, quoted.
SELECT coalesce((pg_relation_size(to_regclass($1)) + current_setting('block_size')::bigint - 1) / current_setting('block_size')::bigint, 0) AS value

-- name: job_parts
-- Purpose: the tables that hold the rows of a table: its partitions, or itself. $1 table, quoted; $2 its name while sealed.
SELECT n.nspname AS schema, c.relname AS name, c.oid::bigint AS oid
FROM coalesce(to_regclass($2), to_regclass($1)) AS whole (oid)
CROSS JOIN LATERAL (SELECT whole.oid UNION SELECT p.relid FROM pg_partition_tree(whole.oid) AS p WHERE p.isleaf) AS part (oid)
JOIN pg_class AS c ON c.oid = part.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind <> 'p'
ORDER BY n.nspname, c.relname

-- name: job_admit
-- Purpose: a partition that came later, and in which there is nothing to do. $1 version, $2 job, $3 table, quoted.
INSERT INTO pontoon.job (version, id, relid, filenode, pages, finished_at, swept)
SELECT $1, $2, c.oid, pg_relation_filenode(c.oid), 0, clock_timestamp(), 0 FROM pg_class AS c
WHERE c.oid = to_regclass($3) AND c.relkind <> 'p'
ON CONFLICT (version, id) DO NOTHING
RETURNING true AS value

-- name: job_finish
-- Purpose: the job is through. $1 version, $2 job, $3 rows that the last sweep converted.
UPDATE pontoon.job AS j SET finished_at = clock_timestamp(), swept = $3 WHERE j.version = $1 AND j.id = $2 RETURNING true AS value

-- name: chunk_claim
-- Purpose: a chunk with pages left that nobody else works on. The row lock is the claim.
-- $1 version, $2 job.
SELECT c.first_page, c.next_page, c.end_page FROM pontoon.chunk AS c
WHERE c.version = $1 AND c.job = $2 AND c.next_page < c.end_page
  AND EXISTS (SELECT FROM pontoon.migration AS m WHERE m.version = $1 AND m.state = 'backfilling')
ORDER BY c.first_page LIMIT 1 FOR UPDATE SKIP LOCKED

-- name: chunk_advance
-- Purpose: the marker that commits with its data. $1 version, $2 job, $3 chunk, $4 next page, $5 rows converted.
UPDATE pontoon.chunk AS c SET next_page = $4, converted = c.converted + $5
WHERE c.version = $1 AND c.job = $2 AND c.first_page = $3 RETURNING true AS value

-- name: chunks_left
-- Purpose: whether a job has pages left, locked ones included. $1 version, $2 job.
SELECT count(*) AS value FROM pontoon.chunk AS c WHERE c.version = $1 AND c.job = $2 AND c.next_page < c.end_page

-- name: progress
-- Purpose: how far each job is, in pages and rows. $1 version.
SELECT j.id, j.pages, coalesce(sum(c.next_page - c.first_page), 0)::bigint AS pages_done,
       coalesce(sum(c.converted), 0)::bigint AS converted, j.swept, j.finished_at IS NOT NULL AS finished,
       extract(epoch FROM clock_timestamp() - j.started_at)::float8 AS seconds
FROM pontoon.job AS j LEFT JOIN pontoon.chunk AS c ON (c.version, c.job) = (j.version, j.id)
WHERE j.version = $1 GROUP BY j.version, j.id ORDER BY j.id

-- name: gate_lock
-- Purpose: keep registrations out while contract or abort decides.
-- Locks: FOR NO KEY UPDATE on the gate, which a registration's FOR SHARE waits for.
UPDATE pontoon.gate AS g SET decided = g.decided + 1 RETURNING true AS value

-- name: gate_facts
-- Purpose: everything the gate looks at. After a restart of the server every lease counts for one more ttl: nobody
-- could renew meanwhile. $1 version, $2 tables, $3 quiet time in seconds, $4 applications.
SELECT
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'app', i.app, 'instance', i.instance, 'schema_version', i.schema_version, 'role', i.role,
            'seen_seconds_ago', extract(epoch FROM clock_timestamp() - i.last_seen)::bigint,
            'grace_seconds_left', 0, 'names_it', $1 = ANY (i.still_uses)) ORDER BY i.app, i.instance)
        FROM pontoon.instance AS i
        WHERE i.deregistered_at IS NULL AND greatest(i.expires_at, pg_postmaster_start_time() + i.ttl) > clock_timestamp()
          AND (i.schema_version < $1 OR $1 = ANY (i.still_uses))), '[]') AS live,
    coalesce((
        SELECT jsonb_agg(jsonb_build_object(
            'app', i.app, 'instance', i.instance, 'schema_version', i.schema_version, 'role', i.role,
            'seen_seconds_ago', extract(epoch FROM clock_timestamp() - i.last_seen)::bigint,
            'grace_seconds_left', extract(epoch FROM i.expires_at + greatest(3 * i.ttl, interval '60 s') - clock_timestamp())::bigint,
            'names_it', $1 = ANY (i.still_uses)) ORDER BY i.app, i.instance)
        FROM pontoon.instance AS i
        WHERE i.deregistered_at IS NULL AND greatest(i.expires_at, pg_postmaster_start_time() + i.ttl) <= clock_timestamp()
          AND clock_timestamp() < i.expires_at + greatest(3 * i.ttl, interval '60 s')
          AND (i.schema_version < $1 OR $1 = ANY (i.still_uses))), '[]') AS expired,
    (SELECT count(*) FROM pontoon.instance AS i
     -- One of a version that nobody expanded here has never served.
     WHERE i.schema_version >= $1 AND i.last_seen >= m.expanded_at AND (i.may_serve OR pontoon.not_serving(i.schema_version) IS NULL)) AS new_seen,
    coalesce((
        SELECT jsonb_agg(a.app ORDER BY a.app) FROM unnest($4::text[]) AS a (app)
        WHERE NOT EXISTS (SELECT FROM pontoon.instance AS i
                          WHERE i.app = a.app AND i.schema_version >= $1 AND i.last_seen >= m.expanded_at
                            AND (i.may_serve OR pontoon.not_serving(i.schema_version) IS NULL))), '[]') AS missing_apps,
    coalesce((
        SELECT jsonb_agg(to_jsonb(w)) FROM (
            SELECT o.role, o.application, host(o.address) AS address,
                   extract(epoch FROM clock_timestamp() - max(o.at))::bigint AS seconds_ago
            FROM pontoon.old_write AS o
            WHERE o.version = $1 AND o.at > clock_timestamp() - $3::bigint * interval '1 second'
            GROUP BY o.role, o.application, o.address ORDER BY max(o.at) DESC LIMIT 10) AS w), '[]') AS old_writes,
    coalesce((
        SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'pid', a.pid, 'application', coalesce(a.application_name, ''), 'role', coalesce(a.usename, ''),
            'age_seconds', extract(epoch FROM clock_timestamp() - a.xact_start)::bigint, 'prepared', NULL))
        FROM pg_locks AS l JOIN pg_stat_activity AS a ON a.pid = l.pid
        WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
          AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.relation IN (SELECT coalesce(p.relid, to_regclass(t.name)) FROM unnest($2::text[]) AS t (name) LEFT JOIN LATERAL pg_partition_tree(to_regclass(t.name)) AS p ON true)
          AND coalesce(a.backend_type, 'client backend') = 'client backend'
          -- A shorter one is drained by the seal's own lock.
          -- Without a start it has just ended, unless we may not look.
          AND (a.query = '<insufficient privilege>' OR a.xact_start < clock_timestamp() - greatest($3, 1)::bigint * interval '1 second')), '[]')
    || coalesce((
        SELECT jsonb_agg(DISTINCT jsonb_build_object(
            'pid', NULL, 'application', '', 'role', p.owner, 'age_seconds', NULL, 'prepared', p.gid))
        -- A prepared transaction has no backend: its locks are found by the lock on its own number.
        FROM pg_locks AS l
        JOIN pg_locks AS own ON own.virtualtransaction = l.virtualtransaction AND own.locktype = 'transactionid' AND own.pid IS NULL
        JOIN pg_prepared_xacts AS p ON p.transaction = own.transactionid
        WHERE l.locktype = 'relation' AND l.pid IS NULL
          AND l.relation IN (SELECT coalesce(p.relid, to_regclass(t.name)) FROM unnest($2::text[]) AS t (name) LEFT JOIN LATERAL pg_partition_tree(to_regclass(t.name)) AS p ON true)), '[]') AS sessions,
    coalesce(m.verified, false) AS verified
FROM pontoon.migration AS m WHERE m.version = $1

-- name: serving_instances
-- Purpose: who needs the new schema, for abort. $1 version.
SELECT i.app, i.instance, i.schema_version, i.role, false AS names_it, 0 AS grace_seconds_left,
       extract(epoch FROM clock_timestamp() - i.last_seen)::bigint AS seen_seconds_ago
FROM pontoon.instance AS i
WHERE i.deregistered_at IS NULL AND greatest(i.expires_at, pg_postmaster_start_time() + i.ttl) > clock_timestamp() AND i.schema_version >= $1 AND i.may_serve
ORDER BY i.app, i.instance

-- name: instances
-- Purpose: the registry, for people.
SELECT i.app, i.instance, i.schema_version, i.still_uses, i.may_serve, i.role, i.application_name,
       host(i.address) AS address, extract(epoch FROM clock_timestamp() - i.last_seen)::bigint AS seen_seconds_ago,
       CASE WHEN i.deregistered_at IS NOT NULL THEN 'left'
            WHEN i.expires_at > clock_timestamp() THEN 'live'
            WHEN clock_timestamp() < i.expires_at + greatest(3 * i.ttl, interval '60 s') THEN 'expired'
            ELSE 'gone' END AS state
FROM pontoon.instance AS i ORDER BY i.app, i.instance

-- name: recently_registered
-- Purpose: whether anybody serves from this database.
SELECT count(*) AS value FROM pontoon.instance AS i WHERE i.last_seen > clock_timestamp() - interval '24 hours'

-- name: event
-- Purpose: the audit trail. $1 version, $2 what, $3 detail.
INSERT INTO pontoon.event (version, what, detail) VALUES ($1, $2, $3) RETURNING id AS value

-- name: left_by_abort
-- Purpose: what the last abort of a migration left in place. $1 version.
SELECT l.value FROM (
    SELECT e.detail FROM pontoon.event AS e WHERE e.version = $1 AND e.what = 'aborted' ORDER BY e.id DESC LIMIT 1) AS e
CROSS JOIN jsonb_array_elements_text(e.detail -> 'left') AS l (value)

-- name: blockers
-- Purpose: who holds locks on tables, oldest transaction first. $1 tables.
SELECT a.pid, coalesce(a.application_name, '') AS application, coalesce(a.usename, '') AS role,
       extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS age_seconds,
       coalesce(a.state LIKE 'idle in transaction%', false) AS idle, left(a.query, 80) AS query
FROM pg_stat_activity AS a
WHERE a.pid <> pg_backend_pid() AND a.pid IN (
    SELECT l.pid FROM pg_locks AS l
    WHERE l.locktype = 'relation' AND l.granted
      AND l.relation IN (SELECT coalesce(p.relid, to_regclass(t.name)) FROM unnest($1::text[]) AS t (name) LEFT JOIN LATERAL pg_partition_tree(to_regclass(t.name)) AS p ON true))
ORDER BY a.xact_start NULLS LAST LIMIT 3

-- name: waits_for
-- Purpose: whom a running statement waits for. $1 pid of our own backend.
SELECT a.pid, coalesce(a.application_name, '') AS application, coalesce(a.usename, '') AS role,
       extract(epoch FROM clock_timestamp() - a.xact_start)::bigint AS age_seconds,
       coalesce(a.state LIKE 'idle in transaction%', false) AS idle, left(a.query, 80) AS query
FROM pg_stat_activity AS a WHERE a.pid = ANY (pg_blocking_pids($1::int)) ORDER BY a.xact_start NULLS LAST LIMIT 3

-- name: backend_gone
-- Purpose: whether a backend has ended, so that what it left undone is undone. $1 pid.
SELECT NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.pid = $1::int) AS value

-- name: key_columns
-- Purpose: the columns of the primary key, to name a row. $1 table, quoted.
SELECT quote_ident(a.attname) AS name
FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = to_regclass($1) AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)

-- name: column_parts
-- Purpose: the indexes and constraints that name a column, and foreign keys that point at it, ours and parts of others apart. $1 table, quoted, $2 column.
SELECT CASE WHEN p.pointing THEN p.name || ' of ' || p.child ELSE p.name END AS what FROM (
    SELECT DISTINCT c.relname::text AS name, false AS pointing, NULL::text AS child
    FROM pg_depend AS d JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.refobjid, d.refobjsubid)
    JOIN pg_class AS c ON c.oid = d.objid AND c.relkind IN ('i', 'I')
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
      AND d.refobjid = to_regclass($1) AND a.attname = $2
    UNION
    -- A foreign key is cut into one for each partition for a while: it counts as that of the whole.
    SELECT k.conname::text, k.conrelid <> a.attrelid OR (k.contype = 'f' AND NOT a.attnum = ANY (k.conkey)),
           n.nspname || '.' || t.relname
    FROM pg_constraint AS k
    JOIN pg_attribute AS a ON a.attrelid = to_regclass($1) AND a.attname = $2
    JOIN pg_class AS t ON t.oid = coalesce(pg_partition_root(k.conrelid), k.conrelid) JOIN pg_namespace AS n ON n.oid = t.relnamespace
    WHERE k.contype IN ('c', 'f', 'p', 'u', 'x') AND (k.contype <> 'f' OR k.conparentid = 0)
      AND ((k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey)) OR (k.confrelid = a.attrelid AND a.attnum = ANY (k.confkey)))
    UNION
    -- What only a partition has.
    SELECT c.relname::text, true, n.nspname || '.' || t.relname
    FROM pg_partition_tree(to_regclass($1)) AS tree JOIN pg_class AS t ON t.oid = tree.relid JOIN pg_namespace AS n ON n.oid = t.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = $2
    JOIN pg_index AS i ON i.indrelid = t.oid AND a.attnum = ANY (i.indkey) JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE tree.relid <> to_regclass($1) AND NOT c.relispartition
    UNION
    SELECT k.conname::text, k.contype <> 'f', n.nspname || '.' || t.relname
    FROM pg_partition_tree(to_regclass($1)) AS tree JOIN pg_class AS t ON t.oid = tree.relid JOIN pg_namespace AS n ON n.oid = t.relnamespace
    JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = $2
    JOIN pg_constraint AS k ON k.conrelid = t.oid AND a.attnum = ANY (k.conkey)
    WHERE tree.relid <> to_regclass($1) AND k.contype IN ('c', 'f', 'x') AND k.conparentid = 0 AND k.coninhcount = 0) AS p
WHERE p.name NOT LIKE '\_pontoon\_%'

-- name: hidden_dependants
-- Purpose: what would stop a column from being dropped. $1 table, quoted, $2 column, $3 whether constraints count.
SELECT replace(pg_describe_object(d.classid, d.objid, d.objsubid), 'rule _RETURN on ', '') AS what
FROM pg_depend AS d JOIN pg_attribute AS a ON (a.attrelid, a.attnum) = (d.refobjid, d.refobjsubid)
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = to_regclass($1) AND a.attname = $2 AND d.deptype = 'n'
  AND NOT (d.classid = 'pg_constraint'::regclass AND (NOT $3 OR EXISTS (
      SELECT FROM pg_constraint AS own WHERE own.oid = d.objid AND own.conrelid = d.refobjid)))
  AND NOT (d.classid = 'pg_trigger'::regclass AND EXISTS (
      SELECT FROM pg_trigger AS t WHERE t.oid = d.objid AND (t.tgname LIKE ' pontoon%' OR t.tgname LIKE '~pontoon%')))
  AND NOT (d.classid = 'pg_proc'::regclass AND EXISTS (
      SELECT FROM pg_proc AS p JOIN pg_class AS g ON g.oid = 'pontoon.gate'::regclass
      WHERE p.oid = d.objid AND p.pronamespace = g.relnamespace))

-- name: baseline_files
-- Purpose: the files that were there when the baseline was set; none if that was not noted.
SELECT coalesce((SELECT e.detail -> 'files' FROM pontoon.event AS e WHERE e.what = 'baseline' ORDER BY e.id DESC LIMIT 1), 'null') AS value

-- name: set_baseline
-- Purpose: everything up to a version counts as applied. $1 version.
UPDATE pontoon.gate AS g SET baseline = $1, decided = g.decided + 1 RETURNING true AS value

-- name: instances_below
-- Purpose: live instances that are older than a version. $1 version.
SELECT format('%s %s (schema %s)', i.app, i.instance, i.schema_version) AS what
FROM pontoon.instance AS i
WHERE i.deregistered_at IS NULL AND i.expires_at > clock_timestamp() AND i.schema_version < $1
ORDER BY i.app, i.instance

-- name: orphans
-- Purpose: what belongs to no migration in flight. $1 text[] beginnings of the names that do, $2 the ledger's schema.
SELECT o.what FROM (
    SELECT format('trigger "%s" on %s', t.tgname, t.tgrelid::regclass) AS what, ltrim(t.tgname, ' ~') AS name
    FROM pg_trigger AS t JOIN pg_proc AS f ON f.oid = t.tgfoid
    WHERE (t.tgname LIKE ' pontoon\_%' OR t.tgname LIKE '~pontoon\_%') AND f.pronamespace = to_regnamespace(quote_ident($2::text))
    UNION ALL
    SELECT format('function %s', p.oid::regprocedure), 'pontoon_' || p.proname
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
    WHERE n.nspname = $2::text AND p.proname ~ '^m[0-9]+_'
    UNION ALL
    SELECT format('column %I of %s', a.attname, a.attrelid::regclass), 'pontoon_m' || substr(a.attname, 10)
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')
    WHERE a.attname ~ '^_pontoon_[0-9]+_' AND NOT a.attisdropped AND NOT c.relispartition
    UNION ALL
    SELECT format('%s %s', CASE WHEN c.relkind IN ('i', 'I') THEN 'index' ELSE 'table' END, c.oid::regclass), 'pontoon_m' || substr(c.relname, 10)
    FROM pg_class AS c WHERE c.relname ~ '^_pontoon_[0-9]+_' AND c.relkind IN ('r', 'p', 'i', 'I') AND NOT c.relispartition
    UNION ALL
    SELECT format('constraint %I of %s', k.conname, k.conrelid::regclass), 'pontoon_m' || substr(k.conname, 10)
    FROM pg_constraint AS k WHERE k.conname ~ '^_pontoon_[0-9]+_' AND k.conparentid = 0 AND k.coninhcount = 0 AND k.conrelid <> 0) AS o
WHERE NOT EXISTS (SELECT FROM unnest($1::text[]) AS k (beginning) WHERE starts_with(o.name, 'pontoon_' || k.beginning))
ORDER BY o.what

-- name: invalid_indexes
-- Purpose: indexes that a failed build left. Who may not see which one somebody else is building sees one without a name.
SELECT format('%s of %s', i.indexrelid::regclass, i.indrelid::regclass) AS what
FROM pg_index AS i WHERE NOT i.indisvalid
  AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS b WHERE b.index_relid = i.indexrelid OR b.index_relid IS NULL)
  AND (SELECT c.relkind FROM pg_class AS c WHERE c.oid = i.indexrelid) = 'i'
ORDER BY 1

-- name: sync_triggers_off
-- Purpose: sync triggers that do not fire always.
SELECT format('trigger "%s" on %s does not always fire', t.tgname, t.tgrelid::regclass) AS what
FROM pg_trigger AS t
WHERE (t.tgname LIKE ' pontoon\_%' OR t.tgname LIKE '~pontoon\_%') AND t.tgenabled <> 'A'
ORDER BY 1

-- name: old_transactions
-- Purpose: transactions that are older than an hour.
SELECT o.what FROM (
    SELECT format('backend %s (%s, %s) has been in a transaction for %s', a.pid, a.usename, a.application_name,
                  date_trunc('second', clock_timestamp() - a.xact_start)) AS what, a.xact_start AS since
    FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
    UNION ALL
    SELECT format('transaction %L is prepared since %s', p.gid, date_trunc('second', p.prepared)), p.prepared
    FROM pg_prepared_xacts AS p WHERE p.database = current_database()) AS o
WHERE o.since < clock_timestamp() - interval '1 hour'
ORDER BY o.since

-- name: sees_others
-- Purpose: whether the gate can see how old the transactions of other roles are.
SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS value

-- name: replicas
-- Purpose: how far behind the physical standbys are that are connected. One that keeps no count, such as a backup, is not behind.
-- Only this server's clock counts: reply_time is the standby's.
-- $1 application names that do not count.
SELECT coalesce(nullif(r.application_name, ''), 'process ' || r.pid) || coalesce(' at ' || host(r.client_addr), '') AS name,
       r.state,
       coalesce(extract(epoch FROM r.replay_lag), 0)::double precision AS seconds
FROM pg_stat_replication AS r
WHERE (r.application_name = ANY ($1::text[])) IS NOT TRUE
  AND (r.state IS NULL OR r.replay_lsn IS NOT NULL)
  AND NOT EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
ORDER BY seconds DESC, name
