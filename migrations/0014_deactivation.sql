-- When an account was deactivated of which orders and authorizations are still to be ended by the sweeper (nobody can use
-- them meanwhile: every statement asks for the account). NULL when all is done, and for accounts that a replica deactivated
-- which did not know this column: it ended everything itself.
ALTER TABLE accounts ADD COLUMN untidied_since BIGINT;
CREATE INDEX accounts_untidied ON accounts (untidied_since, id) WHERE untidied_since IS NOT NULL;
