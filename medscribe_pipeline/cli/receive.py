"""`medscribe receive`: the receiver in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.cli.output import console
from medscribe_pipeline.receiver import Receiver, serve
from medscribe_pipeline.warehouse.store import Warehouse

if TYPE_CHECKING:
    from pathlib import Path

    from medscribe_pipeline.settings import Settings

__all__ = ["run_receiver"]


def run_receiver(settings: Settings, *, ready_file: Path | None = None) -> None:
    """Receives callbacks and webhooks until Ctrl-C or SIGTERM, creating or migrating the warehouse first.

    Args:
        settings: The settings.
        ready_file: JSON with `pid` and `url`, written once it listens and removed at the end.

    Raises:
        ConfigError: The warehouse cannot be opened, no secret is set, or the port cannot be used.
    """

    def tell(receiver: Receiver) -> None:
        # Without the paths: they hold the secret.
        console.print(f"The receiver listens at {receiver.url}; Ctrl-C ends it.", highlight=False, soft_wrap=True)

    with Warehouse.open(settings) as warehouse:
        serve(Receiver(settings, warehouse), ready_file=ready_file, on_ready=tell)
