"""What one FHIR server can do: the profile of its kind, what it says of itself, and what its operator knows better.

How notes are delivered is decided by these values and nowhere else. They come from three places, each over the one
before it:

1. the built-in profile of the server's kind (`targets.toml`), laid over the one called `generic`;
2. its CapabilityStatement, which only ever takes abilities away. Of a server of a known kind what it denies is taken
   away, of a `generic` one also what it does not claim;
3. the user's own TOML file (`MEDSCRIBE_EHR_CAPABILITIES`), which has the last word.

Values that contradict each other are refused.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medscribe_pipeline.ehr.statement import Claims, read_statement, release_of, taken_away
from medscribe_pipeline.ehr.targets_file import own_values, wrong_file
from medscribe_pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medscribe_pipeline.settings import EhrSettings

__all__ = [
    "Capabilities",
    "DocumentKind",
    "Explained",
    "Profile",
    "ProfileValue",
    "Sourced",
    "check_release",
    "explain",
    "load",
    "profiles",
    "sources",
]

DocumentKind = Literal["Composition", "DocumentReference", "Provenance", "Transcript"]

GENERIC = "generic"

_INDISPENSABLE = frozenset({"resourceType", "status", "subject", "content", "content.attachment"})

_Path = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)*$", max_length=100)]
_MediaType = Annotated[str, Field(pattern=r"^[a-z0-9.+-]+/[a-z0-9.+-]+$", max_length=100)]


class Capabilities(BaseModel):
    """What a target takes, and how.

    Attributes:
        strategy: How notes are sent: `transaction` (one a note), `batch` (several notes a request, each entry on its
            own), `single` (one conditional POST a resource), `unconditional` (one POST a resource to a server that
            cannot tell whether it has it: never sent twice).
        kinds: What it takes of a note, in the order it is sent.
        conditional_create: Whether `If-None-Exist` (or `ifNoneExist`) by identifier works.
        search: Whether a resource can be searched by its identifier.
        read: Whether what was written can be read by its id.
        if_match: Whether an update may be tied to the version we know.
        idempotency_header: Header that makes a repeated POST harmless, where there is one.
        entries_per_bundle: Most entries of a bundle.
        max_bundle_bytes: Largest bundle.
        max_attachment_bytes: Largest attachment, before base64.
        content_types: Attachment types it takes, without parameters, the preferred one first; empty for any.
        attachments: Whether it keeps all attachments of a DocumentReference or the first.
        plain_content_type: Whether content types are written without their charset.
        doc_status: Values of `docStatus` it takes.
        amendment: What happens with a later version: `update` in place, `new_document` that replaces the old one, or
            `hold` for a person.
        retraction: What happens with a note withdrawn at its source: `update` to entered-in-error, or `hold`.
        references: Whether patients, clinicians and encounters are named by identifier or by their id on the server.
        author: Whether a Practitioner as author may be there, must be, or must not.
        encounter: Whether an encounter must be named.
        period_end_required: Whether the visit must have an end.
        drop: Elements left out, as dotted paths below the resource.
        release: FHIR release.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    strategy: Literal["transaction", "batch", "single", "unconditional"] = "transaction"
    kinds: tuple[DocumentKind, ...] = Field(("Composition", "DocumentReference"), min_length=1)
    conditional_create: bool = True
    search: bool = True
    read: bool = True
    if_match: bool = True
    idempotency_header: str | None = Field(None, pattern=r"^[A-Za-z0-9-]{1,64}$")
    entries_per_bundle: int = Field(100, ge=2)
    max_bundle_bytes: int = Field(50_000_000, ge=1_000)
    max_attachment_bytes: int = Field(5_000_000, ge=1_000)
    content_types: tuple[_MediaType, ...] = ()
    attachments: Literal["all", "first"] = "all"
    plain_content_type: bool = False
    doc_status: tuple[Literal["preliminary", "final", "amended", "entered-in-error"], ...] = (
        "preliminary",
        "final",
        "amended",
        "entered-in-error",
    )
    amendment: Literal["update", "new_document", "hold"] = "update"
    retraction: Literal["update", "hold"] = "update"
    references: Literal["logical", "literal"] = "logical"
    author: Literal["optional", "required", "omit"] = "optional"
    encounter: Literal["optional", "required"] = "optional"
    period_end_required: bool = False
    drop: tuple[_Path, ...] = ()
    release: Literal["R4", "R5"] = "R4"

    @field_validator("idempotency_header", mode="before")
    @classmethod
    def _no_header(cls, value: object) -> object:
        """TOML has no null: an empty text says that there is none."""
        return None if value == "" else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for refused, why in (
            (
                self.strategy in ("transaction", "batch") and not self.conditional_create,
                f'strategy "{self.strategy}" needs conditional_create: use "unconditional" or an idempotency_header',
            ),
            (
                self.strategy == "single" and not (self.conditional_create or self.idempotency_header),
                'strategy "single" needs conditional_create or an idempotency_header: use "unconditional"',
            ),
            (
                self.strategy == "transaction" and self.entries_per_bundle < len(self.kinds),
                "entries_per_bundle must leave room for all kinds of one note",
            ),
            (len(set(self.kinds)) < len(self.kinds), "kinds names one twice"),
            (
                not {"Composition", "DocumentReference"} & set(self.kinds),
                "kinds must name a document, not only what is about it",
            ),
            (not self.doc_status, "doc_status must name at least one status"),
            (
                "update" in (self.amendment, self.retraction) and not (self.if_match or self.read),
                'amendment and retraction "update" need if_match or read, not to overwrite anybody: use "hold"',
            ),
            (
                "identifier" in self.drop and (self.conditional_create or self.search),
                "drop must not name identifier while conditional_create or search is true: they go by it",
            ),
            (bool(_INDISPENSABLE & set(self.drop)), "drop names an element no document can be without"),
        ):
            if refused:
                raise ValueError(why)
        return self


