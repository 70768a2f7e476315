"""`python -m tests.fhir_server LEDGER`: serves until it is ended; the first line printed is the port."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.fhir_server.serving import serve

if __name__ == "__main__":
    serve(Path(sys.argv[1]))
