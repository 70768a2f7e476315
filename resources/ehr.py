"""The EHR's FHIR endpoint for assets."""

from collections.abc import Iterator
from contextlib import contextmanager

from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.http import BearerToken, HttpClient
from medscribe_pipeline.settings import Settings


@contextmanager
def open_fhir_client(settings: Settings) -> Iterator[FhirClient]:
    """A client for `MEDSCRIBE_EHR_BASE_URL`, closed at the end of the block."""
    ehr = settings.ehr
    if ehr.base_url is None:
        raise ConfigError("MEDSCRIBE_EHR_BASE_URL is not set", code="no_ehr")
    auth = BearerToken(ehr.token.get_secret_value()) if ehr.token else None
    with HttpClient("ehr", ehr.base_url, ehr, auth, credential_hint="MEDSCRIBE_EHR_TOKEN") as http:
        yield FhirClient(http, settings.fhir.release)
