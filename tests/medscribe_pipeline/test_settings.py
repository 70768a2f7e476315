"""Settings: each wrong one is named, none is ever shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import (
    AskaraSettings,
    AudioScribeSettings,
    EhrSettings,
    IntronSettings,
    NablaSettings,
    ReceiverSettings,
    Settings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = {
    "MEDSCRIBE_ASKARA_TOKEN": "canary-1",
    "MEDSCRIBE_AUDIOSCRIBE_TOKEN": "canary-2",
    "MEDSCRIBE_NABLA_TOKEN": "canary-7",
    "MEDSCRIBE_NABLA_WEBHOOK_SECRET": "canary-8",
    "MEDSCRIBE_INTRON_TOKEN": "canary-9",
    "MEDSCRIBE_RECEIVER_PATH_SECRET": "canary-10-that-is-long-enough",
    "MEDSCRIBE_EHR_TOKEN": "canary-3",
    "MEDSCRIBE_EHR_BASE_URL": "https://ehr.example/fhir",
    "MEDSCRIBE_WAREHOUSE_URL": "postgresql+psycopg://user:canary-4@db.example/warehouse",
}
OAUTH = {
    "MEDSCRIBE_ASKARA_CLIENT_ID": "client",
    "MEDSCRIBE_ASKARA_CLIENT_SECRET": "canary-5",
    "MEDSCRIBE_ASKARA_REFRESH_TOKEN": "canary-6",
}
NABLA_OAUTH = {
    "MEDSCRIBE_NABLA_CLIENT_ID": "00000000-0000-4000-8000-000000000000",
    "MEDSCRIBE_NABLA_PRIVATE_KEY_FILE": "/etc/canary.pem",
}


@pytest.fixture
def load(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Loads settings from exactly these variables."""
    assert clean_environment

    def loaded(**variables: str) -> Settings:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return Settings.load()

    return loaded


def test_without_any_variable_there_are_defaults_and_no_providers(load: Callable[..., Settings]) -> None:
    found = load()

    assert found.providers == ()
    assert not found.ehr.enabled
    assert (found.account, found.timezone) == ("default", "UTC")
    assert found.database_url == f"sqlite:///{Path('~/.medscribe').expanduser()}/warehouse.sqlite"


def test_a_token_makes_a_provider_present(load: Callable[..., Settings]) -> None:
    assert load(MEDSCRIBE_ASKARA_TOKEN="t").providers == ("askara",)
    assert load(MEDSCRIBE_AUDIOSCRIBE_TOKEN="t").providers == ("audioscribe",)
    assert load(MEDSCRIBE_NABLA_TOKEN="t").providers == ("nabla",)
    assert load(MEDSCRIBE_INTRON_TOKEN="t").providers == ("intron",)
    assert load(**SECRETS).providers == ("askara", "audioscribe", "nabla", "intron")
    assert load(**OAUTH).providers == ("askara",)
    assert load(**NABLA_OAUTH).providers == ("nabla",)
    assert load(**SECRETS).ehr.enabled


@pytest.mark.parametrize("missing", sorted(OAUTH))
def test_half_of_the_oauth_settings_names_the_missing_one(load: Callable[..., Settings], missing: str) -> None:
    given_ones = {name: value for name, value in OAUTH.items() if name != missing}

    with pytest.raises(ConfigError) as raised:
        load(**given_ones)

    assert f"missing: {missing}" in raised.value.message
    assert not any(name in raised.value.message for name in given_ones)
    assert raised.value.exit_code == 2


def test_one_of_the_oauth_settings_names_the_other_two(load: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError, match="MEDSCRIBE_ASKARA_CLIENT_SECRET, MEDSCRIBE_ASKARA_REFRESH_TOKEN"):
        load(MEDSCRIBE_ASKARA_CLIENT_ID="client")


def test_token_and_oauth_exclude_each_other(load: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError, match="either MEDSCRIBE_ASKARA_TOKEN or the OAuth settings"):
        load(MEDSCRIBE_ASKARA_TOKEN="t", **OAUTH)


@pytest.mark.parametrize("missing", sorted(NABLA_OAUTH))
def test_half_of_nablas_oauth_settings_names_the_other_half(load: Callable[..., Settings], missing: str) -> None:
    given_ones = {name: value for name, value in NABLA_OAUTH.items() if name != missing}

    with pytest.raises(ConfigError, match=f"OAuth needs both settings; missing: {missing} ") as raised:
        load(**given_ones)

    assert "canary" not in str(raised.value)


