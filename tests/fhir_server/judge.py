"""The verdict on a delivery, from the server's ledger alone.

Notes are recognised by what they say, not by identifiers: the words of a test note name it and count its versions
(`note 12 says 3`), in the narrative or in an attachment. So a server that keeps no identifiers is judged as strictly.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from tests.fhir_server.ledger import Written

__all__ = ["Judgement", "Wanted", "judge", "words"]

_WORDS = re.compile(r"note (\d+) says (\d+)")
_LITERAL = re.compile(r"^[A-Z][A-Za-z]+/[A-Za-z0-9.-]+$")
_DOCUMENTS = ("Composition", "DocumentReference")


def words(note: int, version: int) -> str:
    """What version `version` of note `note` has to say."""
    return f"note {note} says {version}"


@dataclass(frozen=True)
class Wanted:
    """What is to be on the server of one note.

    Attributes:
        note: Its number.
        version: Its newest version.
        withdrawn: It is marked as entered in error.
        kinds: Resource types it is to be there as.
    """

    note: int
    version: int = 1
    withdrawn: bool = False
    kinds: tuple[str, ...] = _DOCUMENTS


@dataclass(frozen=True)
class Judgement:
    """What is wrong, each as short texts; nothing is, if all are empty.

    Attributes:
        missing: Wanted and not there in this version.
        twice: There more often than once.
        dangling: References to what is not there.
        stale: An older version was accepted over a newer one.
        again: The same was written over itself: harmless, and yet it was sent more often than it should.
    """

    missing: tuple[str, ...] = ()
    twice: tuple[str, ...] = ()
    dangling: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    again: tuple[str, ...] = ()

    @property
    def fine(self) -> bool:
        """Nothing is missing, twice, dangling or stale."""
        return not (self.missing or self.twice or self.dangling or self.stale)


def judge(written: Sequence[Written], wanted: Iterable[Wanted], *, versions_apart: bool = False) -> Judgement:
    """Reads the ledger of an endpoint.

    Args:
        written: The ledger.
        wanted: What has to be there.
        versions_apart: Each version of a DocumentReference is a resource of its own on this target.
    """
    expected = list(wanted)
    now = {(each.type, each.id): each.resource for each in written}
    standing: dict[tuple[str, int], list[tuple[int, str]]] = defaultdict(list)
    for (kind, _), resource in now.items():
        note, version = _said(resource)
        if kind in _DOCUMENTS and note is not None:
            standing[kind, note].append((version, resource.get("status", "")))
    return Judgement(
        missing=tuple(_missing(expected, standing)),
        twice=tuple(_twice(standing, versions_apart=versions_apart)),
        dangling=tuple(_dangling(now)),
        stale=tuple(_stale(written)),
        again=tuple(_again(written)),
    )


def _missing(expected: Iterable[Wanted], standing: dict[tuple[str, int], list[tuple[int, str]]]) -> Iterator[str]:
    for each in expected:
        for kind in each.kinds:
            there = [status for version, status in standing.get((kind, each.note), ()) if version == each.version]
            if not there:
                yield f"{kind} {words(each.note, each.version)}"
            elif each.withdrawn and kind == "DocumentReference" and there[0] != "entered-in-error":
                yield f"{kind} {words(each.note, each.version)}: not withdrawn"


def _twice(standing: dict[tuple[str, int], list[tuple[int, str]]], *, versions_apart: bool) -> Iterator[str]:
    for (kind, note), listed in standing.items():
        versions = [version for version, _ in listed]
        apart = versions_apart and kind == "DocumentReference"
        if len(versions) > (len(set(versions)) if apart else 1):
            yield f"{kind} note {note}: {sorted(versions)}"


def _dangling(now: Collection[tuple[str, str]] | dict[tuple[str, str], Any]) -> Iterator[str]:
    assert isinstance(now, dict)
    for (kind, server_id), resource in now.items():
        for reference in _references(resource):
            place = reference.partition("/_history/")[0]
            known = _LITERAL.fullmatch(place) and tuple(place.split("/")) in now
            if not known and not reference.startswith("#"):
                yield f"{kind}/{server_id} -> {reference}"


def _stale(written: Sequence[Written]) -> Iterator[str]:
    newest: dict[tuple[str, int], int] = {}
    for each in written:
        note, version = _said(each.resource)
        if note is None or each.type not in _DOCUMENTS or each.resource.get("status") == "superseded":
            continue
        if version < newest.get((each.type, note), version):
            yield f"{each.type} {words(note, version)} after {newest[each.type, note]}"
        newest[each.type, note] = max(version, newest.get((each.type, note), version))


def _again(written: Sequence[Written]) -> Iterator[str]:
    last: dict[tuple[str, str], dict[str, Any]] = {}
    for each in written:
        said = {name: part for name, part in each.resource.items() if name != "meta"}
        if last.get((each.type, each.id)) == said:
            yield f"{each.type}/{each.id}"
        last[each.type, each.id] = said


def _said(resource: dict[str, Any]) -> tuple[int | None, int]:
    for text in _texts(resource):
        found = _WORDS.search(text)
        if found:
            return int(found[1]), int(found[2])
    return None, 0


def _texts(node: Any, name: str = "") -> Iterator[str]:
    """All texts, attachments decoded."""
    if isinstance(node, dict):
        for key, part in node.items():
            yield from _texts(part, key)
    elif isinstance(node, list):
        for part in node:
            yield from _texts(part, name)
    elif isinstance(node, str):
        yield _decoded(node) if name == "data" else node


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return ""


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        reference = node.get("reference")
        if isinstance(reference, str):
            yield reference
        for part in node.values():
            yield from _references(part)
    elif isinstance(node, list):
        for part in node:
            yield from _references(part)
