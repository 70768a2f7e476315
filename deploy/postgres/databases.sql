-- Run once by the image, when the data volume is empty: two databases, each with an owner that sees only its own.
-- The passwords come from the secret files. psql never shows them; the server keeps hashes (SCRAM-SHA-256).
\set ON_ERROR_STOP on
\set dagster_password `cat /run/secrets/dagster_password`
\set warehouse_password `cat /run/secrets/warehouse_password`

CREATE ROLE dagster LOGIN PASSWORD :'dagster_password';
CREATE ROLE medscribe LOGIN PASSWORD :'warehouse_password';

CREATE DATABASE dagster OWNER dagster TEMPLATE template0 ENCODING 'UTF8';
CREATE DATABASE medscribe OWNER medscribe TEMPLATE template0 ENCODING 'UTF8';

REVOKE ALL ON DATABASE dagster FROM PUBLIC;
REVOKE ALL ON DATABASE medscribe FROM PUBLIC;
