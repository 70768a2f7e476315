"""Dagster resources: thin handles on the connector's own clients."""

from resources.ehr import open_fhir_client
from resources.failures import failures_told
from resources.warehouse import WarehouseResource

__all__ = ["WarehouseResource", "failures_told", "open_fhir_client"]
