"""What mapping made of landed records, written back to them in few statements: it is the same for most."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.among import KEYS, among_keys
from medscribe_pipeline.warehouse.store import in_chunks
from medscribe_pipeline.warehouse.tables import source_records
from medscribe_pipeline.warehouse.writing import native_name

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["write_outcomes"]

_OF = source_records.c
_SHARED = ("provider", "stream", "outcome", "outcome_code", "mapped_with")


def write_outcomes(connection: sa.Connection, account: str, outcomes: Sequence[dict[str, Any]]) -> None:
    """Writes what became of records.

    Args:
        connection: The transaction that has read these records and, where the database can, locked them: their
            change_seq is `mapped_seq` still.
        account: The account.
        outcomes: For each record its `provider`, `stream` and `source_id`, and the columns to be set: `outcome`,
            `outcome_code`, `mapped_seq`, `mapped_with`.
    """
    native = native_name(connection)
    if native is None:
        for each in outcomes:
            # It may have no locks: what was not read here must not count as mapped.
            _settle(connection, native, account, each, [each["source_id"]], each["mapped_seq"])
        return
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in outcomes:
        alike.setdefault(tuple(each[name] for name in _SHARED), []).append(each)
    for group in alike.values():
        for chunk in in_chunks(group):
            _settle(connection, native, account, group[0], [each["source_id"] for each in chunk], None)


def _settle(
    connection: sa.Connection,
    native: str | None,
    account: str,
    shared: dict[str, Any],
    source_ids: list[str],
    mapped_seq: int | None,
) -> None:
    given = {f"b_{name}": shared[name] for name in _SHARED}
    connection.execute(_settlement(native), {**given, "b_account": account, "b_seq": mapped_seq, KEYS: source_ids})


@functools.cache
def _settlement(native: str | None) -> sa.Update:
    return (
        sa.update(source_records)
        .where(
            _OF.account == sa.bindparam("b_account"),
            _OF.provider == sa.bindparam("b_provider"),
            _OF.stream == sa.bindparam("b_stream"),
            among_keys(native, _OF.source_id),
        )
        .values(
            outcome=sa.bindparam("b_outcome"),
            outcome_code=sa.bindparam("b_outcome_code"),
            mapped_seq=sa.func.coalesce(sa.bindparam("b_seq", type_=sa.BigInteger), _OF.change_seq),
            mapped_with=sa.bindparam("b_mapped_with"),
        )
    )
