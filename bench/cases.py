"""Who is measured at what: the contestants of each case, what they run, and what they find when they begin."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.processes import measure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.places import Engine, Place

__all__ = ["DELAY_MS", "DELIVERED", "Case", "Contestant", "World", "fixed_cases", "sized_cases", "start_cases"]

DELIVERED = 2_000
"""Notes of the case that delivers one note a request, which is bound by the delay and not by the size."""
DELAY_MS = 25
"""How long the FHIR server takes for each answer."""
CONNECTIONS = 8
BATCH = 50
KINDS = 3
"""Documents of a note: Composition, DocumentReference, Provenance."""
CAPABILITIES = f'strategy = "batch"\nentries_per_bundle = {BATCH * KINDS}\n'

LAND, LOAD, WHOLE, AGAIN = "extract + land", "warehouse load", "all to FHIR", "nothing changed"
MAPPING, DELIVERY, BATCHES = "mapping alone", "delivery, 1 note a request", "all + delivery, 50 a request"
START, RANGE, INSTALL = "start-up", "100 days without data", "fresh install"
MEDSCRIBE, PLAIN, PEER = "medscribe", "bare script", "dlt"
STRICT, TWO, DAGSTER = ", strict", ", 2 processes", ", by Dagster"

BIN = Path(sys.executable).parent
OURS = (sys.executable, "-m", "bench.ours")
BARE = (sys.executable, "-m", "bench.bare")
DLT = (sys.executable, "-m", "bench.with_dlt")
ALL = ("sync", "notes", "fhir")
MIGRATE, VISITS = (*OURS, "migrate"), (*OURS, "visits")
CREATE = (*BARE, "create")

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class World:
    """Servers to ask.

    Attributes:
        notes: How many sessions the provider has.
        provider: URL of its server.
        fhir: URL of the FHIR server that takes `DELAY_MS`.
    """

    notes: int
    provider: str
    fhir: str


@dataclass(frozen=True, slots=True)
class Contestant:
    """One that takes part in a case.

    Attributes:
        name: Begins with who it is: medscribe, dlt or bare script.
        command: What is run; what it must know of a world and a place is added by `arguments`.
        begins_with: What is run before, outside the measurement.
        settings: Environment variables beside those all have.
        expects: Counts it must print, as multiples of the number of notes: whoever does less is not compared.
        peer: Case in which dlt does what this is compared with, if any.
        bare: Name of the bare script it is compared with, in the same case, if any.
    """

    name: str
    command: Command
    begins_with: tuple[Command, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    expects: Mapping[str, int] = field(default_factory=dict)
    peer: str | None = None
    bare: str | None = None

    def arguments(self, command: Command, world: World, place: Place) -> list[str]:
        """A command with what it must know of this world and place."""
        match command[:3]:
            case known if known == BARE:
                return [*command, "--provider", world.provider, "--fhir", world.fhir, "--database", place.url]
            case known if known == DLT:
                own = ["--database", place.url_for_dlt, "--state", f"{place.folder}/dlt"]
                return [*command, "--provider", world.provider, *own]
            case known if known == OURS:
                return [*command, "--notes", str(world.notes)]
        return list(command)

    def environment(self, world: World, place: Place) -> dict[str, str]:
        """The environment of a command: the one here, but with settings of the pipeline for this place only."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEDSCRIBE_", "DAGSTER_"))}
        known = {"{folder}": str(place.folder), "{fhir}": world.fhir}
        given = dict(self.settings)
        for mark, value in known.items():
            given = {name: text.replace(mark, value) for name, text in given.items()}
        return kept | {
            "MEDSCRIBE_HOME": f"{place.folder}/home",
            "MEDSCRIBE_WAREHOUSE_URL": place.url.replace("postgresql://", "postgresql+psycopg://"),
            "MEDSCRIBE_AUDIOSCRIBE_TOKEN": "bench",
            "MEDSCRIBE_AUDIOSCRIBE_BASE_URL": world.provider,
            "MEDSCRIBE_LOG_LEVEL": "warning",  # as the command has it
            "DAGSTER_HOME": f"{place.folder}/home/dagster",
            **given,
        }

    def prepare(self, world: World, place: Place) -> None:
        """Brings a new place to where this contestant begins."""
        (place.folder / "home" / "dagster").mkdir(parents=True)
        (place.folder / "capabilities.toml").write_text(CAPABILITIES, encoding="utf-8")
        for command in self.begins_with:
            measure(self.arguments(command, world, place), self.environment(world, place))


@dataclass(frozen=True, slots=True)
class Case:
    """Contestants that do the same work, on one database."""

    name: str
    engine: Engine
    contestants: tuple[Contestant, ...]


def sized_cases(engine: Engine) -> list[Case]:
    """The cases that are measured at every size, on one database."""
    cases = [_land(engine), _load(engine), _whole(engine), _again(engine)]
    return [*cases, _batches(engine) if engine == "postgres" else _mapping(engine)]


def fixed_cases() -> list[Case]:
    """The case measured with `DELIVERED` notes, whatever sizes are asked for."""
    ready = (MIGRATE, VISITS, (*OURS, *ALL))
    filled = (CREATE, (*BARE, "land", "notes", "fhir"))
    ours = Contestant(MEDSCRIBE, (*OURS, "deliver"), ready, _target(), {"delivered": 1}, bare=PLAIN)
    bare = Contestant(PLAIN, (*BARE, "deliver", "--notes-per-request", "1"), filled, expects={"posted": 1})
    return [Case(DELIVERY, "sqlite", (ours, bare))]


