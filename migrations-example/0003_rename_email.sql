-- A rename that no version of the application notices.
-- Locks: as above. The original column survives under the new name, with everything that hangs on it.
-- Undo: as above.
ALTER TABLE customers RENAME COLUMN email TO email_address;
