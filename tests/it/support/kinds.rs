//! Each kind of change, declared once: a table, the migration, and how old and new code write and read a row.

/// One kind of change. `{id}` and `{v}` in the statements stand for a row's key and for the value it is to hold.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) setup: &'static str,
    pub(crate) migration: &'static str,
    pub(crate) old: Code,
    pub(crate) new: Code,
    /// Whether rows and values of the new shape are lost by an abort, so that it has to be told to go on.
    pub(crate) abort_discards: bool,
    /// What an abort leaves, as a line of the shape.
    pub(crate) abort_leaves: &'static [&'static str],
}

/// How one version of an application writes a row and sees it.
pub(crate) struct Code {
    pub(crate) insert: &'static str,
    pub(crate) update: &'static str,
    /// True if the row of this id holds this value.
    pub(crate) sees: &'static str,
}

const USERS: &str = "
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, touched int NOT NULL DEFAULT 0);
CREATE INDEX users_name_idx ON users (name);
INSERT INTO users (id, name) SELECT i, 'F' || i || ' L' || i FROM generate_series(1, 3000) AS i;";

const NAME: Code = Code {
    insert: "INSERT INTO users (id, name) VALUES ({id}, 'F{v} L{v}')",
    update: "UPDATE users SET name = 'F{v} L{v}' WHERE id = {id}",
    sees: "SELECT name = 'F{v} L{v}' FROM users WHERE id = {id}",
};

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "split one column into two",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN first_name text, ADD COLUMN last_name text DEFAULT 'none';
            UPDATE users SET first_name = split_part(name, ' ', 1), last_name = split_part(name, ' ', 2);
            ALTER TABLE users ALTER COLUMN first_name SET NOT NULL;
            CREATE INDEX ON users (last_name, first_name);
            -- migrate: down name = concat_ws(' ', first_name, last_name)
            ALTER TABLE users DROP COLUMN name;",
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, first_name, last_name) VALUES ({id}, 'F{v}', 'L{v}')",
            update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}' WHERE id = {id}",
            sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "merge two columns into one",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, first_name text NOT NULL, last_name text NOT NULL);
            INSERT INTO users SELECT i, 'F' || i, 'L' || i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users ADD COLUMN name text;
            UPDATE users SET name = first_name || ' ' || last_name;
            ALTER TABLE users ALTER COLUMN name SET NOT NULL;
            -- migrate: down first_name = split_part(name, ' ', 1)
            -- migrate: down last_name = split_part(name, ' ', 2)
            ALTER TABLE users DROP COLUMN first_name, DROP COLUMN last_name;",
        old: Code {
            insert: "INSERT INTO users (id, first_name, last_name) VALUES ({id}, 'F{v}', 'L{v}')",
            update: "UPDATE users SET first_name = 'F{v}', last_name = 'L{v}' WHERE id = {id}",
            sees: "SELECT first_name = 'F{v}' AND last_name = 'L{v}' FROM users WHERE id = {id}",
        },
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "rename a column",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE CHECK (email <> ''), touched int DEFAULT 0);
            CREATE INDEX users_lower ON users (lower(email)) WHERE touched IS NOT NULL;
            COMMENT ON COLUMN users.email IS 'where to write';
            GRANT SELECT (email), UPDATE (email) ON users TO PUBLIC;
            ALTER TABLE users ALTER COLUMN email SET STATISTICS 300;
            INSERT INTO users SELECT i, 'M' || i || '-' || i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users RENAME COLUMN email TO mail;",
        old: Code {
            insert: "INSERT INTO users (id, email) VALUES ({id}, 'M{id}-{v}')",
            update: "UPDATE users SET email = 'M{id}-{v}' WHERE id = {id}",
            sees: "SELECT email = 'M{id}-{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO users (id, mail) VALUES ({id}, 'M{id}-{v}')",
            update: "UPDATE users SET mail = 'M{id}-{v}' WHERE id = {id}",
            sees: "SELECT mail = 'M{id}-{v}' FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "drop a column with down",
        setup: USERS,
        migration: "-- migrate: down name = 'F0 L0'\nALTER TABLE users DROP COLUMN name;",
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, touched) VALUES ({id}, {v})",
            update: "UPDATE users SET touched = {v} WHERE id = {id}",
            sees: "SELECT touched = {v} FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "drop a nullable column without down",
        setup: "CREATE TABLE users (id bigint PRIMARY KEY, nick text, touched int);
            INSERT INTO users SELECT i, 'N' || i, i FROM generate_series(1, 3000) AS i;",
        migration: "ALTER TABLE users DROP COLUMN nick;",
        old: Code {
            insert: "INSERT INTO users (id, nick) VALUES ({id}, 'N{v}')",
            update: "UPDATE users SET nick = 'N{v}' WHERE id = {id}",
            sees: "SELECT nick = 'N{v}' FROM users WHERE id = {id}",
        },
        new: Code {
            insert: "INSERT INTO users (id, touched) VALUES ({id}, {v})",
            update: "UPDATE users SET touched = {v} WHERE id = {id}",
            sees: "SELECT touched = {v} FROM users WHERE id = {id}",
        },
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "add a plain column",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN nick text;",
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, nick) VALUES ({id}, 'F{v} L{v}', 'N{v}')",
            update: "UPDATE users SET name = 'F{v} L{v}', nick = 'N{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND nick = 'N{v}' FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "add a column with a default",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN country text NOT NULL DEFAULT 'NL', ADD COLUMN at timestamptz;
            ALTER TABLE users ALTER COLUMN at SET DEFAULT now();",
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, country) VALUES ({id}, 'F{v} L{v}', 'C{v}')",
            update: "UPDATE users SET name = 'F{v} L{v}', country = 'C{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND country = 'C{v}' FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "fill a column once",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN token uuid, ADD COLUMN kind text NOT NULL DEFAULT 'person';
            UPDATE users SET token = gen_random_uuid();
            UPDATE users SET kind = 'early' WHERE touched = 0;
            ALTER TABLE users ALTER COLUMN token SET NOT NULL;",
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, kind, token) VALUES ({id}, 'F{v} L{v}', 'K{v}', gen_random_uuid())",
            update: "UPDATE users SET name = 'F{v} L{v}', kind = 'K{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND kind = 'K{v}' AND token IS NOT NULL FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "compute a column that stays beside its source",
        setup: USERS,
        migration: "ALTER TABLE users ADD COLUMN short text;
            UPDATE users SET short = left(name, 20) WHERE name <> '';
            CREATE UNIQUE INDEX users_short ON users (short, id);",
        old: NAME,
        new: Code {
            insert: "INSERT INTO users (id, name, short) VALUES ({id}, 'F{v} L{v}', 'S{v}')",
            update: "UPDATE users SET name = 'F{v} L{v}', short = 'S{v}' WHERE id = {id}",
            sees: "SELECT name = 'F{v} L{v}' AND short = 'S{v}' FROM users WHERE id = {id}",
        },
        abort_discards: true,
        abort_leaves: &[],
    },
    Kind {
        name: "create an index",
        setup: USERS,
        migration: "CREATE INDEX ON users (touched, name DESC) WHERE touched > 0;
            CREATE UNIQUE INDEX users_both ON users (name, id);",
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &[],
    },
    Kind {
        name: "create a table and other objects",
        setup: USERS,
        migration: "BEGIN;
            CREATE TYPE mood AS ENUM ('ok');
            CREATE TABLE visits (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, user_id bigint REFERENCES users, mood mood, at date DEFAULT now());
            CREATE INDEX ON visits (user_id);
            ALTER TABLE visits ADD CONSTRAINT positive CHECK (user_id > 0);
            INSERT INTO visits (user_id, mood) VALUES (1, 'ok');
            COMMENT ON TABLE visits IS 'who came';
            GRANT SELECT ON visits TO PUBLIC;
            CREATE FUNCTION visit_count(who bigint) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM visits WHERE user_id = who';
            CREATE VIEW visitors AS SELECT DISTINCT user_id FROM visits;
            CREATE SEQUENCE tickets;
            CREATE SCHEMA archive;
            CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
            COMMIT;",
        old: NAME,
        new: NAME,
        abort_discards: true,
        abort_leaves: &["schema archive"],
    },
    Kind {
        name: "statements as written",
        setup: USERS,
        migration: "-- migrate: phase expand
            ALTER TABLE users ALTER COLUMN touched DROP NOT NULL;
            -- migrate: phase contract
            CREATE OR REPLACE VIEW names AS SELECT name FROM users;",
        old: NAME,
        new: NAME,
        abort_discards: false,
        abort_leaves: &["column users.touched integer default 0"],
    },
];
