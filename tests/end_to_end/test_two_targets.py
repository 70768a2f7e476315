"""An EHR and a FHIR store at once: each gets every note once, whatever becomes of the other."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.sandbox import Sandbox
from tests.end_to_end.command import is_quiet
from tests.end_to_end.states import KINDS, tables_of, value_of
from tests.end_to_end.trap import CORPUS
from tests.synced import CLOSED_PORT

if TYPE_CHECKING:
    from tests.end_to_end.command import Medscribe

pytestmark = pytest.mark.timeout(300)


def test_a_store_that_was_down_has_in_the_end_what_the_ehr_has(medscribe: Medscribe, sandbox: Sandbox) -> None:
    with Sandbox(corpus=CORPUS) as store:
        own = store.environment()
        medscribe.environment |= {
            "MEDSCRIBE_EHR_MORE_TARGETS": '["store"]',
            "MEDSCRIBE_EHR_STORE_BASE_URL": own["MEDSCRIBE_EHR_BASE_URL"],
            "MEDSCRIBE_EHR_STORE_TOKEN": own["MEDSCRIBE_EHR_TOKEN"],
            "MEDSCRIBE_EHR_STORE_MAX_ATTEMPTS": "1",
        }

        down = medscribe.sync(MEDSCRIBE_EHR_STORE_BASE_URL=CLOSED_PORT)
        filed_first = filed(sandbox)
        back = medscribe.sync()
        again = medscribe.sync()

        assert filed(store) == filed(sandbox) == filed_first
    assert down.code == 3
    assert [each["step"] for each in down.json["run"]["failures"]] == ["ehr_deliveries_store"]
    assert filed_first
    assert set(filed_first.values()) == {1}
    assert back.json["run"]["failures"] == []
    assert back.json["run"]["stages"]["ehr_deliveries"]["delivered"] == 0
    assert is_quiet(again)
    assert settled(medscribe, "ehr") == settled(medscribe, "store")
    status = medscribe.run("status")
    assert "delivered (ehr)" in status.out
    assert "delivered (store)" in status.out


def filed(server: Sandbox) -> Counter[tuple[str, str]]:
    """How often each note is on a server, by kind."""
    return Counter((kind, value_of(each)) for kind in KINDS for each in server.fhir.resources(kind))


def settled(medscribe: Medscribe, target: str) -> list[tuple[str, str, str]]:
    """What the ledger says of a target."""
    rows = tables_of(medscribe.database)["deliveries"]
    return sorted((row["note_id"], row["kind"], row["state"]) for row in rows if row["target"] == target)
