"""The first half of a self-test: what is written arrives, once, and can be found."""

from __future__ import annotations

import contextlib
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.ehr.comparing import identifiers, note_identifier_of, version_of
from medscribe_pipeline.ehr.ledger import DOCUMENT_REFERENCE, State
from medscribe_pipeline.ehr.selftest.bench import documents_of, forbidden
from medscribe_pipeline.ehr.sending import SEVERAL_MATCHES
from medscribe_pipeline.ehr.strategies import open_strategy
from medscribe_pipeline.ehr.strategies.steps import PROVENANCE
from medscribe_pipeline.errors import MedscribeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.ehr.ledger import Copy
    from medscribe_pipeline.ehr.selftest.bench import Bench
    from medscribe_pipeline.ehr.selftest.specimen import Version
    from medscribe_pipeline.ehr.sending import Verdict
    from medscribe_pipeline.ehr.targets import Capabilities

__all__ = ["accept", "find", "race", "repeat"]

WAITS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each question whether a search finds what was written: a quarter of a minute in all."""

_MEETING_S = 5.0
_ANY_LATE_S = 600
"""The most that `reconcile_after_s` takes."""


def accept(bench: Bench) -> bool:
    """Sends the first version; returns whether there is anything to go on with.

    Where the whole is refused, each document is tried on its own, in the end without a Bundle.
    """
    verdict = bench.deliver(bench.main, bench.first)
    if verdict.state is State.DELIVERED:
        kinds = ", ".join(bench.first.resources)
        bench.tell("accepts_documents", "ok", f"The server took {kinds}.", codes=verdict.codes)
    elif verdict.state is State.UNKNOWN:
        bench.tell(
            "accepts_documents",
            "unknown",
            "The server did not say what became of the document, and it cannot be found.",
            "Try again; if it stays so, ask who runs the server.",
            relied_on=True,
            codes=verdict.codes,
        )
        if verdict.error is not None:
            raise verdict.error
        return False
    elif not _accept_in_part(bench, verdict):
        return False
    known = documents_of(bench.first).resources
    bench.copies = {
        item.kind: item.copy for item in bench.items.values() if item.specimen is bench.main and item.kind in known
    }
    return True


def _accept_in_part(bench: Bench, whole: Verdict) -> bool:
    asked = bench.capabilities
    accepted: dict[str, Copy] = dict(whole.copies)
    codes = list(whole.codes)
    used = asked
    for used in (asked, *([asked.model_copy(update={"strategy": "single"})] if _in_bundles(asked) else [])):
        # The Provenance comes last: it is about the others.
        for kind in sorted(bench.first.resources, key=lambda each: each == PROVENANCE):
            if kind in accepted or (kind == PROVENANCE and not accepted):
                continue
            verdict = bench.deliver(
                bench.main, bench.first.only(kind, *accepted), done=dict(accepted), capabilities=used
            )
            accepted |= verdict.copies
            codes += verdict.codes
        if accepted:
            break
    told = tuple(dict.fromkeys(codes))
    refused = [kind for kind in bench.first.resources if kind not in accepted]
    if not accepted:
        bench.tell(
            "accepts_documents",
            "differs",
            f"The server refuses {', '.join(refused)}, together and one by one.",
            "Read the codes; see `medscribe ehr probe`, what our account may do, and what the server demands.",
            relied_on=True,
            codes=told,
        )
        return False
    changes: dict[str, Any] = {"strategy": "single"} if used is not asked or not refused else {}
    text = "The server takes the documents one by one, not together."
    if refused:
        text = f"The server refuses {', '.join(refused)}, and takes {', '.join(accepted)}."
        changes["kinds"] = tuple(kind for kind in asked.kinds if kind in accepted)
    bench.tell(
        "accepts_documents",
        "differs",
        text,
        "Change the capabilities, or what the server demands or allows; the rest of the test goes by the change.",
        relied_on=True,
        changes=changes,
        codes=told,
    )
    bench.capabilities = asked.model_copy(update=changes)
    bench.first = bench.main.first(bench.capabilities)
    return True


def find(bench: Bench) -> None:
    """Searches for what was written, by each identifier it has, until it is found or the waiting is over."""
    wanted = dict(_searches(bench.first))
    claimed = bench.capabilities.search
    if not wanted:
        bench.tell("search_finds", "unknown", "Documents are sent without identifiers, so nothing can be searched by.")
        return
    waited = 0.0
    for wait_s in WAITS_S if claimed else WAITS_S[:1]:
        bench.sleep(wait_s)
        waited += wait_s
        try:
            wanted = {search: kind for search, kind in wanted.items() if not _is_found(bench, search, kind)}
        except MedscribeError as error:
            if not forbidden(error):
                raise
            _not_found(bench, (str(error.status or error.code),))
            return
        if not wanted:
            break
    if wanted:
        _not_found(bench, ())
        return
    bench.late_s = waited
    if not claimed:
        bench.tell(
            "search_finds",
            "differs",
            "A search by identifier finds the document, which the capabilities do not count on.",
            "Say so, and deliveries with a lost answer resolve themselves.",
            changes={"search": True},
        )
        return
    if waited > bench.settings.reconcile_after_s:
        bench.tell(
            "search_finds",
            "differs",
            f"A search finds the document after {waited:g} s only; deliveries with a lost answer are looked up before.",
            "Wait longer before they are looked up.",
            relied_on=True,
            settings={"reconcile_after_s": min(_ANY_LATE_S, math.ceil(2 * waited))},
        )
    else:
        bench.tell(
            "search_finds", "ok", f"A search finds the document {f'after {waited:g} s' if waited else 'at once'}."
        )
    _recognise(bench)


def _searches(version: Version) -> Iterator[tuple[tuple[str, str, str], str]]:
    """What the rules of delivery search by, and for which kind."""
    for kind, resource in documents_of(version).resources.items():
        for identifier in (version_of(resource), note_identifier_of(resource)):
            if identifier is not None:
                yield (resource["resourceType"], *identifier), kind


def _is_found(bench: Bench, search: tuple[str, str, str], kind: str) -> bool:
    return bench.copies[kind].server_id in [each.id for each in bench.client.search(*search)]


def _not_found(bench: Bench, codes: tuple[str, ...]) -> None:
    if not bench.capabilities.search:
        bench.tell("search_finds", "ok", "A search does not find the document, as the capabilities say.", codes=codes)
        return
    bench.tell(
        "search_finds",
        "differs",
        "A search by identifier does not find the document, or is refused.",
        "Let our account search; or change the capabilities: a delivery with a lost answer then waits for a person.",
        relied_on=True,
        changes={"search": False},
        codes=codes,
    )


def _recognise(bench: Bench) -> None:
    """Asks as the reconciler asks after a delivery with a lost answer."""
    version = documents_of(bench.first)
    found = open_strategy(bench.capabilities, bench.client, lambda _: None).look_up(version.resources)
    if found.state is State.DELIVERED:
        bench.tell("lost_answer_is_found", "ok", "A delivery whose answer is lost would be found again.")
        return
    if found.error is not None and not forbidden(found.error):
        raise found.error
    bench.tell(
        "lost_answer_is_found",
        "differs",
        "A delivery whose answer is lost would not be recognised: the server stores something else than was sent.",
        "See what is not stored as it was sent.",
        # Under a condition it is sent again without harm.
        relied_on=not bench.capabilities.conditional_create,
    )


def repeat(bench: Bench) -> None:
    """Sends the same once more: there must not be a second one."""
    able = bench.capabilities
    conditional = able.conditional_create and able.strategy != "unconditional"
    by_key = able.idempotency_header is not None and not _in_bundles(able)
    if conditional:
        _repeat(bench, "conditional_create_holds", able.model_copy(update={"idempotency_header": None}))
    if by_key:
        _repeat(bench, "idempotency_key_holds", able.model_copy(update={"conditional_create": False}))
    if conditional or by_key:
        return
    bench.warnings.append("This target cannot tell whether it has a note: sent again, it is there twice.")
    if not any(identifiers(resource) for resource in documents_of(bench.first).resources.values()):
        bench.tell(
            "conditional_create_holds", "unknown", "Documents are sent without identifiers: no condition is possible."
        )
    elif not bench.may_leave_two:
        bench.tell(
            "conditional_create_holds",
            "unknown",
            "Not tried, because it may leave a second document that cannot be withdrawn.",
            "To know, run it again with --may-leave-two.",
        )
    else:
        update = {"conditional_create": True, "strategy": "single"}
        _repeat(bench, "conditional_create_holds", able.model_copy(update=update))


def _repeat(bench: Bench, code: str, capabilities: Capabilities) -> None:
    """Sends the first version again by `capabilities`, which may promise more than those in force."""
    version = documents_of(bench.first)
    again = bench.deliver(bench.main, version, capabilities=capabilities)
    others = {kind for kind, copy in again.copies.items() if copy.server_id != bench.copies[kind].server_id}
    bench.copies |= {kind: copy for kind, copy in again.copies.items() if kind not in others}
    counted = bench.count(bench.main, version) or {}
    several = bool(others) or again.reason == SEVERAL_MATCHES or any(number > 1 for number in counted.values())
    by_key = code == "idempotency_key_holds"
    counts_on_it = by_key or bench.capabilities.strategy != "unconditional"
    if several and not counts_on_it:
        bench.tell(code, "ok", "Sent again, it is there twice, as the capabilities say.", codes=again.codes)
    elif several:
        bench.tell(
            code,
            "differs",
            "Sent again, it is there twice.",
            "Change the capabilities: then nothing is sent a second time before somebody knows.",
            relied_on=True,
            changes={"idempotency_header": ""} if by_key else {"conditional_create": False},
            codes=again.codes,
        )
    elif again.state is not State.DELIVERED:
        bench.tell(
            code,
            "unknown",
            "Sent again, it was neither taken nor recognised; there is no second one.",
            "Read the codes: a delivery whose answer is lost may wait for a person.",
            codes=again.codes,
        )
    elif not counts_on_it:
        bench.tell(
            code,
            "differs",
            "A create under a condition leaves one document, which the capabilities do not count on.",
            "Ask who runs the server whether that is meant to be so; then say so.",
            changes={"conditional_create": True, "strategy": "single"},
            codes=again.codes,
        )
    else:
        seen = "; a search finds one" if counted else ""
        bench.tell(code, "ok", f"Sent again, it is still one document{seen}.", codes=again.codes)


def race(bench: Bench) -> None:
    """Sends one new document twice at the same moment."""
    held = next((each for each in bench.findings if each.code.endswith(("create_holds", "key_holds"))), None)
    if bench.capabilities.strategy == "unconditional" or held is None or held.state != "ok":
        return
    if bench.settings.connections < 2:  # noqa: PLR2004 - one each
        bench.tell("race_leaves_one", "unknown", "Not tried: it takes two connections at once.")
        return
    specimen = bench.specimen("race")
    whole = documents_of(specimen.first(bench.capabilities))
    version = whole.only(DOCUMENT_REFERENCE if DOCUMENT_REFERENCE in whole.resources else next(iter(whole.resources)))
    barrier = threading.Barrier(2)

    def send(_: int) -> Verdict:
        return bench.deliver(specimen, version, is_looked_up=False, checkpoint=_meeting(barrier))

    with ThreadPoolExecutor(2) as threads:
        verdicts = list(threads.map(send, range(2)))
    ids = {copy.server_id for verdict in verdicts for copy in verdict.copies.values()}
    counted = bench.count(specimen, version) or {}
    codes = tuple(dict.fromkeys(code for verdict in verdicts for code in verdict.codes))
    if len(ids) > 1 or any(number > 1 for number in counted.values()):
        bench.tell(
            "race_leaves_one",
            "differs",
            "Sent twice at the same moment, it is there twice.",
            "One pipeline never does that: each note has one writer. Let no second one, with a warehouse of its own, "
            "deliver the same notes here.",
            codes=codes,
        )
    elif ids:
        bench.tell("race_leaves_one", "ok", "Sent twice at the same moment, it is one document.", codes=codes)
    else:
        bench.tell("race_leaves_one", "unknown", "Sent twice at the same moment, it was refused.", codes=codes)


def _meeting(barrier: threading.Barrier) -> Callable[[str], None]:
    """A checkpoint that lets the first request leave when the other thread is there too."""
    waiting = True

    def checkpoint(name: str) -> None:
        nonlocal waiting
        if waiting and name == "request":
            waiting = False
            with contextlib.suppress(threading.BrokenBarrierError):
                barrier.wait(_MEETING_S)

    return checkpoint


def _in_bundles(capabilities: Capabilities) -> bool:
    return capabilities.strategy in ("transaction", "batch")
