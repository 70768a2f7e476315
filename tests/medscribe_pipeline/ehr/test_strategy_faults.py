"""Whatever goes wrong, in whatever order: no version is there twice, and none is called delivered that is not there.

A note goes through its versions as the dispatcher and the reconciler would take it through: sent while it is planned,
asked after while it is unknown, and left alone when only a person can help. Between two versions somebody in the EHR
may have changed the first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medscribe_pipeline.ehr.comparing import differences
from medscribe_pipeline.ehr.ledger import State
from tests.medscribe_pipeline.ehr.clinic import note
from tests.medscribe_pipeline.ehr.odd_ehr import EntryFault, Fault, OddEhr
from tests.medscribe_pipeline.ehr.shipping import (
    COMPOSITION,
    DOCUMENT,
    PROVENANCE,
    Dock,
    Sent,
    abilities,
    amended,
    every_way,
    shipment,
    shows_nothing,
    withdrawn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from medscribe_pipeline.ehr.ledger import Copy
    from medscribe_pipeline.ehr.sending import Shipment
    from medscribe_pipeline.ehr.targets import Capabilities
    from tests.medscribe_pipeline.ehr.odd_ehr import Resource

MOST_STEPS = 40

NOTES = tuple(note(number) for number in (1, 2, 3))


def swap_documents(answer: Resource) -> None:
    """Answers change places, where their types tell; of two Compositions that did so nobody could tell."""
    entries = answer.get("entry", [])
    for at in range(0, len(entries) - 1, 2):
        first, second = (each["response"].get("location", "").split("/")[0] for each in entries[at : at + 2])
        if first and second and first != second:
            entries[at], entries[at + 1] = entries[at + 1], entries[at]


def clear(answer: Resource) -> None:
    answer.clear()


whole = st.one_of(
    st.just(Fault()),
    st.builds(Fault, status=st.sampled_from([500, 502, 503, 504, 408, 409]), committed=st.booleans()),
    st.builds(Fault, cut=st.just(True), committed=st.booleans()),
    st.builds(Fault, status=st.just(429), headers=st.sampled_from([{}, {"Retry-After": "1"}, {"Retry-After": "90"}])),
    st.builds(Fault, body=st.sampled_from([b"", b"<html>", b'{"resourceType": "Bundle"}'])),
    st.builds(Fault, edit=st.sampled_from([swap_documents, clear])),
)
entry = st.one_of(
    st.builds(EntryFault, status=st.sampled_from([429, 503]), reset_s=st.sampled_from([1, 2, 90])),
    st.builds(EntryFault, status=st.sampled_from([500, 503, 202, 0]), committed=st.booleans()),
    st.builds(EntryFault, status=st.just(409)),
)
by_entry = st.builds(Fault, entries=st.dictionaries(st.integers(0, 8), entry, min_size=1, max_size=4))
faults = st.lists(whole | by_entry, max_size=12)
# Statuses of reads and searches that fail on the way.
silences = st.lists(st.sampled_from([0, 0, 500, 429]), max_size=6)


@pytest.fixture(scope="module")
def dock() -> Iterator[Dock]:
    """One for all examples: a client takes longer to open than a note to deliver."""
    server = OddEhr()
    dock = Dock(server)
    yield dock
    dock.close()
    server.close()


def ready(dock: Dock, way: str) -> None:
    dock.server.reset()
    dock.heed(way)
    dock.slept.append(120)


def settle(dock: Dock, able: Capabilities, leaving: list[Shipment]) -> list[Sent]:
    """Sends what is planned and asks after what is unknown, until nothing of that is left or helps."""
    sent = dock.deliver(able, *leaving)
    for _ in range(MOST_STEPS):
        for index, each in enumerate(sent):
            _is_true(dock, each)
            if each.verdict.state is State.UNKNOWN:
                found = dock.look_up(able, each)
                known = {**each.verdict.copies, **found.verdict.copies}
                sent[index] = replace(each, verdict=replace(found.verdict, copies=known))
                _is_true(dock, sent[index])
        due = [index for index, each in enumerate(sent) if each.verdict.state is State.PLANNED]
        waiting = [each for each in sent if each.verdict.reason == "cannot_be_asked"]
        if not due and all(each in waiting for each in sent if each.verdict.state is State.UNKNOWN):
            return sent
        dock.slept.append(120)  # The next run comes later.
        again = dock.deliver(
            able, *(replace(sent[index].shipment, done=_done(sent[index].verdict.copies)) for index in due)
        )
        for index, each in zip(due, again, strict=True):
            sent[index] = each
    raise AssertionError("never settled")


def _done(copies: Mapping[str, Copy]) -> dict[str, Copy]:
    return {kind: copy for kind, copy in copies.items() if copy.server_id}


def _is_true(dock: Dock, sent: Sent) -> None:
    """What a verdict claims to be there is there, and what is delivered is there as a whole."""
    shows_nothing(sent)
    copies, resources = sent.verdict.copies, sent.shipment.resources
    if sent.verdict.state is State.DELIVERED:
        assert copies.keys() == resources.keys()
    for kind, copy in copies.items():
        held = dock.server.store[resources[kind]["resourceType"], copy.server_id or ""][-1]
        assert differences(kind, resources[kind], held) == [], kind


def _is_single(dock: Dock, *, several: bool) -> None:
    """No note is there twice, save where each version is a document of its own."""
    for source in NOTES:
        for kind in (COMPOSITION, DOCUMENT):
            found = [each for each in dock.server.newest(kind) if str(source.note_id) in str(each.get("identifier"))]
            assert len(found) <= (2 if several and kind == DOCUMENT else 1)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), first=faults, second=faults, silent=silences)
@every_way
def test_every_note_settles_once(
    dock: Dock, way: str, data: st.DataObject, first: list[Fault], second: list[Fault], silent: list[int]
) -> None:
    ready(dock, way)
    amendment = data.draw(st.sampled_from(["update", "new_document"]))
    kinds = data.draw(st.sampled_from([(COMPOSITION, DOCUMENT, PROVENANCE), (COMPOSITION, DOCUMENT)]))
    able = abilities(way, kinds=kinds, amendment=amendment, entries_per_bundle=4)
    dock.server.faults.extend(first)

    one = settle(dock, able, [shipment(each, kinds) for each in NOTES])
    touched = data.draw(st.sets(st.integers(0, 2)))
    for index in touched:
        dock.server.edit(DOCUMENT, one[index].verdict.copies[DOCUMENT].server_id or "", description="by hand")
    dock.server.faults.extend(second)
    dock.server.read_faults.extend(silent)
    later = [amended(NOTES[0]), withdrawn(NOTES[1]), amended(NOTES[2])]
    two = settle(dock, able, [shipment(new, kinds, after=old) for new, old in zip(later, one, strict=True)])

    assert [each.verdict.state for each in one] == [State.DELIVERED] * 3
    for index, sent in enumerate(two):
        # What somebody has changed is not replaced; a new document stands beside it.
        in_the_way = index in touched and (amendment == "update" or index == 1)
        assert sent.outcome == ((State.REJECTED, "changed_in_ehr") if in_the_way else (State.DELIVERED, ""))
        assert len(dock.of_version(later[index])) == (0 if in_the_way else 1)
    by_hand = [each for each in dock.server.newest(DOCUMENT) if each.get("description") == "by hand"]
    assert len(by_hand) == len(touched)
    _is_single(dock, several=amendment == "new_document")


@settings(max_examples=40, deadline=None)
@given(troubles=st.lists(whole, max_size=8))
def test_what_nobody_can_ask_after_is_never_sent_twice(dock: Dock, troubles: list[Fault]) -> None:
    ready(dock, "unconditional")
    able = abilities("unconditional", kinds=(DOCUMENT,), search=False, read=False, amendment="hold", retraction="hold")
    dock.server.faults.extend(troubles)

    sent = settle(dock, able, [shipment(each, able.kinds) for each in NOTES])

    for source, each in zip(NOTES, sent, strict=True):
        written = [write for write in dock.server.writes() if str(source.note_id) in str(write.body)]
        assert len(dock.of_version(source)) <= 1
        assert each.verdict.state in (State.DELIVERED, State.UNKNOWN)
        # All but the last were answered that nothing was done.
        assert [write.answered for write in written[:-1]] == [429] * (len(written) - 1)
