-- Purpose: the ledger. Run once, in one transaction.
-- Locks: none that an application could wait behind.
CREATE SCHEMA IF NOT EXISTS pontoon;
-- Sync triggers call functions here with the rights of whoever writes the table. Tables and registry stay closed.
GRANT USAGE ON SCHEMA pontoon TO PUBLIC;

CREATE TABLE pontoon.meta (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    format       integer NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO pontoon.meta (format) VALUES (1);

-- The single-runner right. Steps hold it FOR KEY SHARE, renewal updates a column outside the unique index and waits
-- for nobody, a takeover raises the epoch and waits for a running step.
CREATE TABLE pontoon.lease (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch       bigint NOT NULL UNIQUE,
    holder      text,
    command     text,
    backend_pid integer,
    acquired_at timestamptz,
    expires_at  timestamptz
);
INSERT INTO pontoon.lease (epoch) VALUES (0);

-- Registering shares this row, closing and aborting take it alone: none of them can miss the other.
CREATE TABLE pontoon.gate (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    baseline bigint NOT NULL DEFAULT 0 CHECK (baseline >= 0),
    -- Raised by every decision, so that a registration on an older snapshot fails instead of missing it.
    decided  bigint NOT NULL DEFAULT 0
);
INSERT INTO pontoon.gate DEFAULT VALUES;

CREATE TABLE pontoon.migration (
    version        bigint PRIMARY KEY CHECK (version >= 0),
    name           text NOT NULL,
    checksum       text NOT NULL,
    file_text      text NOT NULL,
    plan           json NOT NULL,
    plan_hash      text NOT NULL,
    state          text NOT NULL CHECK (state IN ('expanding', 'expanded', 'backfilling', 'ready', 'closing', 'sealed',
                                                  'dropping', 'done', 'aborting', 'aborted')),
    attempt        integer NOT NULL DEFAULT 1 CHECK (attempt > 0),
    has_contract   boolean NOT NULL,
    serve_expanded boolean NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    expanded_at    timestamptz,
    ready_at       timestamptz,
    closed_at      timestamptz,
    sealed_at      timestamptz,
    drop_due_at    timestamptz,
    done_at        timestamptz,
    aborted_at     timestamptz,
    -- The last verification: null before it, false sticks until a later one is clean.
    verified       boolean,
    -- Columns of the tables as the last structural step left them, by attnum.
    fingerprint    jsonb,
    CHECK ((state = 'done') = (done_at IS NOT NULL)),
    CHECK (state NOT IN ('sealed', 'dropping') OR sealed_at IS NOT NULL),
    CHECK (state NOT IN ('ready', 'closing', 'sealed', 'dropping', 'done') OR ready_at IS NOT NULL)
);

CREATE TABLE pontoon.step (
    version     bigint NOT NULL REFERENCES pontoon.migration,
    attempt     integer NOT NULL,
    id          text NOT NULL,
    state       text NOT NULL CHECK (state IN ('started', 'done', 'undone')),
    epoch       bigint NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (version, attempt, id),
    CHECK ((state = 'started') = (finished_at IS NULL))
);

CREATE TABLE pontoon.job (
    version     bigint NOT NULL REFERENCES pontoon.migration,
    id          text NOT NULL,
    relid       oid NOT NULL,
    filenode    oid NOT NULL,
    pages       bigint NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    swept       bigint,
    PRIMARY KEY (version, id)
);

-- A unit that one worker holds at a time, by locking its row in the transaction of each batch.
CREATE TABLE pontoon.chunk (
    version    bigint NOT NULL,
    job        text NOT NULL,
    first_page bigint NOT NULL,
    end_page   bigint NOT NULL,
    next_page  bigint NOT NULL,
    converted  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (version, job, first_page),
    FOREIGN KEY (version, job) REFERENCES pontoon.job ON DELETE CASCADE,
    CHECK (first_page <= next_page AND next_page <= end_page)
);

CREATE TABLE pontoon.instance (
    app              text NOT NULL,
    instance         text NOT NULL,
    schema_version   bigint NOT NULL,
    still_uses       bigint[] NOT NULL,
    incarnation      bigint NOT NULL,
    ttl              interval NOT NULL,
    may_serve        boolean NOT NULL,
    role             text NOT NULL,
    application_name text NOT NULL,
    address          inet,
    registered_at    timestamptz NOT NULL,
    last_seen        timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    deregistered_at  timestamptz,
    -- A second process under the same name displaces nobody: the first one counts until its grace is over.
    PRIMARY KEY (app, instance, incarnation)
);

-- Evidence that someone writes an old shape. Append-only, so that no writer ever waits for another.
CREATE TABLE pontoon.old_write (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version     bigint NOT NULL,
    mapping     text NOT NULL,
    pid         integer NOT NULL,
    role        text NOT NULL,
    application text NOT NULL,
    address     inet,
    at          timestamptz NOT NULL
);

-- Who decided what: overrides, reopens, aborts.
CREATE TABLE pontoon.event (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    version bigint,
    role    text NOT NULL DEFAULT session_user,
    what    text NOT NULL,
    detail  jsonb NOT NULL DEFAULT '{}'
);
