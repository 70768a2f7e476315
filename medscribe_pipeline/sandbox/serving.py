"""Runs a sandbox in the foreground, for people and for other processes."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import orjson

from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from medscribe_pipeline.sandbox.server import Sandbox

__all__ = ["serve"]


def serve(
    sandbox: Sandbox,
    *,
    ready_file: Path | None = None,
    on_ready: Callable[[Sandbox], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Runs a sandbox in the foreground until Ctrl-C, SIGTERM or `stop`; returns normally then.

    Args:
        sandbox: Not started yet.
        ready_file: JSON with `pid`, `urls` and `environment`, written once the server listens and removed at the end.
        on_ready: Called once the server listens.
        stop: Set from elsewhere to end it. Needed when this is not the main thread, where signals do not arrive.

    Raises:
        ConfigError: As `Sandbox`, or the ready file cannot be written.
        Busy: As `Sandbox`.
    """
    ended = stop or threading.Event()
    with _signals(ended), sandbox:
        try:
            if ready_file is not None:
                _write_ready(sandbox, ready_file)
            if on_ready is not None:
                on_ready(sandbox)
            ended.wait()
        finally:
            if ready_file is not None:
                ready_file.unlink(missing_ok=True)


def _write_ready(sandbox: Sandbox, path: Path) -> None:
    content = {
        "pid": os.getpid(),
        "urls": {
            "askara": sandbox.askara_url,
            "audioscribe": sandbox.audioscribe_url,
            "nabla": sandbox.nabla_url,
            "intron": sandbox.intron_url,
            "fhir": sandbox.fhir_url,
            "control": sandbox.control_url,
        },
        "environment": sandbox.environment(),
    }
    # Whoever waits for the file must never read half of it.
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2))
        draft.replace(path)
    except OSError:
        raise ConfigError("The sandbox cannot write its ready file.", code="sandbox_ready_file") from None


@contextmanager
def _signals(ended: threading.Event) -> Iterator[None]:
    """Turns Ctrl-C and SIGTERM into an orderly end, where signals arrive at all (the main thread)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM)
    former = {number: signal.signal(number, lambda *_: ended.set()) for number in wanted}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
