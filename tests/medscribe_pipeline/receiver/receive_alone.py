"""Runs the command's receiver in a process of its own: `receive_alone.py HOME READY_FILE SECRET PATH_SECRET`."""

from __future__ import annotations

import sys
from pathlib import Path

from medscribe_pipeline.cli.receive import run_receiver
from medscribe_pipeline.settings import NablaSettings, ReceiverSettings, Settings


def main(home: str, ready_file: str, secret: str, path_secret: str) -> None:
    settings = Settings(
        home=Path(home),
        nabla=NablaSettings(webhook_secret=secret),
        receiver=ReceiverSettings(port=0, path_secret=path_secret, max_events_per_minute=100_000),
    )
    run_receiver(settings, ready_file=Path(ready_file))


if __name__ == "__main__":
    main(*sys.argv[1:])
