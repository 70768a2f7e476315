"""Work that helpers of the tests do: functions of a module, since that is how helpers know them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from medscribe_pipeline.errors import MedscribeError, Rejected
from medscribe_pipeline.fhir import build as fhir_build
from medscribe_pipeline.fhir.build import build_batch
from medscribe_pipeline.fhir.documents import build_documents
from medscribe_pipeline.processes import START
from medscribe_pipeline.providers import build as notes_build
from medscribe_pipeline.providers.build import build_batch as map_batch
from medscribe_pipeline.warehouse.notes import too_long
from medscribe_pipeline.watching import telemetry

if TYPE_CHECKING:
    from datetime import datetime

    from medscribe_pipeline.fhir import BuildOptions
    from medscribe_pipeline.fhir.build import DocumentsReport
    from medscribe_pipeline.fhir.documents import FhirDocuments
    from medscribe_pipeline.notes import ScribeNote
    from medscribe_pipeline.processes import Batch
    from medscribe_pipeline.settings import Settings
    from medscribe_pipeline.warehouse.store import Warehouse

TRIPS_MAPPING, TRIPS_BUILDING, BREAKS_A_RULE = "7", "11", "14"
"""Source ids of what the code stumbles over."""

WORDS = "qxcanary: the patient's own words"


def is_helper() -> bool:
    # By the whole command: one who runs tests for another process was started with `-c`, too.
    return START in Path("/proc/self/cmdline").read_text(encoding="utf-8")


def tell(_warehouse: Warehouse, settings: Settings, batch: Batch, now: datetime) -> tuple[Any, ...]:
    """Who did what, when, and what anybody can see of that process; some of it is counted."""
    if is_helper():
        telemetry.add("medscribe.quarantined", 1, provider="askara", stage="map", code="no_date")
    ignores = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    command = Path(f"/proc/{os.getpid()}/cmdline").read_bytes().decode()
    return batch.keys, now, os.getpid(), settings.audioscribe.token, ignores, command


def refuse(_warehouse: Warehouse, _settings: Settings, batch: Batch, _now: datetime) -> int:
    """A helper fails as work does that we have foreseen, or not."""
    if is_helper():
        if batch.run_id == "foreseen":
            raise Rejected("It said no.", code="no", status=422, field_paths=["a.0.b"], context={"line": 3})
        raise KeyError(WORDS)
    return 0


def die(_warehouse: Warehouse, _settings: Settings, _batch: Batch, _now: datetime) -> int:
    """A helper ends as the system ends it when there is no memory left."""
    if is_helper():
        os.kill(os.getpid(), signal.SIGKILL)
    return 0


def interrupt(_warehouse: Warehouse, _settings: Settings, batch: Batch, _now: datetime) -> int:
    """Ctrl-C while helpers are at it; `run_id` is a folder where they say who they are."""
    folder = Path(str(batch.run_id))
    if is_helper():
        (folder / str(os.getpid())).touch()
        time.sleep(0.3)
        return 0
    for _ in range(600):
        if any(folder.iterdir()):
            raise KeyboardInterrupt
        time.sleep(0.05)
    raise TimeoutError


def wait_to_be_killed(_warehouse: Warehouse, _settings: Settings, batch: Batch, _now: datetime) -> int:
    """As `interrupt`, but nobody tells this process: it is killed."""
    if is_helper():
        (Path(str(batch.run_id)) / str(os.getpid())).touch()
        time.sleep(0.3)
    else:
        time.sleep(60)
    return 0


def map_and_trip(warehouse: Warehouse, settings: Settings, batch: Batch, now: datetime) -> int:
    """The real work, and the code stumbles over one record."""
    with patch.object(notes_build, "too_long", _trip_on_mapping):
        return map_batch(warehouse, settings, batch, now)


def build_and_trip(warehouse: Warehouse, settings: Settings, batch: Batch, now: datetime) -> DocumentsReport:
    """The same for documents; those of another note break a rule."""
    with patch.object(fhir_build, "build_documents", _trip_on_building):
        return build_batch(warehouse, settings, batch, now)


def _trip_on_mapping(note: ScribeNote) -> list[str]:
    if note.source_id == TRIPS_MAPPING:
        raise KeyError(WORDS)
    return too_long(note)


def _trip_on_building(note: ScribeNote, options: BuildOptions) -> FhirDocuments:
    if note.source_id == TRIPS_BUILDING:
        raise KeyError(WORDS)
    if note.source_id == BREAKS_A_RULE:
        raise MedscribeError("A rule is broken", code="fhir_rules", field_paths=("Composition.section:cmp-1",))
    return build_documents(note, options)
