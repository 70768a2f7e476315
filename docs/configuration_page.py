"""`docs/configuration.md`: every environment variable, read off the settings classes."""

from __future__ import annotations

import inspect
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import SecretStr

from docs.markdown import code, page, table
from medscribe_pipeline.fhir.elements import VERSION_SYSTEM, note_identifier
from medscribe_pipeline.notes import stable_id
from medscribe_pipeline.providers.wire import RPPS_SYSTEM
from medscribe_pipeline.settings import (
    AskaraSettings,
    AudioScribeSettings,
    EhrSettings,
    FhirSettings,
    HttpSettings,
    IntronSettings,
    JobSettings,
    NablaSettings,
    ProviderSettings,
    ReceiverSettings,
    Settings,
    WatchSettings,
)
from medscribe_pipeline.settings.base import PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic.fields import FieldInfo
    from pydantic_settings import BaseSettings

__all__ = ["EXAMPLE", "GROUPS", "Group", "Variable", "render"]


class Group(NamedTuple):
    """One table of the page: the fields a class declares itself, under `prefix`."""

    title: str
    settings: type[BaseSettings]
    prefix: str
    text: str


TITLES = {"askara": "Askara", "audioscribe": "AudioScribe", "nabla": "Nabla", "intron": "Intron"}

GROUPS = (
    Group("General", Settings, PREFIX, "What every command reads."),
    Group(
        "Askara",
        AskaraSettings,
        f"{PREFIX}ASKARA_",
        "Askara is part of the graph as soon as one credential is set: either the token, or the client id, client "
        "secret and refresh token together.",
    ),
    Group(
        "AudioScribe",
        AudioScribeSettings,
        f"{PREFIX}AUDIOSCRIBE_",
        "AudioScribe is part of the graph as soon as its token is set.",
    ),
    Group(
        "Nabla",
        NablaSettings,
        f"{PREFIX}NABLA_",
        "Nabla is part of the graph as soon as one credential is set: either the server key, or the OAuth client id "
        "and private key together. It works on the recordings the [visits manifest](visits.md) names.",
    ),
    Group(
        "Intron",
        IntronSettings,
        f"{PREFIX}INTRON_",
        "Intron Health is part of the graph as soon as its token is set. It works on the recordings the "
        "[visits manifest](visits.md) names.",
    ),
    Group(
        "FHIR",
        FhirSettings,
        f"{PREFIX}FHIR_",
        "How notes become FHIR resources. A change of any but the last builds the documents of every day again, from "
        "what has landed.",
    ),
    Group(
        "EHR",
        EhrSettings,
        f"{PREFIX}EHR_",
        "Deliveries are part of the graph as soon as the base URL is set. Without it, everything up to the FHIR "
        "documents is built and stays in the warehouse.",
    ),
    Group(
        "Receiver",
        ReceiverSettings,
        f"{PREFIX}RECEIVER_",
        "What `medscribe receive` reads. It starts only with a secret: `MEDSCRIBE_NABLA_WEBHOOK_SECRET` for signed "
        "events, `MEDSCRIBE_RECEIVER_PATH_SECRET` for the others, or both.",
    ),
    Group(
        "Watching",
        WatchSettings,
        PREFIX,
        "Log lines, traces and metrics, and when Dagster calls an asset stale: see "
        "[watching it](operations.md#watching-it).",
    ),
    Group(
        "Shared by the providers",
        ProviderSettings,
        f"{PREFIX}<PROVIDER>_",
        "Each provider has its own copy. Put `ASKARA`, `AUDIOSCRIBE`, `NABLA` or `INTRON` for `<PROVIDER>`: "
        "`MEDSCRIBE_ASKARA_MAX_PAGES`, `MEDSCRIBE_NABLA_PATIENT_SYSTEM`.",
    ),
    Group(
        "Shared by the providers that work on order",
        JobSettings,
        f"{PREFIX}<NABLA_OR_INTRON>_",
        "Nabla and Intron each have their own copy: `MEDSCRIBE_NABLA_POLL_FIRST_S`, `MEDSCRIBE_INTRON_POLL_FIRST_S`.",
    ),
    Group(
        "Shared by all servers",
        HttpSettings,
        f"{PREFIX}<SERVER>_",
        "How the HTTP client behaves, for each server on its own. Put `ASKARA`, `AUDIOSCRIBE`, `NABLA`, "
        "`INTRON` or `EHR` for `<SERVER>`: `MEDSCRIBE_ASKARA_TIMEOUT_S`, `MEDSCRIBE_EHR_TIMEOUT_S`. The defaults are "
        "polite; change them for a reason.",
    ),
)

