"""What an error says, and what it never says."""

from __future__ import annotations

import pickle
import re
from datetime import UTC, datetime

import pytest

from medscribe_pipeline import errors
from medscribe_pipeline.errors import (
    Busy,
    ConfigError,
    Deferred,
    MedscribeError,
    ProviderContractError,
    Rejected,
    Retriable,
    place_of,
)

UNTIL = datetime(2026, 3, 2, 9, 0, 0, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (MedscribeError("m"), "error", 1),
        (ConfigError("m"), "config", 2),
        (ProviderContractError("m"), "contract", 1),
        (Retriable("m"), "unreachable", 3),
        (Deferred("m", until=UNTIL), "deferred", 3),
        (Rejected("m"), "rejected", 1),
        (Busy("m"), "busy", 1),
    ],
)
def test_each_kind_has_its_code_and_exit_code(error: MedscribeError, code: str, exit_code: int) -> None:
    assert (error.code, error.exit_code) == (code, exit_code)
    assert isinstance(error, MedscribeError)


@pytest.mark.parametrize(
    "error",
    [
        Deferred("m", until=UNTIL, status=429),
        Rejected("m", code="no", field_paths=["a.0.b"], context={"line": 3}),
        *(
            getattr(errors, name)("m", code="c")
            for name in errors.__all__
            if name not in ("Deferred", "Rejected", "place_of")
        ),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_passes_from_one_process_to_another(error: MedscribeError) -> None:
    handed_on = pickle.loads(pickle.dumps(error))  # noqa: S301  # what this very line has made

    assert (type(handed_on), handed_on.args, vars(handed_on)) == (type(error), error.args, vars(error))
    assert str(handed_on) == str(error)


def test_every_public_error_is_one_of_ours() -> None:
    public = [getattr(errors, name) for name in errors.__all__]

    assert all(issubclass(each, MedscribeError) for each in public if isinstance(each, type))


def test_where_an_unforeseen_error_arose_is_told_without_its_words() -> None:
    nobody: dict[str, str] = {}
    try:
        nobody["Zzmark-Testpatient"]
    except KeyError as error:
        told = place_of(error)

    assert re.fullmatch(r"KeyError:test_errors\.py:\d+", told)


def test_the_text_holds_message_code_and_safe_facts() -> None:
    error = Rejected("It said no.", code="no", status=422, field_paths=["a.0.b", "c"], context={"line": 3})

    assert str(error) == "It said no. (code=no status=422 fields=a.0.b,c line=3)"
    assert error.message == "It said no."
    assert error.field_paths == ("a.0.b", "c")


def test_a_deferral_says_until_when() -> None:
    error = Deferred("Later.", until=UNTIL, status=429, context={"client": "askara"})

    assert error.until == UNTIL
    assert str(error) == "Later. (code=deferred status=429 client=askara until=2026-03-02T09:00:00+00:00)"
    assert isinstance(error, Retriable)


def test_context_is_a_copy() -> None:
    facts = {"n": 1}
    error = MedscribeError("m", context=facts)
    facts["n"] = 2

    assert error.context == {"n": 1}
