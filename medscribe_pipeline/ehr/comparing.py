"""What a server holds, compared with what was sent: which version it is, and what the server dropped or changed.

Servers rewrite what they are given: they set ids and times, spell references in full, move attachments behind a URL,
tidy up narratives. None of that counts. An element that is gone, or says something else, does.

Only paths are told, never values, and only of elements we sent ourselves.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.client import carries
from medscribe_pipeline.fhir import VERSION_SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from medscribe_pipeline.ehr.client import FhirClient
    from medscribe_pipeline.ehr.ledger import Copy

    Resource = dict[str, Any]

__all__ = [
    "differences",
    "identifiers",
    "is_newer",
    "is_told_apart",
    "note_identifier_of",
    "read_back",
    "same_version",
    "version_of",
]

_SERVERS_OWN = frozenset({"id", "meta.versionId", "meta.lastUpdated", "meta.source", "text"})
# Ours, but not as it was built: an update in place leaves it out, a document that replaces another names it anew.
_NOT_AS_BUILT = frozenset({"relatesTo"})
# Beside the words: by these, two versions of a document can be told apart.
_TELLING = ("status", "docStatus", "date", "title", "type", "subject", "encounter", "author", "attester")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT.*")
_TAG = re.compile(r"<[^>]*>")
_LITERAL = re.compile(r"(?:^|/)([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?$")


def read_back(client: FhirClient, resources: Mapping[str, Resource], copies: Mapping[str, Copy]) -> list[str]:
    """Reads what a server holds of a delivered version, and tells what of it is not as it was sent.

    Args:
        client: The server.
        resources: What was sent, by kind.
        copies: The server's copies, by kind; kinds without one are not looked at.

    Returns:
        Paths such as `DocumentReference.content.0.attachment.hash`; just the kind where the server no longer has it.

    Raises:
        Refused, Retriable, ConfigError, ProviderContractError: As `FhirClient.read`.
    """
    changed: list[str] = []
    for kind, sent in resources.items():
        copy = copies.get(kind)
        if copy is None or copy.server_id is None:
            continue
        found = client.read(sent["resourceType"], copy.server_id)
        changed += [kind] if found is None else differences(kind, sent, found.resource)
    return changed


def differences(kind: str, sent: Resource, stored: Resource) -> list[str]:
    """Paths of what `stored` lacks of `sent`, or says differently; what it has beyond that does not matter."""
    return list(_missing(sent, stored, kind, ""))


def same_version(sent: Resource, stored: Resource) -> bool | None:
    """Whether a stored document is this very version; `None` where nothing tells.

    By the identifier of the version, where it has one. A Composition has none; and there are targets that take no
    identifier. Then by what a clinician reads: the words, whose they are, whether they are signed. An element that the
    server does not keep says nothing either way.
    """
    version = version_of(sent)
    if version is not None:
        return carries(stored, *version)
    if is_told_apart(sent, stored):
        return False
    if "content" in sent:
        return _same_content(sent["content"], stored.get("content"))
    if "section" in sent and "section" not in stored:
        return None
    return _section_words(sent) == _section_words(stored)


def is_told_apart(sent: Resource, stored: Resource) -> bool:
    """Whether something beside its words says that a stored document is of another version."""
    told = {name: sent[name] for name in _TELLING if name in sent and name in stored}
    return any(_missing(told, stored, "", ""))


def is_newer(stored: Resource, ours: Resource) -> bool:
    """Whether a stored document is surely of a later time than ours: by `date`, the time a note was last changed."""
    theirs, own = _instant(stored.get("date")), _instant(ours.get("date"))
    return theirs is not None and own is not None and theirs > own


def version_of(resource: Resource) -> tuple[str, str] | None:
    """The identifier of this version of a document, where it has one."""
    return next((each for each in identifiers(resource) if each[0] == VERSION_SYSTEM), None)


def note_identifier_of(resource: Resource) -> tuple[str, str] | None:
    """The identifier a document has through all its versions, where it has one."""
    return next((each for each in identifiers(resource) if each[0] != VERSION_SYSTEM), None)


def identifiers(resource: Resource) -> list[tuple[str, str]]:
    """Its business identifiers, as system and value; those of R4 and of R5 alike."""
    listed = resource.get("identifier")
    each_one = [resource.get("masterIdentifier"), *(listed if isinstance(listed, list) else [listed])]
    return [
        (each["system"], each["value"])
        for each in each_one
        if isinstance(each, dict) and "system" in each and "value" in each
    ]


def _missing(sent: Any, stored: Any, path: str, name: str) -> Iterator[str]:
    if isinstance(sent, dict):
        if not isinstance(stored, dict):
            yield path
        elif "resourceType" not in sent and ("reference" in sent or {"identifier", "type"} <= sent.keys()):
            if not _same_reference(sent, stored):
                yield path
        else:
            yield from _missing_members(sent, stored, path)
    elif isinstance(sent, list):
        theirs = stored if isinstance(stored, list) else [stored] if stored is not None else []
        yield from _missing_items(sent, theirs, path, name)
    elif not _same_scalar(name, sent, stored):
        yield path


def _missing_members(sent: Resource, stored: Resource, path: str) -> Iterator[str]:
    elsewhere = "url" in stored and "data" not in stored
    for name, value in sent.items():
        below = f"{path}.{name}"
        if below.partition(".")[2] in _SERVERS_OWN | _NOT_AS_BUILT or (name == "data" and elsewhere):
            continue
        if name not in stored:
            yield below
        else:
            yield from _missing(value, stored[name], below, name)


def _missing_items(sent: list[Any], stored: list[Any], path: str, name: str) -> Iterator[str]:
    """Each of ours must be somewhere; one that is nowhere whole is compared with the one in its place."""
    unused = list(range(len(stored)))
    for index, item in enumerate(sent):
        candidates = sorted(unused, key=lambda at: at != index)
        match = next((at for at in candidates if not any(_missing(item, stored[at], path, name))), None)
        if match is not None:
            unused.remove(match)
        elif index < len(stored):
            yield from _missing(item, stored[index], f"{path}.{index}", name)
        else:
            yield f"{path}.{index}"


def _same_scalar(name: str, sent: Any, stored: Any) -> bool:
    if type(sent) is type(stored) and sent == stored:
        return True
    if name == "size":
        return str(sent) == str(stored)  # a number in R4, text in R5
    if not isinstance(sent, str) or not isinstance(stored, str):
        return False
    spelling = _SPELLINGS.get(name)
    if spelling is not None:
        return spelling(sent) == spelling(stored)
    ours = _instant(sent)
    return ours is not None and ours == _instant(stored)


def _same_reference(sent: Resource, stored: Resource) -> bool:
    """The same thing named in another way is the same: in full, by its id, by its identifier."""
    ours, theirs = _literal(sent), _literal(stored)
    if ours is not None and theirs is not None:
        return ours == theirs
    if "reference" in stored:
        return True  # an entry of the same bundle, or an identifier the server resolved
    wanted, held = sent.get("identifier"), stored.get("identifier")
    if not isinstance(wanted, dict) or not isinstance(held, dict):
        return False
    return (wanted.get("system"), wanted.get("value")) == (held.get("system"), held.get("value"))


def _literal(reference: Resource) -> str | None:
    found = _LITERAL.search(str(reference.get("reference", "")))
    return found[1] if found else None


def _same_content(sent: list[Resource], stored: Any) -> bool | None:
    """Whether our first attachment is among the stored ones; a server may keep no more of them."""
    wanted = _digest(sent[0].get("attachment"))
    listed = [each.get("attachment") for each in stored if isinstance(each, dict)] if isinstance(stored, list) else []
    held = [_digest(each) for each in listed]
    if wanted in held:
        return True
    return None if None in held or not held else False


def _digest(attachment: Any) -> str | None:
    """SHA-1 of an attachment's bytes, in base64 as FHIR has it; from the bytes where they are there."""
    if not isinstance(attachment, dict):
        return None
    data, said = attachment.get("data"), attachment.get("hash")
    if isinstance(data, str):
        try:
            raw = base64.b64decode(data)
        except (binascii.Error, ValueError):
            return None
        return base64.b64encode(hashlib.sha1(raw, usedforsecurity=False).digest()).decode()
    return said if isinstance(said, str) else None


def _section_words(node: Resource) -> list[str]:
    listed = node.get("section")
    found: list[str] = []
    for section in listed if isinstance(listed, list) else []:
        if isinstance(section, dict):
            text = section.get("text")
            div = text.get("div") if isinstance(text, dict) else ""
            found += [_words(str(section.get("title", ""))), _words(str(div or "")), *_section_words(section)]
    return found


def _words(markup: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", markup)).split())


def _without_space(text: str) -> str:
    return "".join(text.split())


def _instant(value: object) -> datetime | None:
    """A time of day with its zone; partial dates are compared as they are written."""
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


# Elements that may be spelled in several ways; times have a rule of their own.
_SPELLINGS: dict[str, Callable[[str], str]] = {
    "div": _words,
    "contentType": lambda text: _without_space(text).lower(),
    "data": _without_space,
    "hash": _without_space,
}