def test_nablas_server_key_and_oauth_exclude_each_other(load: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError, match="either MEDSCRIBE_NABLA_TOKEN or the OAuth settings"):
        load(MEDSCRIBE_NABLA_TOKEN="t", **NABLA_OAUTH)


def test_the_archived_nabla_api_needs_somewhere_to_answer_to(load: Callable[..., Settings]) -> None:
    archived = {"MEDSCRIBE_NABLA_TOKEN": "t", "MEDSCRIBE_NABLA_API_VERSION": "archived"}

    with pytest.raises(ConfigError, match="missing: MEDSCRIBE_NABLA_CALLBACK_URL"):
        load(**archived)

    assert load(**archived, MEDSCRIBE_NABLA_CALLBACK_URL="https://receiver.example/callbacks/nabla").nabla.enabled
    assert not load(MEDSCRIBE_NABLA_API_VERSION="archived").nabla.enabled


def test_what_is_no_credential_makes_no_provider_present(load: Callable[..., Settings]) -> None:
    found = load(
        MEDSCRIBE_NABLA_WEBHOOK_SECRET="s",
        MEDSCRIBE_NABLA_REGION="eu",
        MEDSCRIBE_INTRON_CA_FILE="/etc/ca.pem",
        MEDSCRIBE_RECEIVER_PATH_SECRET="s" * 24,
    )

    assert found.providers == ()


def test_providers_that_work_on_order_have_their_own_times(load: Callable[..., Settings]) -> None:
    found = load(MEDSCRIBE_NABLA_POLL_FIRST_S="0.5", MEDSCRIBE_INTRON_JOBS_PER_RUN="7")

    assert (found.nabla.poll_first_s, found.intron.poll_first_s) == (0.5, 10.0)
    assert (found.nabla.jobs_per_run, found.intron.jobs_per_run) == (10_000, 7)


def test_what_to_ask_intron_for_is_a_json_list(load: Callable[..., Settings]) -> None:
    found = load(MEDSCRIBE_INTRON_POST_PROCESSING='["summary", "treatment_plan"]')

    assert found.intron.post_processing == ("summary", "treatment_plan")


