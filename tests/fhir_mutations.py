"""Ways to spoil a resource at one place, for tests of what looks at resources.

Every place of a resource is a path; what may be done there depends on what stands there. Much of what comes out is
still right, which is meant: a check that refuses too much is as wrong as one that refuses too little.
"""

from __future__ import annotations

import base64
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.fhir_samples import CANARY, div

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["VALUES", "Path", "at", "changed", "changes", "paths"]

Json = dict[str, Any]
Path = tuple[str | int, ...]


class Word(str):
    """Text, but not to the letter: no JSON reader makes such a thing."""

    __slots__ = ()


_TEXTS = (
    *("", " ", "  ", "\n", "\u00a0", "\u2003\t", "x", " x", "a b", "a  b", "x ", "x\n", "\r\n\tx", "x\x00", "x\x0b"),
    *("x\x1b", "\x7f", "\x85", "\u2028", "\ud800", "x\udfff", "\ufffe", "x\uffff", "\ufeff", "\u202eabc"),
    *("👩🏽‍⚕️ é ﬁ 𝔛", "١٢٣", CANARY, "final", "current", "Patient", "en", "0", "-1", "1", "true", "null", "None"),
    *("#", "#x", "Patient/1", "x" * 64, "x" * 65, "é" * 1_500, " " * 1_500, "a.b-C.9", "a_b", "a,b"),
    *("urn:uuid:c9d49b14-a382-528d-99a4-2d3a885a2351", "urn:uuid:C9D49B14-a382-528d-99a4-2d3a885a2351"),
    *("urn:uuid:x", "urn:oid:1.2.250", "urn:oid:9.2", "urn:ietf:rfc:3986", "http://loinc.org", "http://x y"),
    *("x:y", "/x", "é:x"),
)
_TIMES = (
    *("2025", "2025-03", "2025-13", "2025-03-04", "2025-02-29", "2024-02-29", "2025-3-4", "20250304", "0000"),
    *("0001", "2025-03-04T09:00", "2025-03-04T09:00:00", "2025-03-04 09:00:00Z", "2025-03-04t09:00:00z"),
    *("2025-W10-2T09:00:00Z", "2025-02-30T09:00:00Z", "2025-02-29T09:00:00Z", "2024-02-29T09:00:00Z"),
    *("2025-04-31T00:00:00Z", "1" * 12, "2025-03-04T24:00:00Z", "2025-03-04T09:60:00Z", "2016-12-31T23:59:60Z"),
    *("2016-12-31T23:59:61Z", "1" * 4, "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+13:59"),
    *("9999-12-31T23:59:59-14:00", "1969-12-31T23:59:59.999999Z", "2025-03-04T09:00:00+14:00"),
    *("2025-03-04T09:00:00+14:01", "2025-03-04T09:00:00-00:00", "2025-03-04T09:00:00+0100"),
    *("2025-03-04T09:00:00+13:60", "2025-03-04T09:00:00+24:00", "2025-03-04T09:00:00+01"),
    *("2025-03-04T09:00:00+01:00:30", "2025-03-04T09:00:00.Z", "2025-03-04T09:00:00,5Z"),
    *("2025-03-04T09:00:00.1234567Z", "2025-03-04T09:00:00." + "1" * 30 + "Z", "٢٠٢٥-03-04T09:00:00Z"),
    *("2025-03-04T09:00:00Z\n", " 2025-03-04T09:00:00Z", "2025-03-04T09:00:00Z ", "T", "1900-01-01T00:00:00Z"),
    *("2999-01-01T00:00:00Z", "2025-00-04T09:00:00Z", "2025-03-00T09:00:00Z", "-2025-03-04T09:00:00Z"),
    *("2025-03-04T9:00:00Z",),
)
_DATA = (
    *("eHh4eA==", "eHh4eA", "eHh4eB==", "eHh4eA==\n", "eHh4 eA==", "=", "====", "e", "eHh4eA===", "eHh4eA==eHg="),
    *("eH-_", base64.b64encode(b"Synthetic words, again." * 400).decode()),
)
_IN_DIVS = (
    *("", " ", "<p/>", "<p></p>", "<p> </p>", "<p>\u00a0</p>", "x", "<p>x</p>", "<p>x</p>\n", "<p>x"),
    *("x</p>", "</div><div>x", "<p>&amp;</p>", "<p>&nbsp;</p>", "<p>&#60;</p>", "<p>&#0;</p>", "<p>&lt</p>"),
    *("<p>a & b</p>", "<p>a > b</p>", "<p>]]></p>", "<p>x<br/>y</p>", "<p><br/>x</p>", "<p>x<br></p>"),
    *("<p><br/></p>", "<p>x<br/ ></p>", "<P>x</P>", "<p >x</p >", "<p>x</p><p> </p>", "<ul><li>x</li></ul>"),
    *("<ul>\n<li>x</li>\n<li>y</li>\n</ul>", "<ul><li>x</li></ul></ul>", "<ul></ul>x", "<ul>x</ul>"),
    *("<li>x</li>", "<ul><li>x<ul><li>y</li></ul></li></ul>", "<p><p>x</p></p>", "<ul><p>x</p></ul>"),
    *("<p><b>x</b></p>", "<p><i>x</b></p>", "<script>x</script>", "<p>x</p><script/>", '<p class="x">y</p>'),
    *('<p onclick="x">y</p>', "<p>x</p><img/>", '<a href="x">y</a>', "<!-- x --><p>y</p>"),
    *("<p><![CDATA[x]]></p>", "<?x?><p>y</p>", "<p>\x00</p>", "<p>x\x0by</p>", "<p>\ud800</p>"),
    *("<p>\uffff</p>", "<p>x\x7f\x85\u2028y</p>", "<p>x\r\ny\tz</p>", "<p>👍</p>", '<p xmlns="urn:x">y</p>'),
    *("<x:p>y</x:p>", "<p>" + "x " * 3_000 + "</p>"),
)
_DIVS = (
    *map(div, _IN_DIVS),
    *("<div>x</div>", "<div", f" {div('<p>x</p>')}\n", f"{div('<p>x</p>')}x"),
    *(f'<?xml version="1.0"?>{div("<p>x</p>")}', div("x").upper()),
)
_OTHERS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 4, 2_336, 2**31, 2**63, 10**30, 1.0, 1.5, float("nan"), float("inf"), b"x"),
    *(Word("x"), (), [], [None], [[]], [""], ["x"], [{}], {}, {"a": 1}, {5: "x"}, {"id": "x"}, {"extension": []}),
    *({"resource_type": "x"}, {"reference": "#x"}, {"reference": "Patient/1"}, {"display": "x"}),
    *({"coding": [{"code": "x"}]}, {"text": "x"}, {"fhir_comments": "x"}),
    *({"extension": [{"url": "urn:x:y", "valueString": "x"}]}, {"start": "2025-03-05", "end": "2025-03-04"}),
    *({"system": "http://x", "value": ""},),
)

