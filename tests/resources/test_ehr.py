"""The FHIR client for assets: opened as the settings say, closed after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import Settings
from resources import open_fhir_client

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from medscribe_pipeline.ehr.client import FhirClient
    from tests.synced import Clinic


def opened() -> AbstractContextManager[FhirClient]:
    settings = Settings.load()
    return open_fhir_client(settings, settings.ehr)


def test_the_token_of_the_settings_opens_the_endpoint(empty_clinic: Clinic) -> None:
    with opened() as client:
        found = client.search("Composition", "urn:nobody", "1")

    assert found == []
    assert empty_clinic.sandbox.stats.requests["GET /fhir/Composition"] == 1


def test_a_wrong_token_is_a_wrong_setting(empty_clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    assert empty_clinic
    monkeypatch.setenv("MEDSCRIBE_EHR_TOKEN", "canary-of-another-clinic")

    with opened() as client, pytest.raises(ConfigError) as caught:
        client.search("Composition", "urn:nobody", "1")

    assert "MEDSCRIBE_EHR_TOKEN" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_without_an_ehr_there_is_nothing_to_open(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()

    with (
        pytest.raises(ConfigError, match="MEDSCRIBE_EHR_BASE_URL") as caught,
        open_fhir_client(settings, settings.ehr),
    ):
        pass
    assert caught.value.code == "no_ehr"


def test_a_further_target_is_signed_in_to_with_its_own_settings(
    empty_clinic: Clinic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["store"]')
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_BASE_URL", empty_clinic.sandbox.environment()["MEDSCRIBE_EHR_BASE_URL"])
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_TOKEN", "canary-of-another-clinic")
    settings = Settings.load()

    with (
        open_fhir_client(settings, settings.targets["store"]) as client,
        pytest.raises(ConfigError) as caught,
    ):
        client.search("Composition", "urn:nobody", "1")

    assert "MEDSCRIBE_EHR_STORE_TOKEN" in str(caught.value)