EXAMPLE = """\
# One file for each account. Keep it out of version control, readable by its owner only (chmod 600).
MEDSCRIBE_HOME=/var/lib/medscribe
MEDSCRIBE_ACCOUNT=clinic-a
MEDSCRIBE_TIMEZONE=Europe/Paris
MEDSCRIBE_FIRST_DAY=2025-01-01
# Without this line the warehouse is a SQLite file under MEDSCRIBE_HOME.
MEDSCRIBE_WAREHOUSE_URL=postgresql+psycopg://medscribe:replace-me@db.example.org:5432/medscribe

# Askara with OAuth. With a fixed token set MEDSCRIBE_ASKARA_TOKEN instead of these three.
MEDSCRIBE_ASKARA_CLIENT_ID=replace-me
MEDSCRIBE_ASKARA_CLIENT_SECRET=replace-me
MEDSCRIBE_ASKARA_REFRESH_TOKEN=replace-me
MEDSCRIBE_ASKARA_PATIENT_SYSTEM=https://clinic-a.example.org/askara-patients

# AudioScribe. It has no patients: import a visits manifest.
MEDSCRIBE_AUDIOSCRIBE_TOKEN=replace-me
MEDSCRIBE_AUDIOSCRIBE_PATIENT_SYSTEM=https://clinic-a.example.org/mrn

# Nabla, with an OAuth client. With a static server key set MEDSCRIBE_NABLA_TOKEN instead of these two.
MEDSCRIBE_NABLA_REGION=eu
MEDSCRIBE_NABLA_CLIENT_ID=00000000-0000-4000-8000-000000000000
MEDSCRIBE_NABLA_PRIVATE_KEY_FILE=/etc/medscribe/nabla-private-key.pem
MEDSCRIBE_NABLA_WEBHOOK_SECRET=replace-me

# Intron Health. Local recordings are read from this folder only.
MEDSCRIBE_INTRON_TOKEN=replace-me
MEDSCRIBE_INTRON_AUDIO_FOLDER=/var/lib/medscribe/audio

# The receiver: the secret part of the paths of providers that sign nothing.
MEDSCRIBE_RECEIVER_PATH_SECRET=replace-me-by-40-random-letters

# The FHIR R4 endpoint.
MEDSCRIBE_EHR_BASE_URL=https://fhir.clinic-a.example.org/r4
MEDSCRIBE_EHR_TOKEN=replace-me
MEDSCRIBE_EHR_TARGET=clinic-a-ehr
"""
"""A complete `.env` with made-up values; a test loads it."""

_INTRODUCTION = """\
# Configuration

All settings are environment variables. A `.env` file in the current folder is read too; a variable of the
environment wins over the file, and an empty value counts as not set. A wrong or half-set value ends the command with
exit code 2 and a message that names the variable, never its value.

Variables marked **secret** are never printed, logged or stored with a run.
See [operations](operations.md) for running it, and for several accounts."""

_SYSTEMS = """\
## Identifier systems

A FHIR identifier is a value within a system. The systems below are the defaults for `MEDSCRIBE_ACCOUNT=default`.
The first {count} can be changed, and should be where the EHR knows the ids under another name: whom a document is about
is said by the identifier, and by nothing else. A [visits manifest](visits.md) can name a system row by row.

The others belong to the project. Most follow `MEDSCRIBE_FHIR_BASE_URI`.

Decide on all of them before the first delivery. Another system for patients, clinicians or encounters is a new version
of every note it appears in, and goes to the EHR as one. Another base changes the identifier by which the EHR finds a
note again."""


BY_NAME = {
    "url": "URL",
    "uri": "URI",
    "system": "URI",
    "day": "date",
    "file": "file",
    "folder": "folder",
    "home": "folder",
    "key": "32 bytes in Base64, **secret**",
}
"""What a text holds, by the last word of its setting's name."""


