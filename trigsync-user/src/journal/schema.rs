//! The tables, and how older ones become these.

use rusqlite_migration::{M, Migrations};

/// Marks the file as ours, in SQLite's own header: `trig`.
pub(super) const APPLICATION: i32 = 0x7472_6967;

/// Every version, in order. What was released is never changed: a new version is a new step at the end.
pub(super) const MIGRATIONS: Migrations<'static> = Migrations::from_slice(STEPS);

const STEPS: &[M<'static>] = &[M::up(FIRST), M::up(AUDIT)];

/// Times are nanoseconds since 1970, stamps microseconds.
const FIRST: &str = "
-- How far capture was read: one row.
CREATE TABLE reached (
    only INTEGER PRIMARY KEY CHECK (only = 0),
    boot TEXT NOT NULL,          -- the boot that the rest belongs to
    clean INTEGER NOT NULL,      -- whether the daemon has stopped, and all is on the disk
    until INTEGER,               -- everything older was captured; none where nothing ever was
    uptime INTEGER NOT NULL,     -- of the machine at that time
    ring INTEGER,                -- the kernel's number of the ring, where it outlives the daemon
    read INTEGER,                -- what the ring was read to
    told INTEGER                 -- how often something was told that is not in the ring
);
CREATE TABLE lane (
    id INTEGER PRIMARY KEY,
    sync TEXT NOT NULL,
    target TEXT NOT NULL,
    source BLOB NOT NULL,
    meaning TEXT NOT NULL,       -- how it is configured
    incomplete INTEGER NOT NULL DEFAULT 0, -- whether there were more marks than could be kept
    held INTEGER NOT NULL DEFAULT 0, -- whether the operator wants nothing to be sent
    searching_since INTEGER,     -- what changed since then is being searched for, and is not all in the marks yet
    UNIQUE (sync, target)
);
-- What a lane has not sent. In the order of the paths' bytes, a subtree is one range.
CREATE TABLE mark (
    lane INTEGER NOT NULL,
    path BLOB NOT NULL,
    scope INTEGER NOT NULL,      -- 0 entry, 1 level, 2 tree
    since INTEGER NOT NULL,      -- a stamp; grows from one daemon to the next
    PRIMARY KEY (lane, path, scope)
) WITHOUT ROWID;
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    sync TEXT NOT NULL,
    target TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    arrived INTEGER NOT NULL,    -- marks
    failed INTEGER NOT NULL,     -- marks
    bytes INTEGER NOT NULL,      -- written to the other side
    processes INTEGER NOT NULL,
    trouble TEXT                 -- why it ended early
);
-- The paths of a batch, as far as they are kept.
CREATE TABLE sent (
    path BLOB NOT NULL,
    batch INTEGER NOT NULL,
    scope INTEGER NOT NULL,
    failure TEXT,
    PRIMARY KEY (path, batch, scope)
) WITHOUT ROWID;
CREATE INDEX sent_of_batch ON sent (batch);
";

/// How far the audit of a lane is.
const AUDIT: &str = "
ALTER TABLE lane ADD COLUMN audit_began INTEGER;
ALTER TABLE lane ADD COLUMN audit_after BLOB;
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_can_be_taken() {
        MIGRATIONS.validate().unwrap();
    }
}
