"""Delivery in R5: the note's identifier stands in a list there, and the version's beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.ehr.client import carries
from medscribe_pipeline.ehr.comparing import note_identifier_of
from medscribe_pipeline.ehr.ledger import COMPOSITION, DOCUMENT_REFERENCE, Copy, Key
from medscribe_pipeline.ehr.sending import Shipment
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.fhir import VERSION_SYSTEM, build_documents, check, version_identifier
from tests.fhir_options import options
from tests.medscribe_pipeline.ehr.clinic import Clinic, edited, note
from tests.medscribe_pipeline.ehr.fake_ehr import Fault
from tests.medscribe_pipeline.ehr.transactions import transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings
    from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr


@pytest.fixture
def clinic(make_settings: Callable[..., Settings], ehr: FakeEhr) -> Iterator[Clinic]:
    """One whose EHR speaks R5."""
    settings = make_settings()
    fhir = settings.fhir.model_copy(update={"release": "R5"})
    clinic = Clinic(settings.model_copy(update={"fhir": fhir}), ehr.base_url)
    ehr.fhir_version = "5.0.0"
    yield clinic
    clinic.close()


def test_a_note_is_created_and_then_replaced(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    clinic.deliver()
    clinic.write(edited(note(1), "other words"))

    report = clinic.deliver()

    assert report.delivered == 1
    (composition,), (document,) = ehr.newest(COMPOSITION), ehr.newest(DOCUMENT_REFERENCE)
    assert isinstance(composition["identifier"], list)
    assert len(document["identifier"]) == 2
    assert composition["meta"]["versionId"] == document["meta"]["versionId"] == "2"


def test_a_lost_answer_is_looked_up_and_not_sent_again(clinic: Clinic, ehr: FakeEhr) -> None:
    clinic.write(note(1))
    ehr.faults.append(Fault(cut=True))

    report = clinic.deliver()

    assert report.delivered == 1
    assert ehr.seen["POST"] == 1
    assert len(ehr.newest(COMPOSITION)) == 1


def test_a_server_of_r4_gets_nothing(clinic: Clinic, ehr: FakeEhr) -> None:
    ehr.fhir_version = "4.0.1"
    clinic.write(note(1))

    with pytest.raises(ConfigError) as refused:
        clinic.deliver()

    assert refused.value.code == "fhir_version"
    assert ehr.seen["POST"] == 0


def test_transactions_are_valid_and_the_version_is_found() -> None:
    documents = build_documents(note(1), options(release="R5"))
    resources = {COMPOSITION: documents.composition, DOCUMENT_REFERENCE: documents.document_reference}
    shipment = Shipment(Key("ehr", str(note(1).note_id), note(1).version), resources)

    check(transaction(shipment), "R5")
    check(transaction(shipment, dict.fromkeys(resources, Copy("1", 'W/"1"'))), "R5")
    in_r4 = build_documents(note(1), options()).composition
    assert note_identifier_of(documents.composition) == note_identifier_of(in_r4)
    assert carries(documents.document_reference, VERSION_SYSTEM, version_identifier(note(1).note_id, note(1).version))
