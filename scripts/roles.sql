-- The roles of SalesPulse on PostgreSQL, made once for a cluster, by a superuser:
--
--   psql -f scripts/roles.sql
--
-- Then give those that log in their passwords, and the first one a database:
--
--   ALTER ROLE salespulse_owner PASSWORD '...';
--   ALTER ROLE salespulse PASSWORD '...';
--   ALTER ROLE salespulse_backup PASSWORD '...';
--   CREATE DATABASE salespulse OWNER salespulse_owner;

-- Owns the tables: for `salespulse migrate` and `salespulse retention`.
CREATE ROLE salespulse_owner LOGIN NOSUPERUSER NOBYPASSRLS;
-- What a server does, always for one tenant.
CREATE ROLE salespulse_app NOLOGIN NOSUPERUSER NOBYPASSRLS;
-- What a server looks for in all tenants: due work, positions.
CREATE ROLE salespulse_relay NOLOGIN NOSUPERUSER NOBYPASSRLS;
-- What a server logs in as. It has no rights but to be one of the two.
CREATE ROLE salespulse LOGIN NOSUPERUSER NOBYPASSRLS NOINHERIT;
GRANT salespulse_app, salespulse_relay TO salespulse;
-- What pg_dump logs in as: it reads all rows of all tenants, which the owner cannot, and writes nothing.
CREATE ROLE salespulse_backup LOGIN NOSUPERUSER BYPASSRLS;
GRANT pg_read_all_data TO salespulse_backup;
ALTER ROLE salespulse_backup SET default_transaction_read_only = on;
