r"""FHIR's primitive types in JSON: what a value has to look like, and which rule it breaks if it does not.

Each check takes one JSON value and returns `None` or a rule key: `json` for the wrong kind of JSON value, `ele-1` for
nothing at all, else the name of the type. The models of `fhir.resources` are more tolerant than JSON FHIR: they read
`"12"` as a number, `"yes"` as a boolean and `5` as a time.

Facts: FHIR R4 and R5 datatypes (https://hl7.org/fhir/R4/datatypes.html), which differ in `integer64` only.
"""

from __future__ import annotations

import binascii
import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[[Any], str | None]

__all__ = ["PRIMITIVES", "absolute", "decoded", "language", "mime_type", "one_of", "system", "text"]

_MAX_STRING = 1_048_576  # characters
_LONGEST_SYSTEM = 255  # of those that are remembered
_INT32 = 2**31
_INT64 = 2**63

# Tab, line feed and carriage return are the control characters FHIR allows; the others are not legal in XML either.
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

_DATE = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?"
_ZONE = r"(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)"
_UUID = r"urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_OID = r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+"

# No white space and nothing illegal; a code may have single spaces inside.
_WORD = r"[^\s\x00-\x1f\ud800-\udfff\ufffe\uffff]+"
_URI = re.compile(_WORD)
_ABSOLUTE = re.compile(rf"[A-Za-z][A-Za-z0-9+.\-]*:{_WORD}")
_URN = re.compile(rf"{_UUID}|{_OID}")
_MIME = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( *; *[A-Za-z0-9_-]+=(\"[^\"]*\"|[^\s;\"]+))*")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")


def text(value: Any, limit: int = _MAX_STRING) -> str | None:
    """`string` and `markdown`: something visible, nothing illegal, at most 1,048,576 characters."""
    if not isinstance(value, str):
        return "ele-1" if value is None else "json"
    if value[:1] > " " and value.isprintable() and len(value) <= limit:
        return None  # as nearly all are, and seen quickly: what begins with a visible character and can be printed
    if not value or value.isspace():
        return "ele-1"
    return "string" if len(value) > limit or _ILLEGAL.search(value) else None


def absolute(value: Any) -> str | None:
    """A `uri` that stands on its own."""
    if isinstance(value, str) and (
        _URN.fullmatch(value) if value[:4].lower() == "urn:" else _ABSOLUTE.fullmatch(value)
    ):
        return None
    return _uri(value) or (None if _ABSOLUTE.fullmatch(value) else "absolute-uri")


def system(value: Any) -> str | None:
    """`absolute`, of the system of a code or an identifier: there are few, so that what was found is remembered."""
    return _system(value) if isinstance(value, str) and len(value) <= _LONGEST_SYSTEM else absolute(value)


@lru_cache(maxsize=1024)
def _system(value: str) -> str | None:
    return absolute(value)


def one_of(codes: frozenset[str]) -> Check:
    """The check of a code with a required binding to `codes`."""

    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and value in codes else text(value) or "code"

    return check


def decoded(value: Any) -> bytes | None:
    """The bytes of a base64 value, `None` if it is not base64 to the letter."""
    try:
        return binascii.a2b_base64(value, strict_mode=True)
    except (binascii.Error, ValueError, TypeError):
        return None


def _matching(rule: str, pattern: str | re.Pattern[str]) -> Check:
    matches = re.compile(pattern).fullmatch

    def check(value: Any) -> str | None:
        if isinstance(value, str) and matches(value):
            return None
        return rule if isinstance(value, str) and value.strip() else text(value)

    return check


def _uri(value: Any) -> str | None:
    if not isinstance(value, str) or not value.strip():
        return text(value)
    if not _URI.fullmatch(value):
        return "uri"
    # A UUID or an OID has to be one, in the spelling FHIR asks for.
    special = value[:9].lower().startswith(("urn:uuid:", "urn:oid:"))
    return "uri" if special and not _URN.fullmatch(value) else None


def _base64(value: Any) -> str | None:
    if not isinstance(value, str) or not value:
        return text(value)
    return None if decoded(value) is not None else "base64"


def _boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "ele-1" if value is None else "json"


def _whole(rule: str, low: int, high: int) -> Check:
    def check(value: Any) -> str | None:
        if type(value) is not int:
            return "ele-1" if value is None else "json"
        return None if low <= value <= high else rule

    return check


def _integer64(value: Any) -> str | None:
    """R5 writes these as text: JSON readers lose digits beyond 2**53."""
    if not isinstance(value, str):
        return "ele-1" if value is None else "json"
    if not re.fullmatch(r"0|-?[1-9][0-9]{0,18}", value, re.ASCII):
        return text(value) or "integer64"
    return None if -_INT64 <= int(value) < _INT64 else "integer64"


def _decimal(value: Any) -> str | None:
    if type(value) not in {int, float}:
        return "ele-1" if value is None else "json"
    return None if math.isfinite(value) else "decimal"


def _xhtml(value: Any) -> str | None:
    # Text rules only; what is in it is a matter of the narrative as a whole.
    return None if isinstance(value, str) else "ele-1" if value is None else "json"


language = _matching("code", _LANGUAGE)
"""A BCP 47 tag, as far as its letters go."""

mime_type = _matching("code", _MIME)
"""A MIME type with parameters."""

PRIMITIVES: dict[str, Check] = {
    "base64Binary": _base64,
    "boolean": _boolean,
    "canonical": _uri,
    "code": _matching("code", rf"{_WORD}( {_WORD})*"),
    "date": _matching("date", rf"[0-9]{{4}}(-(0[1-9]|1[0-2]))?|{_DATE}"),
    "dateTime": _matching("dateTime", rf"[0-9]{{4}}(-(0[1-9]|1[0-2]))?|{_DATE}(T{_TIME}{_ZONE})?"),
    "decimal": _decimal,
    "id": _matching("id", r"[A-Za-z0-9\-.]{1,64}"),
    "instant": _matching("instant", rf"{_DATE}T{_TIME}{_ZONE}"),
    "integer": _whole("integer", -_INT32, _INT32 - 1),
    "integer64": _integer64,
    "markdown": text,
    "oid": _matching("oid", _OID),
    "positiveInt": _whole("positiveInt", 1, _INT32 - 1),
    "string": text,
    "time": _matching("time", _TIME),
    "unsignedInt": _whole("unsignedInt", 0, _INT32 - 1),
    "uri": _uri,
    "url": _uri,
    "uuid": _matching("uuid", _UUID),
    "xhtml": _xhtml,
}
"""The check of each primitive type, by its FHIR name."""
