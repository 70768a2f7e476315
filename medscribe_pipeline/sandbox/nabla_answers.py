"""How Nabla says what a job has come to, in the spelling of the generation it was ordered in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox.jobs import Phase
from medscribe_pipeline.sandbox.nabla_content import note, transcript
from medscribe_pipeline.sandbox.nabla_requests import ARCHIVED, KEYED_IN, RENAMED_IN

if TYPE_CHECKING:
    from medscribe_pipeline.sandbox.corpus import Record

__all__ = ["answer_of"]

_STATUS = {
    Phase.RUNNING: "ongoing",
    Phase.UNRECOGNISED: "paused",
    Phase.FAILED: "failed",
    Phase.DONE: "succeeded",
}
_FAILURE = (422, "Nothing could be made of this recording: it is too short.")


def answer_of(
    job: Record, phase: Phase, failure_fields: tuple[str, str], *, nests_payload: bool, forged: bool = False
) -> dict[str, Any]:
    """The JSON that says so: what a question is answered with, and what a callback carries.

    Args:
        job: One of `nabla.py`'s.
        phase: What to say of it.
        failure_fields: Names of a failure's number and text.
        nests_payload: Whether the result lies under `payload`.
        forged: Invent another result.
    """
    result: dict[str, Any] | None = None
    if phase is Phase.FAILED:
        result = dict(zip(failure_fields, _FAILURE, strict=True))
    elif phase is Phase.DONE:
        result = _result(job, forged=forged)
    own_id = {} if job["client_request_id"] is None else {"client_request_id": job["client_request_id"]}
    if job["version"] == ARCHIVED:
        return {"request_id": job["id"], **own_id, **(result or {})}
    is_upper = job["version"] >= RENAMED_IN
    status = _STATUS[phase].upper() if is_upper else _STATUS[phase]
    head = {"id": job["id"], **own_id, "status": status}
    if result is None:
        return head
    # A failure's payload is always there: beside the status its number could be taken for one.
    return {**head, "payload": result} if nests_payload or phase is Phase.FAILED else {**head, **result}


def _result(job: Record, *, forged: bool) -> dict[str, Any]:
    order, version = job["order"], job["version"]
    result: dict[str, Any] = {}
    if "transcript_item" in order["outputs"]:
        items = transcript(order["name"], order["language"], by_sentence=order["by_sentence"], forged=forged)
        result["transcript"] = [_item(item) for item in items] if _is_new(version) else items
    if "note" in order["outputs"]:
        written = note(
            order["name"],
            order["language"],
            tuple(order["keys"]),
            style=order["style"],
            by_problem=order["by_problem"],
            forged=forged,
        )
        if _is_new(version) and version >= KEYED_IN:
            # A client of that generation was seen to be given lower case.
            written["sections"] = [{**section, "key": section["key"].lower()} for section in written["sections"]]
        # Where the note lies in 2024-04-22 is not printed; a reader has to take both.
        result |= written if version == "2024-04-22" else {"note": written}
    return result


def _item(item: dict[str, Any]) -> dict[str, Any]:
    """An item as from 2024-10-01 on: `speaker_type`, upper case, left out where nobody is known to have spoken."""
    speaker = {"speaker_type": item["speaker"].upper()} if item["speaker"] != "unspecified" else {}
    return {**{name: value for name, value in item.items() if name != "speaker"}, **speaker}


def _is_new(version: str) -> bool:
    return version != ARCHIVED and version >= RENAMED_IN
