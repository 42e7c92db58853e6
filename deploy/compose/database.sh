#!/bin/sh
# The roles' passwords and the database, when the server starts for the first time.
set -eu
psql --username=postgres --set=ON_ERROR_STOP=1 --quiet --file=/run/secrets/postgresql_passwords
psql --username=postgres --set=ON_ERROR_STOP=1 --quiet \
    --command='CREATE DATABASE byok OWNER byok_owner' \
    --command='REVOKE ALL ON DATABASE byok FROM PUBLIC'
