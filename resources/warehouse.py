"""The warehouse as a Dagster resource."""

from datetime import UTC, datetime

import dagster as dg
from pydantic import PrivateAttr

from medscribe_pipeline.operation.backlog import tell_backlog
from medscribe_pipeline.settings import Settings
from medscribe_pipeline.warehouse.store import Warehouse
from medscribe_pipeline.watching import telemetry
from resources.failures import failures_told


class WarehouseResource(dg.ConfigurableResource):  # type: ignore[type-arg]  # generic only for Dagster's own use
    """Opens the warehouse of the settings once a run, migrated, and closes it after.

    It has no configuration of its own: settings are environment variables, so that no secret and no URL is stored
    with a run or shown in the UI.
    """

    _settings: Settings = PrivateAttr()
    _warehouse: Warehouse = PrivateAttr()

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002  # Dagster's signature
        """Reads the settings and opens the warehouse."""
        with failures_told():
            self._settings = Settings.load()
            self._warehouse = Warehouse.open(self._settings)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Tells whoever listens what waits after a run, and closes the warehouse."""
        try:
            if context.run is not None:
                with failures_told():
                    tell_backlog(self._warehouse, self._settings)
                # The process may end without a word, as those do that Dagster starts for runs.
                telemetry.flush()
        finally:
            self._warehouse.close()

    @property
    def settings(self) -> Settings:
        """The settings of this run."""
        return self._settings

    @property
    def warehouse(self) -> Warehouse:
        """The open warehouse."""
        return self._warehouse

    @staticmethod
    def now() -> datetime:
        """The current time, aware UTC."""
        return datetime.now(UTC)
