-- The roles of SalesPulse on PostgreSQL, made once for a cluster, by a superuser:
--
--   psql -f scripts/roles.sql
--
-- Then give the two that log in their passwords, and the first one a database:
--
--   ALTER ROLE salespulse_owner PASSWORD '...';
--   ALTER ROLE salespulse PASSWORD '...';
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