VALUES: tuple[Any, ...] = (*_OTHERS, *_TEXTS, *_TIMES, *_DATA, *_DIVS)
"""What may stand in a place, right or wrong for it."""

_ADDED: tuple[tuple[Any, Any], ...] = (
    *(("id", "x"), ("id", " "), ("extension", [{"url": "urn:x:y", "valueString": "x"}]), ("extension", [])),
    *(("unheard", "x"), ("contained", [{"resourceType": "Patient", "id": "x"}]), ("text", "x")),
    *(("_value", {"id": "x"}), ("_title", None), ("use", "usual"), (5, "x"), ("fhir_comments", "x")),
    *(("resource_type", "Patient"), ("resourceType", "Patient"), ("reference", "#x"), ("", "x")),
    *(("display", "x"), ("value", "x"), ("a,b", "x"), ("data", "eHg="), ("size", 2), ("url", "http://x")),
    *(("time", "2025-02-30T00:00:00Z"), ("onBehalfOf", {"display": "x"}), ("end", "0001-01-01T00:00:00Z")),
    *(("section", []), ("section", [{"title": "x"}]), ("mode", "x")),
)


_NAMES = ("display", "end", "hash", "language", "party", "recorded", "role", "status", "text", "title", "value", "what")


def paths(node: Any, path: Path = ()) -> Iterator[Path]:
    """Every place of a resource."""
    if path:
        yield path
    if isinstance(node, dict | list):
        for name, below in node.items() if isinstance(node, dict) else enumerate(node):
            yield from paths(below, (*path, name))


def at(node: Any, path: Path) -> Any:
    """What stands in a place."""
    for part in path:
        node = node[part]
    return node


def changes(value: Any) -> Iterator[Any]:
    """What may come in the place of a value: any of `VALUES`, and it itself with something done to it."""
    yield from _OTHERS if isinstance(value, dict | list) else VALUES
    yield [value]
    yield {"value": value}
    if isinstance(value, str):
        yield from (
            value + " ",
            " " + value,
            value + "\n",
            value.upper(),
            value[:-1],
            value + "x",
            value.encode(errors="surrogatepass"),
            Word(value),
        )
    if type(value) is int:
        yield str(value)
    if isinstance(value, str) and value.isdecimal():
        yield int(value)
    if isinstance(value, dict):
        for name in value:
            yield {key: below for key, below in value.items() if key != name}
            yield {f"{key}X" if key == name else key: below for key, below in value.items()}
            for other in (f"_{name}", *_NAMES):
                yield {other if key == name else key: below for key, below in value.items()}
        yield from ({**value, name: added} for name, added in _ADDED)
        yield dict(reversed(value.items()))
    if isinstance(value, list):
        yield from (
            [*value, *value],
            [*value, *value, None],
            [*value, {}],
            value[1:],
            value[::-1],
            tuple(value),
            [value],
        )


@contextmanager
def changed(resource: Json, path: Path, value: Any) -> Iterator[None]:
    """The resource has another value in that place for as long as this lasts."""
    holder = at(resource, path[:-1])
    before, holder[path[-1]] = holder[path[-1]], value
    try:
        yield
    finally:
        holder[path[-1]] = before
