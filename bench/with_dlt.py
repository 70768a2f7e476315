"""dlt's REST source loading the same pages: `python -m bench.with_dlt --provider URL --database URL --state FOLDER`.

Tuned as one would: merge on the id, the loader files its destination reads fastest (CSV for PostgreSQL, Parquet for
DuckDB), extracted files cut so that both normalising workers have something to do. dlt makes the child table of
sections by itself, from the list of sections in each session. Nothing leaves the machine: telemetry is off. It maps no
FHIR. Prints a JSON object of counts.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

__all__ = ["DATASET", "TABLE", "load"]

DATASET = "bench"
TABLE = "sessions"
WORKERS = 2
ITEMS_IN_A_FILE = 5_000


def load(provider: str, database: str, state: str, *, flat: bool) -> dict[str, Any]:
    """Loads all pages.

    Args:
        provider: URL of the provider's server.
        database: `postgresql://...`, or the name of a DuckDB file.
        state: Folder for dlt's own files; with those of an earlier run, this is a re-run.
        flat: Without sections, so that there is no child table.
    """
    os.environ |= {
        "DLT_DATA_DIR": state,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
        "NORMALIZE__WORKERS": str(WORKERS),
        "SOURCES__DATA_WRITER__FILE_MAX_ITEMS": str(ITEMS_IN_A_FILE),
    }
    # Now that the environment is what dlt is to see of it.
    import dlt  # noqa: PLC0415
    from dlt.sources.helpers.rest_client.paginators import PageNumberPaginator  # noqa: PLC0415
    from dlt.sources.rest_api import rest_api_source  # noqa: PLC0415

    on_postgres = database.startswith("postgresql://")
    destination = dlt.destinations.postgres(database) if on_postgres else dlt.destinations.duckdb(database)
    source = rest_api_source(
        {
            "client": {"base_url": provider, "paginator": PageNumberPaginator(base_page=0, total_path=None)},
            "resources": [
                {
                    "name": TABLE,
                    "primary_key": "id",
                    "write_disposition": "merge",
                    "endpoint": {
                        "path": "/api/v1/audioscribe/sessions/",
                        "params": {} if flat else {"sections": "list"},
                    },
                }
            ],
        }
    )
    pipeline = dlt.pipeline("bench", destination=destination, dataset_name=DATASET, pipelines_dir=f"{state}/pipelines")
    pipeline.run(source, loader_file_format="csv" if on_postgres else "parquet").raise_on_failed_jobs()
    with pipeline.sql_client() as client:
        rows = client.execute_sql(f"SELECT count(*) FROM {TABLE}")  # noqa: S608 - a name of ours
    return {TABLE: rows[0][0] if rows else 0}


def main() -> None:
    """Loads, and prints what became of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.with_dlt")
    parser.add_argument("--provider", required=True, help="URL of the provider's server")
    parser.add_argument("--database", required=True, help="postgresql://..., or a DuckDB file")
    parser.add_argument("--state", required=True, help="folder for dlt's own files")
    parser.add_argument("--flat", action="store_true", help="without the child table of sections")
    asked = parser.parse_args()
    sys.stdout.write(json.dumps(load(asked.provider, asked.database, asked.state, flat=asked.flat)) + "\n")


if __name__ == "__main__":
    main()
