"""What is asked of the warehouse about documents: which notes lack theirs, which have some, how many there are.

Each statement is made once for each kind of database and executed with parameters: to put it together takes as long as
to execute it, and a batch asks half a dozen.
"""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa

from medscribe_pipeline.warehouse.among import among_keys
from medscribe_pipeline.warehouse.tables import fhir_documents, notes, quarantine

__all__ = ["kinds", "lacking", "leftovers", "open_problems", "standing", "with_documents"]


@functools.cache
def lacking() -> sa.Select[tuple[str]]:
    """Ids of notes of `account` and `day` that have no documents of their version, by the mapping `version`."""
    current = (
        sa.select(fhir_documents.c.note_id)
        .where(
            fhir_documents.c.note_id == notes.c.note_id,
            fhir_documents.c.version == notes.c.version,
            fhir_documents.c.mapping_version == sa.bindparam("version"),
            fhir_documents.c.visit_day == notes.c.visit_day,
        )
        # Looked up for each note by the key: as `NOT EXISTS` it is a join to PostgreSQL, for which it goes through all
        # documents, or for a day without statistics through all of the day for each note.
        .limit(1)
        .scalar_subquery()
    )
    return (
        sa.select(notes.c.note_id)
        .where(
            notes.c.account == sa.bindparam("account"),
            notes.c.visit_day == sa.bindparam("day", type_=sa.Date),
            notes.c.forgotten_at.is_(None),
            current.is_(None),
        )
        .order_by(notes.c.note_id)
    )


@functools.cache
def standing(native: str | None) -> sa.Select[Any]:
    """Id, version, source_seq and visit day of those notes among `KEYS` that are not forgotten; locks them.

    Args:
        native: From `writing.native_name`, as for all that ask about many.
    """
    return (
        sa.select(notes.c.note_id, notes.c.version, notes.c.source_seq, notes.c.visit_day)
        .where(among_keys(native, notes.c.note_id), notes.c.forgotten_at.is_(None))
        .order_by(notes.c.note_id)
        .with_for_update()
    )


@functools.cache
def with_documents(native: str | None) -> sa.Select[tuple[str]]:
    """Those ids among `KEYS` that have documents."""
    return sa.select(fhir_documents.c.note_id).where(among_keys(native, fhir_documents.c.note_id)).distinct()


@functools.cache
def leftovers(native: str | None) -> sa.Delete:
    """Removes documents of notes among `KEYS` that are not of one build with the Composition of their note."""
    latest = fhir_documents.alias("latest")
    of_one_build = (
        sa.select(latest.c.note_id)
        .where(
            latest.c.note_id == fhir_documents.c.note_id,
            latest.c.kind == "Composition",
            *(
                latest.c[name] == fhir_documents.c[name]
                for name in ("version", "mapping_version", "source_seq", "visit_day")
            ),
        )
        .exists()
    )
    return sa.delete(fhir_documents).where(among_keys(native, fhir_documents.c.note_id), ~of_one_build)


@functools.cache
def kinds() -> sa.Select[Any]:
    """How many documents of each kind there are of `account` and `day`."""
    of = fhir_documents.c
    return (
        sa.select(of.kind, sa.func.count())
        .where(of.account == sa.bindparam("account"), of.visit_day == sa.bindparam("day"))
        .group_by(of.kind)
    )


@functools.cache
def open_problems() -> sa.Select[Any]:
    """How many notes of `account` and `day` wait in quarantine at `stage`, by code."""
    of = quarantine.c
    return (
        sa.select(of.error_code, sa.func.count())
        .where(
            of.account == sa.bindparam("account"),
            of.stage == sa.bindparam("stage"),
            of.visit_day == sa.bindparam("day"),
            of.resolved_at.is_(None),
        )
        .group_by(of.error_code)
    )
