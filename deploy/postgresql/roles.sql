-- The roles of a shared PostgreSQL, each with no more than it needs. Run once for each server, by a
-- superuser or a role with CREATEROLE; running it again changes nothing. Then give each role a password
-- (ALTER ROLE … PASSWORD), make the database, and let its owner bring the schema:
--
--   CREATE DATABASE byok OWNER byok_owner;
--   BYOK_DATABASE_URL=postgresql://byok_owner@…/byok byok db upgrade
--
-- What each may do in the tables is in store/grants.sql, which `byok db upgrade` applies each time.
--
--   byok_owner      migrations: owns the schema. No process that runs holds it.
--   byok_worker     workers: rows, but no tables; the ledger and the keys' history can only be added to.
--   byok_scheduler  schedulers: as workers, and the ledger's months.
--   byok_publisher  commands that publish and wait: plans, consents, verdicts and states; no secret, no ledger.
--   byok_reader     exporters, dashboards, support: every table, but no ciphertext and no wrapped key.

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY[
        'byok_owner', 'byok_worker', 'byok_scheduler', 'byok_publisher', 'byok_reader'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', name);
        END IF;
    END LOOP;
END
$$;

GRANT byok_worker TO byok_scheduler;
-- A migration may alter the ledger, which the scheduler owns.
GRANT byok_scheduler TO byok_owner;

ALTER ROLE byok_reader SET default_transaction_read_only = on;
ALTER ROLE byok_publisher SET default_transaction_read_only = on;
ALTER ROLE byok_reader SET statement_timeout = '30s';
