"""Whether everything arrived once is told from the EHR's own ledger."""

from __future__ import annotations

import pytest

from scale.counting import Arrived, compared

Ledger = list[tuple[str, str | None, str]]
Held = list[tuple[str, str, str]]

LEDGER: Ledger = [
    (kind, f"{kind}-{number}", "delivered") for kind in ("Composition", "DocumentReference") for number in (1, 2)
]
HELD: Held = [(kind, str(key), "1") for kind, key, _ in LEDGER]
KEYS = ["a", "b"]


def count(keys: list[str] = KEYS, ledger: Ledger = LEDGER, held: Held = HELD) -> Arrived:
    return compared(keys, 4, ledger, held, recorded=2)


def test_everything_once_is_exact() -> None:
    assert count() == Arrived(recorded=2, notes=2, documents=4, delivered=4, open=0, held=4, twice=0, missing=0)
    assert count().exact


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(count(keys=["a"]), id="a note that is not in the warehouse"),
        pytest.param(count(keys=["a", "a"]), id="a note that is in the warehouse twice"),
        pytest.param(count(held=HELD[1:]), id="a document the EHR has not"),
        pytest.param(count(held=[*HELD, ("Composition", "stray", "1")]), id="a document nobody knows of"),
        pytest.param(count(held=[*HELD[1:], (*HELD[0][:2], "2")]), id="a document that was sent again as an update"),
        pytest.param(count(ledger=[*LEDGER[1:], (*LEDGER[0][:2], "planned")]), id="a document not delivered"),
        pytest.param(count(ledger=[*LEDGER[1:], LEDGER[1]], held=HELD[1:]), id="two notes with one document"),
    ],
)
def test_nothing_else_is_exact(wrong: Arrived) -> None:
    assert not wrong.exact


def test_says_what_is_wrong() -> None:
    found = count(held=[*HELD[1:], ("Composition", "stray", "1")])

    assert (found.twice, found.missing) == (1, 1)