class ProfileValue(BaseModel):
    """One value of a built-in profile, and how we know.

    Attributes:
        value: As in `Capabilities`.
        source: Key of `sources`.
        sure: `documented` by the standard or the maker, `reported` by others, or `assumed`: the careful choice.
        note: What else is to be known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Any
    source: str
    sure: Literal["documented", "reported", "assumed"]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Profile:
    """A kind of server: its title, and its values by field, those of `generic` where it has none of its own."""

    title: str
    values: Mapping[str, ProfileValue]


@dataclass(frozen=True, slots=True)
class Sourced:
    """A value that is in force, and why.

    Attributes:
        value: The value.
        origin: Which of the three places it is from.
        why: The source, for a profile; what was said or left unsaid, for the CapabilityStatement; the file.
    """

    value: Any
    origin: Literal["profile", "statement", "override"]
    why: str


@dataclass(frozen=True, slots=True)
class Explained:
    """The capabilities in force, and where each is from, by field."""

    capabilities: Capabilities
    sources: Mapping[str, Sourced]


def load(
    settings: EhrSettings, statement: Mapping[str, Any] | None = None, *, release: Literal["R4", "R5"] = "R4"
) -> Capabilities:
    """What the target can do.

    Args:
        settings: Those of the target.
        statement: Its CapabilityStatement, where it shows one.
        release: The release our documents are built in (`MEDSCRIBE_FHIR_RELEASE`).

    Raises:
        ConfigError: Code `capabilities`: the user's file cannot be used. Code `no_documents`: by its own account the
            server takes none of our documents. Code `fhir_version`: it is of another release.
    """
    claims = read_statement(statement)
    check_release(claims, release)
    explained = explain(settings, statement)
    loaded = explained.capabilities
    by_hand = explained.sources["release"].origin == "override"
    told = claims.fhir_version is not None or settings.kind == GENERIC
    if loaded.release != release and told and not by_hand:
        # The profile of a kind says what its makers ship; what this server says of itself is nearer to the truth, and
        # of a server of no kind nobody has said anything.
        return loaded.model_copy(update={"release": release})
    if loaded.release != release:
        raise _other_release(loaded.release)
    return loaded


def explain(settings: EhrSettings, statement: Mapping[str, Any] | None = None) -> Explained:
    """As `load`, with the source of each value, and whatever the release.

    Raises:
        ConfigError: Codes `capabilities` and `no_documents`, as `load`.
    """
    profile = profiles()[settings.kind]
    found = {name: Sourced(each.value, "profile", _told(each)) for name, each in profile.values.items()}
    values = {name: each.value for name, each in found.items()}
    said = taken_away(values, read_statement(statement), silence_denies=settings.kind == GENERIC)
    found |= {name: Sourced(value, "statement", why) for name, (value, why) in said.items()}
    file = settings.capabilities
    own = own_values(file, set(Capabilities.model_fields), settings.variable("capabilities")) if file else {}
    found |= {name: Sourced(value, "override", file.name if file else "") for name, value in own.items()}
    if not found["kinds"].value and "kinds" not in own:
        raise ConfigError(
            "By its CapabilityStatement the server takes neither Composition nor DocumentReference; check the URL and "
            "what our account may do, or set kinds in the file of the setting named here",
            code="no_documents",
            context={"setting": settings.variable("capabilities")},
        )
    try:
        capabilities = Capabilities.model_validate({name: each.value for name, each in found.items()})
    except ValidationError as error:
        # Profiles and statements cannot contradict themselves: it is the file, or nobody.
        raise wrong_file(error, file.name if file else "", settings.variable("capabilities")) from None
    # As they were understood: lists are tuples, an empty header is none.
    return Explained(
        capabilities,
        {name: Sourced(getattr(capabilities, name), found[name].origin, found[name].why) for name in found},
    )


def check_release(claims: Claims, release: Literal["R4", "R5"]) -> None:
    """Refuses a server that says it is of another release than our documents.

    Raises:
        ConfigError: Code `fhir_version`.
    """
    version = claims.fhir_version
    if version is not None and (theirs := release_of(version)) != release:
        raise _other_release(theirs)


@cache
def profiles() -> Mapping[str, Profile]:
    """The built-in profiles by kind, each complete and checked."""
    tables: dict[str, dict[str, Any]] = _data()["targets"]
    generic = _values(tables[GENERIC])
    return {kind: Profile(table["title"], {**generic, **_values(table)}) for kind, table in tables.items()}


@cache
def sources() -> Mapping[str, str]:
    """What the sources of the profiles are, by key."""
    listed: dict[str, str] = _data()["sources"]
    return listed


def _data() -> dict[str, Any]:
    return tomllib.loads((resources.files("medscribe_pipeline.ehr") / "targets.toml").read_text(encoding="utf-8"))


def _values(table: Mapping[str, Any]) -> dict[str, ProfileValue]:
    return {name: ProfileValue.model_validate(value) for name, value in table.items() if name != "title"}


def _told(known: ProfileValue) -> str:
    note = f"; {known.note}" if known.note else ""
    return f"{known.sure}, {known.source}{note}"


def _other_release(theirs: str | None) -> ConfigError:
    return ConfigError(
        "The FHIR server is not of the release our documents are built in; set MEDSCRIBE_EHR_BASE_URL to another "
        "endpoint of it, or MEDSCRIBE_FHIR_RELEASE, or release in the file of capabilities",
        code="fhir_version",
        context={"server": theirs or "neither R4 nor R5"},
    )
