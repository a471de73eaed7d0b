-- The roles of SalesPulse on PostgreSQL, to be created once per database cluster, by a superuser:
--
--   psql -f scripts/roles.sql
--
-- Then set the passwords of those that log in, and create a database for the first one:
--
--   ALTER ROLE salespulse_owner PASSWORD '...';
--   ALTER ROLE salespulse PASSWORD '...';
--   ALTER ROLE salespulse_backup PASSWORD '...';
--   CREATE DATABASE salespulse OWNER salespulse_owner;

-- Owns the tables; used by `salespulse migrate` and `salespulse retention`.
CREATE ROLE salespulse_owner LOGIN NOSUPERUSER NOBYPASSRLS;
-- For everything that a server does for one tenant at a time.
CREATE ROLE salespulse_app NOLOGIN NOSUPERUSER NOBYPASSRLS;
-- For what a server looks up across all tenants: due work, positions.
CREATE ROLE salespulse_relay NOLOGIN NOSUPERUSER NOBYPASSRLS;
-- What a server logs in as. It may only switch to one of the two roles above.
CREATE ROLE salespulse LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT;
GRANT salespulse_app, salespulse_relay TO salespulse;
-- What pg_dump logs in as: reads all rows of all tenants, which the owner cannot, and writes nothing.
CREATE ROLE salespulse_backup LOGIN NOSUPERUSER BYPASSRLS;
GRANT pg_read_all_data TO salespulse_backup;
ALTER ROLE salespulse_backup SET default_transaction_read_only = on;