def test_an_ehr_token_without_an_ehr_names_what_is_missing(load: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError, match="MEDSCRIBE_EHR_BASE_URL"):
        load(MEDSCRIBE_EHR_TOKEN="t")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MEDSCRIBE_TIMEZONE", "Europe/Atlantis-canary"),
        ("MEDSCRIBE_TIMEZONE", "../canary"),
        ("MEDSCRIBE_FIRST_DAY", "canary"),
        ("MEDSCRIBE_ACCOUNT", "canary with spaces"),
        ("MEDSCRIBE_ACCOUNT", "c" * 65),
        ("MEDSCRIBE_LAG_S", "canary"),
        ("MEDSCRIBE_LAG_S", "-1"),
        ("MEDSCRIBE_BACKFILL", "canary"),
        ("MEDSCRIBE_FHIR_BASE_URI", "canary"),
        ("MEDSCRIBE_ASKARA_BASE_URL", "ftp://canary"),
        ("MEDSCRIBE_ASKARA_BASE_URL", "https://user:canary@askara.example"),
        ("MEDSCRIBE_ASKARA_PAGE_SIZE", "0"),
        ("MEDSCRIBE_ASKARA_PAGE_SIZE", "101"),
        ("MEDSCRIBE_ASKARA_NOTES_AUDIO_FILTER", "canary&x=1"),
        ("MEDSCRIBE_ASKARA_REVIEWED_STEPS", "canary"),
        ("MEDSCRIBE_ASKARA_REVIEWED_STEPS", '["validated", "canary"]'),
        ("MEDSCRIBE_ASKARA_REVIEWED_STEPS", '["validated", "transcription"]'),
        ("MEDSCRIBE_ASKARA_REVIEWED_STEPS", '["edition"]'),
        ("MEDSCRIBE_ASKARA_REVIEWED_STEPS", "[]"),
        ("MEDSCRIBE_FHIR_RENDERINGS", "canary"),
        ("MEDSCRIBE_AUDIOSCRIBE_RESOURCE", "canary"),
        ("MEDSCRIBE_AUDIOSCRIBE_REVIEWED", "canary"),
        ("MEDSCRIBE_AUDIOSCRIBE_CONNECTIONS", "0"),
        ("MEDSCRIBE_AUDIOSCRIBE_PATIENT_SYSTEM", "canary"),
        ("MEDSCRIBE_NABLA_REGION", "canary"),
        ("MEDSCRIBE_NABLA_API_VERSION", "canary"),
        ("MEDSCRIBE_NABLA_PATH_PREFIX", "canary?x"),
        ("MEDSCRIBE_NABLA_CALLBACK_URL", "https://host.example/callbacks?secret=canary"),
        ("MEDSCRIBE_NABLA_POLL_FIRST_S", "canary"),
        ("MEDSCRIBE_INTRON_CATEGORY", "canary"),
        ("MEDSCRIBE_INTRON_POST_PROCESSING", "canary"),
        ("MEDSCRIBE_INTRON_POLL_LONGEST_S", "0"),
        ("MEDSCRIBE_RECEIVER_PORT", "65536"),
        ("MEDSCRIBE_RECEIVER_PATH_SECRET", "canary-too-short"),
        ("MEDSCRIBE_NABLA", "canary"),
        ("MEDSCRIBE_EHR_BASE_URL", "https://canary.example/fhir?secret=1"),
        ("MEDSCRIBE_EHR_TIMEOUT_S", "canary"),
        ("MEDSCRIBE_EHR_TARGET", "canary/target"),
        ("MEDSCRIBE_ASKARA", "canary"),
        ("MEDSCRIBE_EHR", "{canary"),
    ],
)
def test_a_wrong_value_names_its_variable_and_is_not_shown(
    load: Callable[..., Settings], variable: str, value: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(**{variable: value})

    assert variable in raised.value.message
    assert "canary" not in str(raised.value)
    assert "Value error" not in raised.value.message
    assert raised.value.code == "setting"
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("edition", "MEDSCRIBE_ASKARA_REVIEWED_STEPS: must be JSON"),
        ('["edition"]', "MEDSCRIBE_ASKARA_REVIEWED_STEPS: must list validated: what a clinician has signed off is"),
        (
            '["validated", "audio_recording"]',
            "MEDSCRIBE_ASKARA_REVIEWED_STEPS: Input should be 'transcribed', 'edition' or 'validated'",
        ),
    ],
)
def test_steps_that_cannot_count_as_reviewed_are_refused(
    load: Callable[..., Settings], value: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(MEDSCRIBE_ASKARA_REVIEWED_STEPS=value)

    assert complaint in raised.value.message


def test_steps_that_count_as_reviewed(load: Callable[..., Settings]) -> None:
    assert load().askara.reviewed_steps == ("validated",)
    found = load(MEDSCRIBE_ASKARA_REVIEWED_STEPS='["validated", "edition"]')
    assert found.askara.reviewed_steps == ("validated", "edition")


def test_several_wrong_values_are_named_at_once(load: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError) as raised:
        load(MEDSCRIBE_LAG_S="x", MEDSCRIBE_TIMEZONE="y")

    assert "MEDSCRIBE_LAG_S" in raised.value.message
    assert "MEDSCRIBE_TIMEZONE" in raised.value.message


@pytest.mark.parametrize("variables", [SECRETS, {**OAUTH, "MEDSCRIBE_AUDIOSCRIBE_TOKEN": "canary-2"}])
def test_no_secret_is_ever_shown(load: Callable[..., Settings], variables: dict[str, str]) -> None:
    found = load(**variables)

    shown = [
        text
        for thing in (found, *(getattr(found, name) for name in (*found.providers, "ehr", "receiver")))
        for text in (repr(thing), str(thing), thing.model_dump_json(), str(thing.model_dump()))
    ]
    assert not any("canary" in text for text in shown)
    assert "askara" not in found.model_dump()


def test_empty_variables_count_as_not_set(load: Callable[..., Settings]) -> None:
    found = load(
        MEDSCRIBE_ASKARA_TOKEN="", MEDSCRIBE_LAG_S="", MEDSCRIBE_EHR_BASE_URL="", MEDSCRIBE_ASKARA_CLIENT_ID=""
    )

    assert (found.providers, found.lag_s, found.ehr.enabled) == ((), 30, False)


def test_variables_are_read_from_a_file_and_the_environment_wins(
    load: Callable[..., Settings], clean_environment: Path
) -> None:
    (clean_environment / ".env").write_text(
        "MEDSCRIBE_AUDIOSCRIBE_TOKEN=from-file\nMEDSCRIBE_TIMEZONE=Europe/Paris\nMEDSCRIBE_LAG_S=7\nOTHER=1\n"
    )

    found = load(MEDSCRIBE_LAG_S="8")

    assert found.audioscribe.token is not None
    assert found.audioscribe.token.get_secret_value() == "from-file"
    assert (found.timezone, found.lag_s) == ("Europe/Paris", 8)


def test_a_file_that_is_no_text_is_said_so(load: Callable[..., Settings], clean_environment: Path) -> None:
    (clean_environment / ".env").write_bytes(b"MEDSCRIBE_TIMEZONE=\xff\xfecanary\n")

    with pytest.raises(ConfigError) as raised:
        load()

    assert ".env" in raised.value.message
    assert "canary" not in str(raised.value)


def test_unknown_variables_are_left_to_others(load: Callable[..., Settings]) -> None:
    assert load(MEDSCRIBE_SOMEDAY="1", MEDSCRIBE_ASKARA_SOMEDAY="1").providers == ()


def test_urls_and_paths_are_brought_into_one_form(load: Callable[..., Settings], clean_environment: Path) -> None:
    found = load(
        MEDSCRIBE_ASKARA_BASE_URL="https://a.example/api//",
        MEDSCRIBE_FHIR_BASE_URI="https://h.example/fhir/",
        MEDSCRIBE_HOME="relative",
    )

    assert found.askara.base_url == "https://a.example/api"
    assert found.fhir.base_uri == "https://h.example/fhir"
    assert found.home == clean_environment / "relative"
    assert found.database_url == f"sqlite:///{clean_environment}/relative/warehouse.sqlite"


def test_identifier_systems_are_those_of_the_hospital_or_ours(load: Callable[..., Settings]) -> None:
    found = load(MEDSCRIBE_ASKARA_PATIENT_SYSTEM="urn:oid:1.2.3", MEDSCRIBE_ACCOUNT="north")

    assert found.identifier_system("askara", "patient") == "urn:oid:1.2.3"
    assert (
        found.identifier_system("audioscribe", "encounter")
        == "https://medscribe-pipeline.github.io/fhir/sid/audioscribe/north/encounter"
    )


def test_settings_do_not_change_once_read(load: Callable[..., Settings]) -> None:
    found = load()

    with pytest.raises(ValueError, match="frozen"):
        found.account = "other"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(
        [
            f"{prefix}{field}".upper()
            for prefix, cls in (
                ("medscribe_", Settings),
                ("medscribe_askara_", AskaraSettings),
                ("medscribe_audioscribe_", AudioScribeSettings),
                ("medscribe_nabla_", NablaSettings),
                ("medscribe_intron_", IntronSettings),
                ("medscribe_ehr_", EhrSettings),
                ("medscribe_receiver_", ReceiverSettings),
            )
            for field in cls.model_fields
        ]
    ),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30),
)
def test_any_value_is_taken_or_refused_with_the_name_of_its_variable(
    load: Callable[..., Settings], name: str, value: str
) -> None:
    try:
        load(**{name: value})
    except ConfigError as error:
        text = str(error)
    else:
        return
    assert "MEDSCRIBE_" in text
    assert len(value) < 8 or value not in text


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("MEDSCRIBE_EHR_MORE_TARGETS", "store", "MEDSCRIBE_EHR_MORE_TARGETS: must be JSON"),
        ("MEDSCRIBE_FHIR_RENDERINGS", "pdf", "MEDSCRIBE_FHIR_RENDERINGS: must be JSON"),
        ("MEDSCRIBE_EHR_MORE_TARGETS", '["a b"]', "MEDSCRIBE_EHR_MORE_TARGETS: must be names of letters"),
        ("MEDSCRIBE_EHR_MORE_TARGETS", '["a", "A"]', "MEDSCRIBE_EHR_MORE_TARGETS: names a target twice"),
        ("MEDSCRIBE_EHR_MORE_TARGETS", '["a-b", "a.b"]', "MEDSCRIBE_EHR_MORE_TARGETS: names a target twice"),
    ],
)
def test_a_wrong_list_names_its_variable(
    clean_environment: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    assert clean_environment
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigError) as caught:
        Settings.load()

    assert told in str(caught.value)


def test_further_targets_have_variables_of_their_own(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_environment
    monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["store-1", "unused"]')
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_1_BASE_URL", "https://store.example/fhir")
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_1_KIND", "hapi")

    targets = Settings.load().targets

    assert {name: (each.base_url, each.kind) for name, each in targets.items()} == {
        "store-1": ("https://store.example/fhir", "hapi")
    }
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_1_KIND", "abacus")
    with pytest.raises(ConfigError, match="MEDSCRIBE_EHR_STORE_1_KIND: "):
        Settings.load()


def test_two_targets_have_two_names(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_environment
    monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["ehr"]')
    assert Settings.load().targets == {}
    monkeypatch.setenv("MEDSCRIBE_EHR_BASE_URL", "https://ehr.example/fhir")

    with pytest.raises(ConfigError, match="MEDSCRIBE_EHR_TARGET are the same name"):
        Settings.load()
