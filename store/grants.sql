-- What each role of deploy/postgresql/roles.sql may do in the tables. `byok db upgrade` applies it after
-- the migrations; where the roles do not exist it does nothing.

DO $$
DECLARE
    found record;
    columns text;
BEGIN
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN (
        'byok_owner', 'byok_worker', 'byok_scheduler', 'byok_publisher', 'byok_reader'
    )) < 5 OR NOT pg_has_role(current_user, 'byok_owner', 'USAGE') THEN
        RETURN;
    END IF;

    EXECUTE format('GRANT CONNECT ON DATABASE %I TO byok_worker, byok_publisher, byok_reader', current_database());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO byok_worker, byok_publisher, byok_reader', current_schema());
    -- To make the ledger's partitions.
    EXECUTE format('GRANT CREATE ON SCHEMA %I TO byok_scheduler', current_schema());

    FOR found IN
        SELECT c.relname AS name, c.relispartition AS partition, c.relname ~ '^ledger(_|$)' AS of_ledger
        FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    LOOP
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, byok_worker, byok_publisher, byok_reader', found.name);
        IF found.of_ledger AND found.name <> 'ledger_dropped' THEN
            EXECUTE format('ALTER TABLE %I OWNER TO byok_scheduler', found.name);
        END IF;
        -- Partitions are reached through the ledger alone.
        CONTINUE WHEN found.partition;

        IF found.name = 'alembic_version' THEN
            EXECUTE format('GRANT SELECT ON %I TO byok_worker, byok_publisher, byok_reader', found.name);
            CONTINUE;
        ELSIF found.name IN ('ledger', 'key_history', 'operator_log') THEN
            EXECUTE format('GRANT SELECT, INSERT ON %I TO byok_worker', found.name);
        ELSE
            EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO byok_worker', found.name);
        END IF;

        -- What is encrypted, wrapped, sealed or a digest is of no use to who only looks.
        SELECT string_agg(quote_ident(a.attname), ', ') INTO columns
        FROM pg_attribute a
        WHERE a.attrelid = found.name::regclass AND a.attnum > 0 AND NOT a.attisdropped
            AND a.atttypid <> 'bytea'::regtype
            AND (found.name, a.attname) NOT IN (('outbox', 'payload'), ('waiting_events', 'envelope'));
        EXECUTE format('GRANT SELECT (%s) ON %I TO byok_reader', columns, found.name);
        IF found.name IN (
            'accounts', 'key_slots', 'key_settings', 'provider_keys', 'analyses', 'processes', 'waiting_events'
        ) THEN
            EXECUTE format('GRANT SELECT (%s) ON %I TO byok_publisher', columns, found.name);
        END IF;
    END LOOP;
END
$$;
