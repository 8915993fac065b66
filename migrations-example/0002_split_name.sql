-- One column becomes two. Old code goes on writing `name`, new code writes the others; both see each other's rows.
-- Locks: two short ACCESS EXCLUSIVE transactions before and one after; the data moves in batches.
-- Undo: `migrate abort 2` before contract, `migrate reopen 2` while sealed.
ALTER TABLE customers ADD COLUMN first_name text, ADD COLUMN last_name text;

UPDATE customers SET first_name = split_part(name, ' ', 1),
                     last_name  = split_part(name, ' ', 2);

ALTER TABLE customers ALTER COLUMN first_name SET NOT NULL;

CREATE INDEX ON customers (last_name, first_name);

-- migrate: down name = concat_ws(' ', first_name, last_name)
ALTER TABLE customers DROP COLUMN name;
