"""What Dagster is told of a failure: our codes, and not a word of the exception itself."""

from __future__ import annotations

import traceback

import dagster as dg
import pytest

from medscribe_pipeline.errors import ConfigError, MedscribeError, Rejected, Retriable
from resources import failures_told

CANARY = "qxcanary: the patient's own words"


def told(error: BaseException) -> dg.Failure:
    with pytest.raises(dg.Failure) as caught, failures_told():
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (ConfigError("Set it.", code="no_ehr"), "no_ehr", 2),
        (Retriable("Down."), "unreachable", 3),
        (Rejected("No.", status=422), "rejected", 1),
        (MedscribeError("Well."), "error", 1),
    ],
)
def test_our_own_error_keeps_its_message_code_and_exit_code(error: MedscribeError, code: str, exit_code: int) -> None:
    failure = told(error)

    assert failure.description == str(error)
    assert {name: value.value for name, value in failure.metadata.items()} == {"code": code, "exit_code": exit_code}


@pytest.mark.parametrize(
    "error", [KeyError(CANARY), ValueError(CANARY), RuntimeError({"text": CANARY}), OSError(CANARY)]
)
def test_an_unexpected_exception_is_named_but_never_quoted(error: Exception) -> None:
    failure = told(error)

    assert (failure.description or "").startswith(f"Unexpected {type(error).__name__} in told, test_failures.py line ")
    assert {name: value.value for name, value in failure.metadata.items()} == {"code": "unexpected", "exit_code": 1}


def test_nothing_that_prints_a_failure_can_reach_the_exception_behind_it() -> None:
    original = KeyError(CANARY)
    original.add_note(CANARY)
    original.__cause__ = ValueError(CANARY)

    failure = told(original)

    assert failure.__cause__ is None
    assert failure.__context__ is None
    assert CANARY not in "".join(traceback.format_exception(failure))


def test_a_failure_told_is_final() -> None:
    assert told(Retriable("Down.")).allow_retries is False
    assert told(KeyError(CANARY)).allow_retries is False


def test_what_ends_a_run_from_outside_passes_untouched() -> None:
    with pytest.raises(dg.DagsterExecutionInterruptedError), failures_told():
        raise dg.DagsterExecutionInterruptedError
    with pytest.raises(KeyboardInterrupt), failures_told():
        raise KeyboardInterrupt


def test_a_block_without_failure_is_left_alone() -> None:
    with failures_told():
        reached = True
    assert reached
