"""Notes that say what they are, and delivering them in every way there is to the FHIR server of the tests."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.auth import open_http
from medscribe_pipeline.ehr.client import FhirClient
from medscribe_pipeline.ehr.delivery import deliver_day
from medscribe_pipeline.errors import ConfigError, Deferred, Retriable
from medscribe_pipeline.fhir.build import build_day
from medscribe_pipeline.notes import Identifier, NoteSection, NoteState, ScribeNote, Visit, content_hash, stable_id
from medscribe_pipeline.settings import EhrSettings
from medscribe_pipeline.warehouse.notes import MappedNote, write_notes
from medscribe_pipeline.warehouse.store import Warehouse
from tests.fhir_server import Abilities
from tests.fhir_server.judge import words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from medscribe_pipeline.ehr.delivery import DeliveryReport
    from medscribe_pipeline.settings import Settings
    from tests.fhir_server import Endpoint

__all__ = ["DAY", "WAYS", "Way", "deliver", "ehr_settings", "settle", "target", "the_note", "write"]

DAY = date(2026, 3, 2)
_WRITTEN_AT = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
_ALL = ["Composition", "DocumentReference", "Provenance"]


@dataclass(frozen=True)
class Way:
    """A way of delivering, and a server it is right for.

    Attributes:
        abilities: What the server can do.
        capabilities: What its operator says it can do; the rest is as for any server.
        can_tell: It can be asked what it holds. Where not, what is in doubt waits for a person.
    """

    abilities: Abilities
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    can_tell: bool = True


_POSTS_ONLY = {"transaction": False, "batch": False, "conditional_create": False}

WAYS: Mapping[str, Way] = {
    "transaction": Way(Abilities(), {"strategy": "transaction", "kinds": _ALL}),
    "batch": Way(Abilities(transaction=False), {"strategy": "batch", "kinds": _ALL, "entries_per_bundle": 6}),
    "single": Way(Abilities(transaction=False, batch=False), {"strategy": "single", "kinds": _ALL}),
    "unconditional, search": Way(
        Abilities(**_POSTS_ONLY), {"strategy": "unconditional", "conditional_create": False, "kinds": _ALL}
    ),
    "unconditional, no search": Way(
        Abilities(**_POSTS_ONLY, search=False, read=False, update=False, if_match=False, etags=False),
        {
            "strategy": "unconditional",
            **dict.fromkeys(("conditional_create", "search", "read", "if_match"), False),
            "amendment": "hold",
            "retraction": "hold",
            "kinds": _ALL[:2],
        },
        can_tell=False,
    ),
}
"""Every strategy; the last two for servers that cannot tell a repeated request from a new one."""


def the_note(number: int, version: int = 1, *, withdrawn: bool = False) -> ScribeNote:
    """A validated synthetic note whose words name it; two notes to a patient."""
    source_id = f"n-{number}"
    state = NoteState.RETRACTED if withdrawn else NoteState.VALIDATED
    return ScribeNote(
        note_id=stable_id("askara", "default", source_id, "note"),
        provider="askara",
        account="default",
        stream="notes",
        source_id=source_id,
        state=state,
        version=content_hash([number, version, state]),
        sections=(NoteSection("HISTORY_OF_PRESENT_ILLNESS", "History", words(number, version)),),
        visit=Visit(patient=Identifier("urn:example:patients", f"synthetic-{number // 2}")),
        created_at=_WRITTEN_AT,
        updated_at=_WRITTEN_AT + timedelta(minutes=version),
    )


def write(warehouse: Warehouse, settings: Settings, notes: Iterable[ScribeNote], *, seq: int = 1) -> None:
    """Lands notes and builds their documents, as the stages before delivery do."""
    now = _WRITTEN_AT + timedelta(hours=1, minutes=seq)
    with warehouse.begin() as connection:
        write_notes(warehouse, connection, [MappedNote(each, DAY, seq) for each in notes], now)
    build_day(warehouse, settings, DAY, clock=lambda: now)


def ehr_settings(folder: Path, base_url: str, way: Way, **changes: Any) -> EhrSettings:
    """Settings of the target. Waits are short: nothing here is slow unless it is meant to be."""
    folder.mkdir(exist_ok=True)
    file = folder / f"capabilities-{content_hash(dict(way.capabilities))[:12]}.toml"
    # What TOML and JSON have in common is all that is needed.
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in way.capabilities.items()]
    file.write_text("".join(lines), encoding="utf-8")
    defaults = {"connections": 2, "max_attempts": 1, "backoff_s": 0, "timeout_s": 5, "reconcile_after_s": 0}
    return EhrSettings(**{"base_url": base_url, "capabilities": file, **defaults, **changes})


def target(folder: Path, at: Endpoint, way: Way, **changes: Any) -> EhrSettings:
    """Settings of a target that is slow and wants tokens.

    How long it may need is for `Endpoint.wait_until_done` to decide, whatever the machine is busy with.
    """
    login = {"client_id": "synthetic", "client_secret": "synthetic", "token_url": at.token_url}
    waits = {"timeout_s": 0.25, "reconcile_after_s": 600, "connections": 3}
    return ehr_settings(folder, at.base_url, way, **{**login, **waits, **changes})


def deliver(
    settings: Settings,
    ehr: EhrSettings,
    checkpoint: Callable[[str], None] = lambda _name: None,
    *,
    wait: Callable[[float], None] = time.sleep,
) -> DeliveryReport:
    """Delivers the day once, as a run does: connections of its own, the real time.

    Args:
        settings: Where the warehouse is.
        ehr: The target.
        checkpoint: As for `deliver_day`.
        wait: Instead of waiting until a slow server must be done, before it is asked what it has done.
    """
    with (
        Warehouse.open(settings, migrate=False) as warehouse,
        warehouse.worker() as worker,
        open_http(ehr, None, sleep=lambda _seconds: None) as http,
    ):
        return deliver_day(
            warehouse,
            FhirClient(http),
            ehr,
            DAY,
            run_id=None,
            clock=lambda: datetime.now(UTC),
            worker=worker,
            sleep=wait,
            checkpoint=checkpoint,
        )


def settle(
    settings: Settings,
    ehr: EhrSettings,
    checkpoint: Callable[[str], None] = lambda _name: None,
    *,
    runs: int = 100,
    wait: Callable[[float], None] = time.sleep,
) -> DeliveryReport:
    """Delivers again and again, as a schedule does, until a run goes through and leaves nothing it could do.

    Takes what `deliver` takes, and how many runs are enough.

    Raises:
        MedscribeError: Something that no further run would mend.
        TimeoutError: It is still not settled.
    """
    for _ in range(runs):
        try:
            report = deliver(settings, ehr, checkpoint, wait=wait)
        except (ConfigError, Deferred, Retriable) as error:
            # A page where a CapabilityStatement should be looks like a wrong URL, and two tokens that lapse in a row
            # like wrong credentials: a person may have to look, and the next run may go through all the same.
            if isinstance(error, ConfigError) and error.code not in ("fhir_endpoint", "credentials"):
                raise
            continue
        if set(report.unknown) <= {"cannot_be_asked"} and not (report.planned or report.in_flight):
            return report
        if report.in_flight:
            time.sleep(0.05)  # others are at it
    raise TimeoutError("the day does not settle")
