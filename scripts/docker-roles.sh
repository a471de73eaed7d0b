#!/bin/sh
# For the PostgreSQL image: creates SalesPulse's roles and database when the volume is new.
set -eu
psql -v ON_ERROR_STOP=1 -v owner="$SALESPULSE_OWNER_PASSWORD" -v server="$SALESPULSE_PASSWORD" \
    --username "$POSTGRES_USER" --dbname postgres -f /roles.sql -f - <<'SQL'
ALTER ROLE salespulse_owner PASSWORD :'owner';
ALTER ROLE salespulse PASSWORD :'server';
CREATE DATABASE salespulse OWNER salespulse_owner;
SQL
