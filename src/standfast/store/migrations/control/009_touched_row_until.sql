-- What nobody waits for any more is removed whenever a plan begins to wait, without reading all other rows.
CREATE INDEX touched_row_until ON standfast.touched_row (until);
