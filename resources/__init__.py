"""Dagster resources: thin handles on the connector's own clients."""

from resources.failures import failures_told
from resources.warehouse import WarehouseResource

__all__ = ["WarehouseResource", "failures_told"]