def start_cases(*, install: bool) -> list[Case]:
    """What it takes before any note is looked at.

    Args:
        install: Also a fresh install, which needs the network.
    """
    validate = (str(BIN / "dagster"), "definitions", "validate", "-m", "medscribe_pipeline.definitions")
    commands = {
        "medscribe --help": (str(BIN / "medscribe"), "--help"),
        "import of the definitions": (sys.executable, "-c", "import medscribe_pipeline.definitions"),
        "dagster definitions validate": validate,
    }
    started = tuple(Contestant(name, command) for name, command in commands.items())
    days = Contestant(MEDSCRIBE, (sys.executable, "-m", "bench.empty_days"), (MIGRATE,))
    cases = [Case(START, "sqlite", started), Case(RANGE, "sqlite", (days,))]
    if install:
        fresh = Contestant("pip, by requirements.lock", (sys.executable, "-m", "bench.fresh_install"))
        cases.append(Case(INSTALL, "sqlite", (fresh,)))
    return cases


def _land(engine: Engine) -> Case:
    return Case(
        LAND,
        engine,
        (
            Contestant(MEDSCRIBE, (*OURS, "sync"), (MIGRATE,), _processes(1), {"written": 1}, LAND, PLAIN),
            Contestant(PEER, (*DLT, "--flat"), expects={"sessions": 1}, bare=PLAIN),
            Contestant(PLAIN, (*BARE, "land"), (CREATE,), expects={"records": 1}, peer=LAND),
        ),
    )


def _load(engine: Engine) -> Case:
    done = {"written": 1, "notes": 1}
    return Case(
        LOAD,
        engine,
        (
            Contestant(MEDSCRIBE, (*OURS, "sync", "notes"), (MIGRATE,), _processes(1), done, LOAD, PLAIN),
            Contestant(PEER, DLT, expects={"sessions": 1}, bare=PLAIN),
            Contestant(PLAIN, (*BARE, "land", "notes"), (CREATE,), expects={"records": 1, "notes": 1}, peer=LOAD),
        ),
    )


def _whole(engine: Engine) -> Case:
    ours = [
        Contestant(
            f"{MEDSCRIBE}{way}", (*OURS, *ALL), (MIGRATE,), settings, {"written": 1, "built": 1}, LOAD, f"{PLAIN}{way}"
        )
        for way, settings in _ways().items()
    ]
    by_dagster = Contestant(
        f"{MEDSCRIBE}{DAGSTER}", (str(BIN / "medscribe"), "sync", "--json"), (MIGRATE,), _processes(1), peer=LOAD
    )
    two = ("--processes", "2")
    bare = [
        Contestant(
            f"{PLAIN}{check}{processes}",
            (*BARE, "land", "notes", "fhir", *(("--check", "strict") if check else ()), *many),
            (CREATE,),
            expects={"documents": KINDS},
            peer=LOAD,
        )
        for check, processes, many in (("", "", ()), ("", TWO, two), (STRICT, TWO, two))
    ]
    return Case(WHOLE, engine, (*ours, by_dagster, *bare))


def _again(engine: Engine) -> Case:
    loaded, filled = (MIGRATE, (*OURS, *ALL)), (CREATE, (*BARE, "land", "notes"))
    nothing = {"written": 0, "due_days": 0}
    return Case(
        AGAIN,
        engine,
        (
            Contestant(MEDSCRIBE, (*OURS, "sync", "days"), loaded, _processes(1), nothing, AGAIN, PLAIN),
            Contestant(PEER, DLT, (DLT,), expects={"sessions": 1}, bare=PLAIN),
            Contestant(PLAIN, (*BARE, "again"), filled, expects={"records": 0}, peer=AGAIN),
        ),
    )


def _mapping(engine: Engine) -> Case:
    found: list[Contestant] = []
    for check, settings in _checks().items():
        how = ("--check", "strict" if check else "shape")
        found += (
            Contestant(f"{MEDSCRIBE}{check}", (*OURS, "map"), (MIGRATE,), settings, {"built": 1}, bare=PLAIN + check),
            Contestant(f"{PLAIN}{check}", (*BARE, "map", *how), (CREATE,), expects={"documents": KINDS}),
        )
    return Case(MAPPING, engine, tuple(found))


def _batches(engine: Engine) -> Case:
    settings = _target() | {"MEDSCRIBE_EHR_CAPABILITIES": "{folder}/capabilities.toml"}
    bare = (*BARE, "land", "notes", "fhir", "post", "--notes-per-request", str(BATCH))
    return Case(
        BATCHES,
        engine,
        (
            Contestant(MEDSCRIBE, (*OURS, *ALL, "deliver"), (MIGRATE, VISITS), settings, {"delivered": 1}, bare=PLAIN),
            Contestant(PLAIN, bare, (CREATE,), expects={"posted": 1}),
        ),
    )


def _target() -> dict[str, str]:
    return {
        **_processes(1),
        "MEDSCRIBE_AUDIOSCRIBE_REVIEWED": "true",
        "MEDSCRIBE_EHR_BASE_URL": "{fhir}/fhir",
        "MEDSCRIBE_EHR_CONNECTIONS": str(CONNECTIONS),
    }


def _processes(number: int) -> dict[str, str]:
    return {"MEDSCRIBE_PROCESSES": str(number)}


def _checks() -> dict[str, dict[str, str]]:
    return {"": {"MEDSCRIBE_FHIR_CHECK": "shape"}, STRICT: {"MEDSCRIBE_FHIR_CHECK": "strict"}}


def _ways() -> dict[str, dict[str, str]]:
    """Our ways to do it: kind of check, number of processes."""
    shape, strict = _checks().values()
    return {"": shape | _processes(1), TWO: shape | _processes(2), STRICT + TWO: strict | _processes(2)}
