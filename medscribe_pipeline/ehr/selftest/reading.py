"""Reading back what a self-test wrote, and saying what of it is not as it was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.comparing import read_back
from medscribe_pipeline.ehr.ledger import Copy
from medscribe_pipeline.ehr.selftest.bench import documents_of, forbidden
from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from medscribe_pipeline.ehr.selftest.bench import Bench

__all__ = ["read"]

_MASTER = "masterIdentifier"
_SIDE_ISSUES = ("hash", "title", "creation", "language", "size", "url")
_ADVICE = {
    "identifiers_kept": "What is not kept, nothing can be found by: see the capabilities asked for, here and below.",
    "doc_status_kept": "Readers see from the text alone whether a note was reviewed.",
    "content_kept": "Do not deliver before it is clear why, unless a form of the same note is all that is missing.",
    "stored_as_sent": "Decide whether readers need it; nothing of delivery depends on it.",
}


def read(bench: Bench) -> None:
    """Reads the first version back, and compares."""
    version = documents_of(bench.first)
    paths: list[str] = []
    codes: tuple[str, ...] = ()
    try:
        paths = read_back(bench.client, version.resources, bench.copies)
        bench.is_readable = not set(paths) & set(version.resources)
    except MedscribeError as error:
        if not forbidden(error):
            raise
        codes = (str(error.status or error.code),)
    claimed = bench.capabilities.read
    if bench.is_readable and claimed:
        bench.tell("read_works", "ok", "What was written can be read by its id.")
    elif bench.is_readable:
        text = "What was written can be read by its id, which the capabilities do not count on."
        bench.tell("read_works", "differs", text, "Say so.", changes={"read": True})
    elif claimed:
        bench.tell(
            "read_works",
            "differs",
            "What was written cannot be read by its id.",
            "Let our account read; or change the capabilities.",
            relied_on=True,
            changes={"read": False},
            codes=codes,
        )
    else:
        bench.tell("read_works", "ok", "What was written cannot be read, as the capabilities say.", codes=codes)
    if bench.is_readable:
        _compare(bench, paths)
        _learn_etags(bench)


def _learn_etags(bench: Bench) -> None:
    """Asks for the ETags that the answers to the writes did not have."""
    for kind, resource in documents_of(bench.first).resources.items():
        copy = bench.copies[kind]
        if copy.etag is None and copy.server_id is not None:
            held = bench.client.read(resource["resourceType"], copy.server_id)
            bench.copies[kind] = Copy(copy.server_id, held.etag if held else None)


def _compare(bench: Bench, paths: list[str]) -> None:
    below = {path: path.partition(".")[2] for path in paths}
    status = [path for path in paths if below[path] == "docStatus"]
    names = [path for path in paths if below[path].startswith(("identifier", "masterIdentifier"))]
    content = [path for path in paths if below[path].startswith(("content", "section"))]
    side = [path for path in content if path.rpartition(".")[2] in _SIDE_ISSUES or ".format" in path]
    words = [path for path in content if path not in side]
    others = [path for path in paths if path not in {*status, *names, *words}]
    # The first form is there, another is not: the server keeps one.
    keeps_first = bool(words) and all(_is_later_form(below[path]) for path in words)
    for code, text, bad, more in (
        ("identifiers_kept", "Identifiers are stored as they were sent.", names, _without_master(bench, below, names)),
        ("doc_status_kept", "docStatus is stored as it was sent.", status, {}),
        (
            "content_kept",
            "The words and attachments are stored as they were sent.",
            words,
            {"relied_on": True, "changes": {"attachments": "first"} if keeps_first else {}},
        ),
        ("stored_as_sent", "All else is stored as it was sent.", others, {}),
    ):
        if bad:
            differs: dict[str, Any] = {"paths": tuple(bad), **more}
            bench.tell(code, "differs", "The server drops or changes something of it.", _ADVICE[code], **differs)
        else:
            bench.tell(code, "ok", text)


def _without_master(bench: Bench, below: Mapping[str, str], lost: Sequence[str]) -> dict[str, Any]:
    """Where nothing but the identifier of the version is lost, a document can go by the one of its note."""
    able = bench.capabilities
    if not lost or any(below[path] != _MASTER for path in lost) or able.amendment == "new_document":
        return {}
    changes = {"drop": (*able.drop, _MASTER)}
    bench.capabilities = able.model_copy(update=changes)
    bench.first = bench.main.first(bench.capabilities)
    return {"relied_on": True, "changes": changes}


def _is_later_form(path: str) -> bool:
    parts = path.split(".")
    return parts[0] == "content" and parts[1:2] not in ([], ["0"])
