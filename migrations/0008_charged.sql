-- The buckets that a failed validation was taken from when the response was accepted: given back to them, or not at all, by
-- whoever records another outcome (design I-9). NULL: it was not taken, for example by a replica that did not know this column.
ALTER TABLE authorizations ADD COLUMN charged TEXT;
