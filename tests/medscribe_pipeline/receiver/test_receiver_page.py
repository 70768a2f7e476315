"""What `docs/receiver.md` says about the receiver is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from medscribe_pipeline.receiver.events import ASKARA_KINDS, CALLBACK, OTHER, SESSION
from medscribe_pipeline.receiver.metrics import Metrics

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "receiver.md").read_text(encoding="utf-8")


def source(*paths: str) -> str:
    return "\n".join((ROOT / "medscribe_pipeline" / path).read_text(encoding="utf-8") for path in paths)


def test_every_outcome_is_explained() -> None:
    code = source("receiver/app.py", "receiver/limits.py")
    outcomes = {"stored", "duplicate", *re.findall(r'TurnedAway\(HTTPStatus\.\w+, "(\w+)"', code)}

    assert len(outcomes) > 10
    assert {outcome for outcome in outcomes if f"`{outcome}`" not in PAGE} == set()


def test_every_code_of_an_event_is_explained() -> None:
    code = source("providers/inbox.py", "providers/inbox_hints.py")
    codes = set(re.findall(r'(?:_refuse\(row, |_later\(row, |NothingNamed\(|code=)"(\w+)"', code))

    assert codes >= {"unknown_job", "no_job", "not_a_note", "other_record", "internal"}
    assert {each for each in codes if f"`{each}`" not in PAGE} == set()


@pytest.mark.parametrize("kind", [*ASKARA_KINDS, CALLBACK, SESSION, OTHER])
def test_every_kind_is_explained(kind: str) -> None:
    assert re.search(rf"^\| .*`{kind}`.* \| ", PAGE, re.MULTILINE)


def test_every_metric_is_explained() -> None:
    families = set(re.findall(r"^# TYPE (\w+)", Metrics().render(held_bytes=0), re.MULTILINE))

    assert families == set(re.findall(r"^\| `(medscribe_\w+)`", PAGE, re.MULTILINE))
