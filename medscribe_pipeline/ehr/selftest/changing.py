"""The second half of a self-test: what is there is changed by us, never over somebody else's change, and withdrawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medscribe_pipeline.ehr.fitting import Unfit
from medscribe_pipeline.ehr.ledger import DOCUMENT_REFERENCE, Copy, State
from medscribe_pipeline.ehr.selftest.bench import ENTERED_IN_ERROR, UNKNOWN, documents_of
from medscribe_pipeline.ehr.selftest.specimen import RETRACTED, Version
from medscribe_pipeline.ehr.strategies.parcel import REPLACED_WAS_CHANGED, SUPERSEDING_REFUSED
from medscribe_pipeline.ehr.strategies.steps import replaces_in_place

if TYPE_CHECKING:
    from medscribe_pipeline.ehr.selftest.bench import Bench, Item
    from medscribe_pipeline.ehr.sending import Verdict

__all__ = ["be_atomic", "guard", "update", "withdraw"]

_CONTESTED = frozenset({"409", "412"})
_NOT_SUPERSEDED = frozenset({SUPERSEDING_REFUSED, REPLACED_WAS_CHANGED})


def update(bench: Bench) -> None:
    """Sends an amended version over the first, or beside it, as the target wants."""
    able = bench.capabilities
    version = "amendment" if able.amendment == "hold" else bench.main.version(2, able)
    if not isinstance(version, Version):
        reason = version.reason if isinstance(version, Unfit) else version
        bench.tell("update_works", "unknown", f"Not tried: this target holds later versions ({reason}).")
        return
    version = documents_of(version)
    before = dict(bench.copies)
    verdict = bench.deliver(bench.main, version, standing=before, standing_version=bench.first.key.version)
    bench.copies |= verdict.copies
    if verdict.state is State.DELIVERED:
        bench.stale = _overtaken(bench, version, before, verdict)
        beside = any(bench.copies[kind].server_id != before[kind].server_id for kind in before)
        how = "beside the first, which it replaces" if beside else "in place of the first"
        bench.tell("update_works", "ok", f"An amended version is there, {how}.", codes=verdict.codes)
    elif verdict.state is State.UNKNOWN:
        text = "Whether an amended version arrived is not known."
        bench.tell("update_works", "unknown", text, relied_on=True, codes=verdict.codes)
    else:
        bench.tell(
            "update_works",
            "differs",
            "An amended version is refused.",
            "Let our account update; or change the capabilities: amended notes then wait for a person.",
            relied_on=True,
            changes={"amendment": "hold"},
            codes=verdict.codes,
        )


def _overtaken(bench: Bench, version: Version, before: dict[str, Copy], verdict: Verdict) -> dict[str, Copy]:
    """The copies of before whose ETags are not those of the resources any more."""
    able = bench.capabilities
    overtaken = {}
    for kind, copy in before.items():
        in_place = replaces_in_place(version.resources[kind], kind, able)
        if not in_place:
            superseded = able.if_match and able.read and not _NOT_SUPERSEDED & set(verdict.codes)
            item = bench.items[DOCUMENT_REFERENCE, str(copy.server_id)]
            # The write that marked it told nobody its ETag: without one it is read before it is withdrawn.
            item.copy = Copy(copy.server_id, None)
            item.status = "superseded" if superseded else item.status
            if not superseded:
                continue
        if copy.etag is not None:
            overtaken[kind] = copy
    return overtaken


def guard(bench: Bench) -> None:
    """Sends an update under an ETag that has been overtaken: it must be refused.

    It is the withdrawal that is sent, where the target takes it: should it pass, nothing is lost.
    """
    able = bench.capabilities
    if not able.if_match or able.amendment == able.retraction == "hold":
        return
    if not any(copy.etag for copy in (*bench.stale.values(), *bench.copies.values())):
        bench.tell(
            "stale_update_refused",
            "differs",
            "The server tells no ETags, so an update cannot be tied to a version.",
            "Change the capabilities: what is to be replaced is then read and compared first.",
            changes={"if_match": False},
        )
        return
    version = bench.main.version(RETRACTED, able) if able.retraction == "update" else bench.main.version(3, able)
    kinds: list[str] = []
    if isinstance(version, Version):
        kinds = [kind for kind in bench.stale if replaces_in_place(version.resources[kind], kind, able)]
    if isinstance(version, Unfit) or not kinds:
        text = "Not tried: there is no document of an earlier version whose ETag has been overtaken."
        bench.tell("stale_update_refused", "unknown", text)
        return
    bench.stale = {kind: bench.stale[kind] for kind in kinds}
    stale = version.only(*kinds)
    verdict = bench.deliver(
        bench.main, stale, standing=bench.stale, standing_version=bench.first.key.version, is_looked_up=False
    )
    if verdict.copies:
        bench.copies |= {
            kind: copy for kind, copy in verdict.copies.items() if copy.server_id == bench.copies[kind].server_id
        }
        bench.tell(
            "stale_update_refused",
            "differs",
            "An update under an ETag that has been overtaken is carried out: If-Match is ignored.",
            "Change the capabilities: what is to be replaced is then read and compared first.",
            relied_on=True,
            changes={"if_match": False},
            codes=verdict.codes,
        )
    elif _CONTESTED & set(verdict.codes):
        bench.stale_write = stale
        text = "An update under an ETag that has been overtaken is refused."
        bench.tell("stale_update_refused", "ok", text, codes=verdict.codes)
    else:
        text = "An update under an ETag that has been overtaken is refused, for another reason."
        bench.tell("stale_update_refused", "unknown", text, "Read the codes.", codes=verdict.codes)


def be_atomic(bench: Bench) -> None:
    """Sends a new document together with an update that is known to be refused: nothing must be left of both."""
    able = bench.capabilities
    if able.strategy != "transaction" or len(bench.copies) < 2:  # noqa: PLR2004 - what happens together
        return
    specimen = bench.specimen("atomic")
    first = documents_of(specimen.first(able))
    refused = list(bench.stale_write.resources)[-1] if bench.stale_write else None
    new = next((kind for kind in first.resources if kind != refused), None)
    if bench.stale_write is None or refused is None or new is None:
        text = "Not tried: there is nothing this server is known to refuse."
        bench.tell("transaction_is_atomic", "unknown", text)
        return
    both = {new: first.resources[new], refused: bench.stale_write.resources[refused]}
    verdict = bench.deliver(
        specimen,
        Version(first.key, both),
        standing={refused: bench.stale[refused]},
        standing_version=bench.first.key.version,
        is_looked_up=False,
    )
    counted = bench.count(specimen, first.only(new))
    if refused in verdict.copies:
        bench.copies |= {refused: verdict.copies[refused]}
        text = "The transaction was not refused, though it held what was refused before."
        bench.tell("transaction_is_atomic", "unknown", text, codes=verdict.codes)
    elif new in verdict.copies or (counted or {}).get(new):
        bench.tell(
            "transaction_is_atomic",
            "differs",
            "Of a transaction with one entry that cannot be, the other entry is carried out.",
            "Change the capabilities: every document then has a fate of its own, and the rest is sent again.",
            relied_on=True,
            changes={"strategy": "batch"},
            codes=verdict.codes,
        )
    elif counted is None:
        text = "A transaction with one entry that cannot be is refused; whether something is left, nobody can tell."
        bench.tell("transaction_is_atomic", "unknown", text, codes=verdict.codes)
    else:
        text = "A transaction with one entry that cannot be leaves nothing."
        bench.tell("transaction_is_atomic", "ok", text, codes=verdict.codes)


def withdraw(bench: Bench) -> None:
    """Withdraws everything that was left, as a note is that its source has withdrawn.

    Raises:
        MedscribeError: There is no server any more; what could not be withdrawn keeps its status.
    """
    able = bench.capabilities
    groups = list(bench.groups())
    version = None if able.retraction == "hold" else bench.main.version(RETRACTED, able)
    if not isinstance(version, Version):
        reason = version.reason if isinstance(version, Unfit) else "retraction"
        bench.tell("retraction_works", "unknown", f"Not tried: this target holds withdrawals ({reason}).")
        return
    codes: list[str] = []
    for group in groups:
        codes += _withdraw(bench, group)
    theirs = [item for item in bench.items.values() if item.specimen is bench.main and item.kind in bench.copies]
    failed = [item for item in theirs if item.status != ENTERED_IN_ERROR]
    told = tuple(dict.fromkeys(codes))
    if not theirs:
        return
    if any(item.status == UNKNOWN for item in failed):
        text = "Whether a document could be withdrawn is not known."
        bench.tell("retraction_works", "unknown", text, relied_on=True, codes=told)
    elif failed or not _is_stored(bench, theirs):
        bench.tell(
            "retraction_works",
            "differs",
            "A document cannot be withdrawn: it is refused, or its status stays as it was.",
            "Let our account update; or change the capabilities: withdrawn notes then wait for a person.",
            relied_on=True,
            changes={"retraction": "hold"},
            codes=told,
        )
    else:
        bench.tell("retraction_works", "ok", "Documents can be withdrawn as entered in error.", codes=told)


def _withdraw(bench: Bench, group: list[Item]) -> tuple[str, ...]:
    """Withdraws documents of one version of one note; what became of each, its status says."""
    version = group[0].specimen.version(RETRACTED, bench.capabilities)
    if isinstance(version, Unfit):
        return ()
    verdict = bench.deliver(
        group[0].specimen,
        version.only(*(item.kind for item in group)),
        standing={item.kind: item.copy for item in group},
        standing_version=group[0].version,
    )
    if verdict.state is State.UNKNOWN:
        for item in group:
            # What arrived has become another item meanwhile, with a status of its own.
            item.status = UNKNOWN
    return verdict.codes


def _is_stored(bench: Bench, items: list[Item]) -> bool:
    """Whether the server says of the withdrawn that they are, where it can be asked; sets what it says instead."""
    if not bench.is_readable:
        return True
    for item in items:
        held = bench.client.read(item.type, str(item.copy.server_id))
        if held is not None:
            status = held.resource.get("status")
            item.status = status if status in _STATUSES else UNKNOWN
    return all(item.status == ENTERED_IN_ERROR for item in items)


_STATUSES = frozenset({"current", "superseded", "entered-in-error", "preliminary", "final", "amended"})
