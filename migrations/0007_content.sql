-- What a certificate says beside its names, key and times, as JSON, so that whoever signs it says the same (design I-4).
-- NULL: as its profile says when it is signed; so reserved by a replica that did not know this column.
ALTER TABLE certificates ADD COLUMN content TEXT;
