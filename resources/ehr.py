"""The FHIR servers we deliver to, for assets."""

from collections.abc import Iterator
from contextlib import contextmanager

from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.settings import EhrSettings, Settings
from medscribe_pipeline.warehouse.store import Warehouse


@contextmanager
def open_fhir_client(
    settings: Settings, target: EhrSettings, warehouse: Warehouse | None = None
) -> Iterator[FhirClient]:
    """A client for the base URL of a target, signed in, closed at the end of the block.

    With a warehouse, access tokens are shared between runs.
    """
    with open_http(target, warehouse) as http:
        yield FhirClient(http, settings.fhir.release)
