"""What a person did with a note version, as it stands among its outcome codes.

A code tells the act, when, and by whom: `by_hand:discarded:20260302T180000Z:alice`. It stays until the server has
something to say of the version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

import sqlalchemy as sa

from medscribe_pipeline.ehr.ledger import GIVEN_UP_IN_DOUBT, State
from medscribe_pipeline.warehouse.tables import deliveries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from medscribe_pipeline.ehr.ledger import Key
    from medscribe_pipeline.ehr.listing import Standing

__all__ = ["Act", "HandAct", "discarded_in_doubt", "hand_act", "in_doubt", "sign"]

_MOST_ACTS = 10
_PREFIX = "by_hand"
_TIME = "%Y%m%dT%H%M%SZ"
_CODE = re.compile(rf"{_PREFIX}:([a-z_]{{1,40}}):([0-9]{{8}}T[0-9]{{6}}Z):([A-Za-z0-9._-]{{1,32}})")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")


class Act(StrEnum):
    """What a person did with a note version."""

    RETRIED = "retried"
    DISCARDED = "discarded"
    DISCARDED_IN_DOUBT = GIVEN_UP_IN_DOUBT
    RELEASED_ABSENT = "released_absent"
    RELEASED_THERE = "released_there"


@dataclass(frozen=True, slots=True)
class HandAct:
    """What an outcome code tells of an act."""

    act: str
    at: datetime
    who: str


def hand_act(code: str) -> HandAct | None:
    """What a code says of an act by hand; `None` for any other code.

    >>> hand_act("by_hand:retried:20260302T180000Z:alice")
    HandAct(act='retried', at=datetime.datetime(2026, 3, 2, 18, 0, tzinfo=datetime.timezone.utc), who='alice')
    """
    told = _CODE.fullmatch(code)
    if told is None:
        return None
    try:
        return HandAct(told[1], datetime.strptime(told[2], _TIME).replace(tzinfo=UTC), told[3])
    except ValueError:  # no such day
        return None


def in_doubt(standing: Standing) -> bool:
    """Whether a discarded version may be on the server: it was given up while nobody knew."""
    rows = [row.codes for row in standing.written]
    return standing.state is State.DISCARDED and discarded_in_doubt(rows)


def discarded_in_doubt(rows: Iterable[Sequence[str]]) -> bool:
    """Whether the last thing a person did was to give a version up while nobody knew whether it had arrived.

    Args:
        rows: The outcome codes of each of its rows.
    """
    acts = [[act.act for act in map(hand_act, codes) if act is not None] for codes in rows]
    return any(of_row and of_row[-1] == Act.DISCARDED_IN_DOUBT for of_row in acts)


def sign(
    connection: sa.Connection, key: Key, codes: Mapping[str, Sequence[str]], act: Act, *, who: str, at: datetime
) -> None:
    """Notes on a version what was done with it; what the server said of it stays.

    Args:
        connection: The transaction that does it.
        key: The version.
        codes: The outcome codes it has, by kind.
        act: What is done.
        who: Who does it; what cannot stand in a code is replaced.
        at: When, aware.
    """
    name = _NOT_IN_NAMES.sub("_", who)[:32] or "unknown"
    code = f"{_PREFIX}:{act}:{at.astimezone(UTC).strftime(_TIME)}:{name}"
    for kind, before in codes.items():
        said = [each for each in before if hand_act(each) is None]
        acts = [each for each in before if hand_act(each) is not None][1 - _MOST_ACTS :]
        connection.execute(
            sa.update(deliveries)
            .where(
                deliveries.c.target == key.target,
                deliveries.c.note_id == key.note_id,
                deliveries.c.version == key.version,
                deliveries.c.kind == kind,
            )
            .values(outcome_codes=[*said, *acts, code])
        )
