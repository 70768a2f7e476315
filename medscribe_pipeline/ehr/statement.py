"""What a CapabilityStatement surely says, read out of any JSON whatever.

Servers leave out, misspell and overstate. So everything is optional here, `None` means that nothing was said, and
what cannot be read was not said. Nothing is raised.

Facts: FHIR R4 CapabilityStatement (https://hl7.org/fhir/R4/capabilitystatement.html).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["STRATEGIES", "Claims", "TypeClaims", "read_statement", "release_of", "taken_away"]

STRATEGIES = ("transaction", "batch", "single", "unconditional")
"""From the one that asks most of a server to the one that asks nothing."""

_LONGEST = 80
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")

# R4 4.0.1, and R4B 4.3.0, which is the same for the resources we send.
_RELEASES: tuple[tuple[str, Literal["R4", "R5"]], ...] = (("4.0", "R4"), ("4.3", "R4"), ("5.0", "R5"))


@dataclass(frozen=True, slots=True)
class TypeClaims:
    """What is said of one resource type.

    Attributes:
        interactions: Codes such as `create`, `read`, `update`, `search-type`.
        conditional_create: Whether `If-None-Exist` is heeded.
        conditional_update: Whether an update by search is.
        versioning: `no-version`, `versioned` or `versioned-update`.
        search_params: Names of the search parameters.
        reference_policy: Forms of references: `literal`, `logical` and others.
    """

    interactions: frozenset[str] | None = None
    conditional_create: bool | None = None
    conditional_update: bool | None = None
    versioning: str | None = None
    search_params: frozenset[str] | None = None
    reference_policy: frozenset[str] | None = None

    def takes(self, interaction: str) -> bool | None:
        """Whether an interaction is offered; `None` when none are listed."""
        return None if self.interactions is None else interaction in self.interactions


@dataclass(frozen=True, slots=True)
class Claims:
    """What is said of the server as a whole.

    Attributes:
        fhir_version: Such as `4.0.1`.
        software: Name and version of the software, one line.
        system: Interactions at the base URL: `transaction`, `batch` and others.
        types: By resource type; empty when no types are listed, and then nothing follows from what is missing.
    """

    fhir_version: str | None = None
    software: str | None = None
    system: frozenset[str] | None = None
    types: Mapping[str, TypeClaims] = field(default_factory=dict)

    def takes(self, interaction: str) -> bool | None:
        """Whether the base URL offers an interaction; `None` when none are listed."""
        return None if self.system is None else interaction in self.system


def read_statement(statement: Any) -> Claims:
    """Reads a CapabilityStatement.

    >>> read_statement({"fhirVersion": "4.0.1", "rest": [{"interaction": [{"code": "batch"}]}]}).takes("transaction")
    False
    """
    if not isinstance(statement, dict):
        return Claims()
    rests = [rest for rest in _dicts(statement.get("rest")) if rest.get("mode", "server") == "server"]
    types: dict[str, TypeClaims] = {}
    for rest in rests:
        for resource in _dicts(rest.get("resource")):
            name = resource.get("type")
            if isinstance(name, str) and _TYPE.fullmatch(name):
                types.setdefault(name, _type_claims(resource))
    return Claims(
        fhir_version=_line(statement.get("fhirVersion")),
        software=_software(statement.get("software")),
        system=_codes(each for rest in rests for each in _dicts(rest.get("interaction"))),
        types=types,
    )


def release_of(fhir_version: str) -> Literal["R4", "R5"] | None:
    """The release a version belongs to, of those documents can be built in.

    >>> release_of("4.0.1"), release_of("5.0.0"), release_of("3.0.2")
    ('R4', 'R5', None)
    """
    return next((release for start, release in _RELEASES if fhir_version.startswith(start)), None)


def taken_away(values: Mapping[str, Any], claims: Claims, *, silence_denies: bool) -> dict[str, tuple[Any, str]]:
    """The values a statement changes, always to less, each with why.

    Args:
        values: Capabilities by field, as the profile of the server's kind has them. They must not contradict
            themselves, and then the result does not either.
        claims: What the statement says.
        silence_denies: Of a server nobody else vouches for, what a statement with resource types does not claim is
            taken away too.
    """
    strict = silence_denies and bool(claims.types)
    said: dict[str, tuple[Any, str]] = {}
    kinds = [kind for kind in values["kinds"] if not claims.types or _is_taken(kind, claims)]
    if not {"Composition", "DocumentReference"} & set(kinds):
        kinds = []  # Nothing is left that the others could be about.
    if kinds != list(values["kinds"]):
        said["kinds"] = (kinds, "the other types are not listed, or without create")
    listed = [claims.types[name] for name in sorted({_TYPE_OF[kind] for kind in kinds}) if name in claims.types]
    for name, denied, unsaid, why in _DENIALS:
        if values[name] and (any(map(denied, listed)) or (strict and any(map(unsaid, listed)))):
            said[name] = (False, why)
    now = {**values, **{name: value for name, (value, _) in said.items()}}
    if obstacle := _no_updates(now, listed):
        said |= {name: ("hold", obstacle) for name in ("amendment", "retraction") if values[name] == "update"}
    if values["references"] == "logical" and any(_literal_only(each) for each in listed):
        said["references"] = ("literal", "referencePolicy without logical")
    if claims.fhir_version and (release := release_of(claims.fhir_version)) and release != values["release"]:
        said["release"] = (release, "fhirVersion")
    strategy = _strategy(now, claims, strict=strict)
    if strategy != values["strategy"]:
        said["strategy"] = (strategy, "what is left of interactions and conditions")
    elif silence_denies and claims.takes(strategy):
        said["strategy"] = (strategy, f"interaction {strategy}")
    return said


_TYPE_OF = {
    "Composition": "Composition",
    "DocumentReference": "DocumentReference",
    "Provenance": "Provenance",
    "Transcript": "DocumentReference",
}

# Field, what denies it, what leaves it unsaid, and how that is told.
_DENIALS: tuple[tuple[str, Callable[[TypeClaims], bool], Callable[[TypeClaims], bool], str], ...] = (
    (
        "conditional_create",
        lambda said: said.conditional_create is False,
        lambda said: said.conditional_create is None,
        "conditionalCreate is not true",
    ),
    (
        "search",
        lambda said: (
            said.takes("search-type") is False
            or (said.search_params is not None and "identifier" not in said.search_params)
        ),
        lambda said: said.search_params is None,
        "no search by identifier",
    ),
    ("read", lambda said: said.takes("read") is False, lambda _: False, "no read"),
    (
        "if_match",
        lambda said: said.versioning == "no-version",
        lambda said: said.versioning is None,
        "no versioning",
    ),
)


def _is_taken(kind: str, claims: Claims) -> bool:
    """Whether a kind of document can be written; a Provenance is written under an id of ours, by update."""
    own = claims.types.get(_TYPE_OF[kind])
    return own is not None and own.takes("update" if kind == "Provenance" else "create") is not False


def _literal_only(said: TypeClaims) -> bool:
    return said.reference_policy is not None and "logical" not in said.reference_policy


def _no_updates(now: Mapping[str, Any], listed: Sequence[TypeClaims]) -> str | None:
    """Why what stands on the server cannot be replaced, or not without overwriting somebody; `None` when it can."""
    if any(each.takes("update") is False for each in listed):
        return "no update"
    return None if now["if_match"] or now["read"] else "neither If-Match nor read"


def _strategy(now: Mapping[str, Any], claims: Claims, *, strict: bool) -> str:
    """The strategy of the profile, or the next one below it that is still possible."""
    first = STRATEGIES.index(now["strategy"])
    for strategy in STRATEGIES[first:-1]:
        if strategy == "single":
            possible = bool(now["conditional_create"] or now["idempotency_header"])
        else:
            offered = claims.takes(strategy)
            possible = now["conditional_create"] and (not strict if offered is None else offered)
        if possible:
            return strategy
    return STRATEGIES[-1]


def _type_claims(resource: dict[str, Any]) -> TypeClaims:
    policies = resource.get("referencePolicy")
    listed = frozenset(each for each in policies if isinstance(each, str)) if isinstance(policies, list) else None
    return TypeClaims(
        interactions=_codes(_dicts(resource.get("interaction"))),
        conditional_create=_flag(resource.get("conditionalCreate")),
        conditional_update=_flag(resource.get("conditionalUpdate")),
        versioning=_line(resource.get("versioning")),
        search_params=_codes(_dicts(resource.get("searchParam")), name="name"),
        reference_policy=listed or None,
    )


def _codes(entries: Iterator[dict[str, Any]] | list[dict[str, Any]], name: str = "code") -> frozenset[str] | None:
    """The codes listed; `None` for none, which says nothing."""
    return frozenset(each[name] for each in entries if isinstance(each.get(name), str)) or None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _software(value: object) -> str | None:
    if not isinstance(value, dict):
        return None
    parts = (_line(value.get("name")), _line(value.get("version")))
    return " ".join(part for part in parts if part) or None


def _line(value: object) -> str | None:
    """Foreign text, fit to be shown: one line, printable, not long."""
    if not isinstance(value, str):
        return None
    shown = "".join(character if character.isprintable() else " " for character in value[: 4 * _LONGEST])
    return " ".join(shown.split())[:_LONGEST] or None


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
