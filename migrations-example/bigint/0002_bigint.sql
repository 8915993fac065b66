-- The key, the sequence behind it, and every foreign key that points at it.
-- Locks: a short ACCESS EXCLUSIVE transaction per table and phase; the data moves in batches; indexes are built concurrently.
-- Undo: `migrate abort 2` before contract, `migrate reopen 2` while sealed.
ALTER TABLE customers ALTER COLUMN id TYPE bigint;
