//! Moves between tables: the WHERE that says which rows take part, as values come and go.

use super::move_keys::plays;
use super::support::{Project, run, try_run};

/// What new code writes may end the WHERE of its own source row: the row of new code is its word, and stays.
#[tokio::test]
async fn a_write_of_new_code_that_ends_the_where_takes_nothing_from_it() {
    let users = "CREATE TABLE users (id bigint PRIMARY KEY, name text, street text, deleted_at date);
        INSERT INTO users VALUES (1, 'a', 's1', NULL), (2, 'b', 's2', NULL), (3, 'c', NULL, NULL);
        CREATE TABLE profiles (id bigint PRIMARY KEY, user_id bigint UNIQUE); INSERT INTO profiles SELECT id, id FROM users;";
    plays(
        users,
        "CREATE TABLE addresses (id bigint PRIMARY KEY, name text, street text, note text);
            INSERT INTO addresses (id, name, street) SELECT id, name, street FROM users WHERE street IS NOT NULL;
            ALTER TABLE users DROP COLUMN street, DROP COLUMN name;",
        &["UPDATE addresses SET street = NULL, note = 'n' WHERE id = 1"],
        "SELECT (SELECT string_agg(id || ':' || coalesce(street, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
            string_agg(id || ':' || name || ':' || coalesce(street, '-') || ':' || coalesce(note, '-'), ' ' ORDER BY id) FROM addresses",
        "1:- 2:s2 3:- / 1:a:-:n 2:b:s2:-",
    )
    .await;
    plays(
        users,
        "CREATE TABLE people (id bigint PRIMARY KEY, name text, deleted_at date);
            INSERT INTO people (id, name, deleted_at) SELECT id, name, deleted_at FROM users WHERE deleted_at IS NULL; DROP TABLE users;",
        &[
            "UPDATE people SET deleted_at = '2026-01-01' WHERE id = 1",
            "UPDATE users SET deleted_at = '2026-01-01' WHERE id = 2",
        ],
        "SELECT (SELECT string_agg(id || ':' || coalesce(deleted_at::text, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
            string_agg(id || ':' || name || ':' || coalesce(deleted_at::text, '-'), ' ' ORDER BY id) FROM people",
        "1:2026-01-01 2:2026-01-01 3:- / 1:a:2026-01-01 3:c:-",
    )
    .await;
    plays(
        users,
        "ALTER TABLE profiles ADD COLUMN name text, ADD COLUMN street text;
            UPDATE profiles AS p SET name = u.name, street = u.street FROM users AS u WHERE u.id = p.user_id AND u.name <> '';
            ALTER TABLE users DROP COLUMN name, DROP COLUMN street;",
        &["UPDATE profiles SET name = '' WHERE id = 1", "UPDATE users SET name = '' WHERE id = 2"],
        "SELECT (SELECT string_agg(id || ':' || name || ':' || coalesce(street, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
            string_agg(id || ':' || coalesce(name, '-') || ':' || coalesce(street, '-'), ' ' ORDER BY id) FROM profiles",
        "1::s1 2::s2 3:c:- / 1::s1 2:-:- 3:c:-",
    )
    .await;
}

/// A value that new code gives a row which the WHERE leaves out, and takes away again, does not come back; nor does a WHERE that
/// cannot be computed stand in its way.
#[tokio::test]
async fn a_null_of_new_code_reaches_a_row_that_the_where_leaves_out() {
    let setup = "CREATE TABLE users (id bigint PRIMARY KEY, email text, age text);
        CREATE TABLE profiles (user_id bigint PRIMARY KEY);
        INSERT INTO users VALUES (1, 'N1', '30'), (2, 'N2', '7'), (3, 'N3', '40'); INSERT INTO profiles VALUES (1), (2);";
    let file = "ALTER TABLE profiles ADD COLUMN email text;
        UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id AND u.age::int >= 18; ALTER TABLE users DROP COLUMN email;";
    plays(
        setup,
        file,
        &[
            "UPDATE users SET age = 'unknown' WHERE id = 1",
            "UPDATE profiles SET email = NULL WHERE user_id = 1",
            "UPDATE users SET age = '30' WHERE id = 1",
            "UPDATE profiles SET email = 'Y' WHERE user_id = 2",
            "UPDATE profiles SET email = NULL WHERE user_id = 2",
            "UPDATE users SET age = '18' WHERE id = 2",
            "UPDATE users SET age = 'unknown' WHERE id = 3",
            "INSERT INTO profiles VALUES (3)",
            "UPDATE users SET age = '41' WHERE id = 3",
        ],
        "SELECT (SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
            string_agg(user_id || ':' || coalesce(email, '-'), ' ' ORDER BY user_id) FROM profiles",
        "1:- 2:- 3:N3 / 1:- 2:- 3:N3",
    )
    .await;
    // In a merge the source's rows are new code's too.
    let merge = "ALTER TABLE profiles ADD COLUMN email text;
        UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id AND u.age = 'new'; DROP TABLE users;";
    plays(
        &setup.replace("email text", "email text NOT NULL"),
        merge,
        &[
            "UPDATE profiles SET email = 'Y' WHERE user_id = 2",
            "UPDATE profiles SET email = NULL WHERE user_id = 2",
            "INSERT INTO profiles VALUES (3)",
        ],
        "SELECT (SELECT string_agg(id || ':' || coalesce(email, '-'), ' ' ORDER BY id) FROM users) || ' / ' ||
            string_agg(user_id || ':' || coalesce(email, '-'), ' ' ORDER BY user_id) FROM profiles",
        "1:N1 3:N3 / 1:- 2:- 3:-",
    )
    .await;
}

/// In REPEATABLE READ a row may have been filled since the snapshot. Who empties its source has to repeat that, for nothing could
/// tell the two apart afterwards.
#[tokio::test]
async fn an_old_snapshot_does_not_empty_a_source_row_behind_the_backfill() {
    let setup = "CREATE TABLE users (id bigint PRIMARY KEY, email text, active bool NOT NULL DEFAULT true);
        CREATE TABLE profiles (user_id bigint PRIMARY KEY); INSERT INTO users VALUES (1, 'N1'); INSERT INTO profiles VALUES (1);";
    let file = "ALTER TABLE profiles ADD COLUMN email text;
        UPDATE profiles AS p SET email = u.email FROM users AS u WHERE u.id = p.user_id AND u.active;";
    let column = format!("{file} ALTER TABLE users DROP COLUMN email;");
    let table = format!("{} DROP TABLE users;", file.replace(" AND u.active", ""));
    for (file, statement) in [
        (&column, "UPDATE users SET email = NULL"),
        (&column, "UPDATE users SET active = false"),
        (&table, "DELETE FROM users"),
    ] {
        let project = Project::new(setup, &[("0001_move.sql", file)]).await;
        project.migrate(&["expand"]).await.expect(0);
        let mut old = project.database.connect().await;
        let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM profiles";
        run(&mut old, snapshot).await;
        project.migrate(&["backfill"]).await.expect(0);
        let refused = try_run(&mut old, statement).await.unwrap_err();
        assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "40001", "{file} {statement}");
        run(&mut old, "ROLLBACK").await;
        run(&mut old, &format!("{snapshot}; {statement}; COMMIT")).await;
        let email = project.database.text("SELECT coalesce(email, 'none') FROM profiles").await;
        assert_eq!(email, "none", "{file} {statement}");
        project.migrate(&["verify"]).await.expect(0);
    }
}