class Variable(NamedTuple):
    """One row: the variable, what it may hold, its default and its meaning."""

    name: str
    values: str
    default: str
    meaning: str


def render() -> str:
    """The page."""
    blocks = [_INTRODUCTION, "## Example for real accounts", f"```sh\n{EXAMPLE}```"]
    for group in GROUPS:
        blocks += [f"## {group.title}", group.text]
        blocks.append(table(("variable", "values", "default", "meaning"), map(_cells, variables(group))))
    blocks += [_SYSTEMS.format(count=len(_changeable())), _systems()]
    return page(*blocks)


def variables(group: Group) -> list[Variable]:
    """The variables of the fields the group's class declares itself, in the order of the class."""
    own = inspect.get_annotations(group.settings)
    return [
        Variable(f"{group.prefix}{name.upper()}", _values(name, field), _default(field), field.description or "")
        for name, field in group.settings.model_fields.items()
        if name in own and not field.exclude
    ]


def _cells(variable: Variable) -> Sequence[str]:
    return (code(variable.name), variable.values, variable.default, variable.meaning)


def _values(name: str, field: FieldInfo) -> str:
    kind = _plain(field.annotation)
    if kind is SecretStr:
        return "text, **secret**"
    if get_origin(kind) is Literal:
        return " or ".join(code(str(value)) for value in get_args(kind))
    if kind is bool:
        return "`true` or `false`"
    if get_origin(kind) is tuple:
        return "JSON list"
    if kind in (int, float):
        return _range("whole number" if kind is int else "number", field)
    return BY_NAME.get(name.rpartition("_")[2], "text")


def _plain(annotation: Any) -> Any:
    """The type without `| None`."""
    if get_origin(annotation) in (Union, UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def _range(kind: str, field: FieldInfo) -> str:
    words = {"gt": "over", "ge": "from", "lt": "below", "le": "up to"}
    limits = [
        f"{word} {_number(getattr(rule, name))}"
        for name, word in words.items()
        for rule in field.metadata
        if hasattr(rule, name)
    ]
    return " ".join((kind, *limits))


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "not set"
    value = field.default
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(_number(value) if isinstance(value, int | float) else str(value))


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _defaults() -> Settings:
    """The settings with all defaults. `model_construct`, because the constructors read the environment."""
    return Settings.model_construct(
        askara=AskaraSettings.model_construct(),
        audioscribe=AudioScribeSettings.model_construct(),
        nabla=NablaSettings.model_construct(),
        intron=IntronSettings.model_construct(),
        fhir=FhirSettings.model_construct(),
        ehr=EhrSettings.model_construct(),
        receiver=ReceiverSettings.model_construct(),
    )


def _changeable() -> list[tuple[str, str, str]]:
    settings = _defaults()
    words = {"patient": "patient ids", "practitioner": "clinician ids", "encounter": "encounter ids"}
    return [
        (
            f"{title} {what}",
            code(settings.identifier_system(provider, kind)),
            code(f"{PREFIX}{provider.upper()}_{kind.upper()}_SYSTEM"),
        )
        for provider, title in TITLES.items()
        for kind, what in words.items()
    ]


def _systems() -> str:
    base = _defaults().fhir.base_uri
    by_base = code(f"{PREFIX}FHIR_BASE_URI")
    notes = [
        (
            f"{title} notes, through all their versions",
            code(note_identifier(base, provider, "default", stable_id(provider, "default", "", "note"))["system"]),
            by_base,
        )
        for provider, title in TITLES.items()
    ]
    fixed = [
        ("the scribe itself, as author where no clinician is known", code(f"{base}/sid/device"), by_base),
        ("section keys (a CodeSystem)", code(f"{base}/CodeSystem/scribe-section"), by_base),
        ("one version of a note", code(VERSION_SYSTEM), "fixed by FHIR: the values are URIs"),
        ("French clinicians by RPPS number", code(RPPS_SYSTEM), "fixed by its owner"),
    ]
    return table(("what", "system", "changed by"), [*_changeable(), *notes, *fixed])
