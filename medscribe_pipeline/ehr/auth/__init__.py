"""Who we are towards a FHIR server: nobody in particular, a token, a password, a certificate, or an OAuth client.

`open_http` gives the HTTP client of a target with all of that in place; nothing else of this room is needed outside.
"""

from __future__ import annotations

from medscribe_pipeline.ehr.auth.opening import open_http

__all__ = ["open_http"]
