"""What Dagster is told when something fails: our codes, never an exception's own words.

Dagster stores exceptions with their traceback for ever, and a `KeyError` or a driver's error can quote a payload.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from medscribe_pipeline.errors import MedscribeError


@contextmanager
def failures_told() -> Iterator[None]:
    """Turns any exception of the block into a `dagster.Failure` that is safe to store.

    The failure's metadata holds `code` and `exit_code`; `medscribe sync` reads its exit code from there.
    """
    try:
        yield
    except MedscribeError as error:
        told = dg.Failure(
            description=str(error),
            metadata={"code": error.code, "exit_code": error.exit_code},
            allow_retries=False,
        )
    except dg.DagsterExecutionInterruptedError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the event log
        where = traceback.extract_tb(error.__traceback__)[-1]
        told = dg.Failure(
            description=f"Unexpected {type(error).__name__} in {where.name}, "
            f"{Path(where.filename).name} line {where.lineno}. Please report it.",
            metadata={"code": "unexpected", "exit_code": 1},
            allow_retries=False,
        )
    else:
        return
    # A `with` block handles the original while it leaves: without `from None`, and without forgetting it, Dagster would
    # store the original as the context of what we tell.
    try:
        raise told from None
    finally:
        told.__context__ = None
