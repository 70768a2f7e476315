"""Credentials in the settings: which way they mean, and each half-set or contradicting group refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import EhrSettings, Settings

if TYPE_CHECKING:
    from pathlib import Path

WAYS: dict[str, tuple[str, ...]] = {
    "none": (),
    "bearer": ("TOKEN",),
    "basic": ("USERNAME", "PASSWORD"),
    "oauth2": ("CLIENT_ID", "CLIENT_SECRET"),
    "smart": ("CLIENT_ID", "PRIVATE_KEY_FILE"),
}
ALL = ("TOKEN", "USERNAME", "PASSWORD", "CLIENT_ID", "CLIENT_SECRET", "PRIVATE_KEY_FILE")
EXTRAS = {
    "KEY_ID": "PRIVATE_KEY_FILE",
    "SIGNING_ALG": "PRIVATE_KEY_FILE",
    "TOKEN_URL": "CLIENT_ID",
    "SCOPE": "CLIENT_ID",
    "CLIENT_KEY_FILE": "CLIENT_CERT_FILE",
}
VALUES = {"SIGNING_ALG": "RS384", "TOKEN_URL": "https://ehr.example/token"}
PREFIXES = pytest.mark.parametrize("prefix", ["MEDSCRIBE_EHR_", "MEDSCRIBE_EHR_STORE_1_"])


def load(monkeypatch: pytest.MonkeyPatch, *names: str, prefix: str = "MEDSCRIBE_EHR_", **more: str) -> EhrSettings:
    """The settings of the target of that prefix, with these variables set, and the base URL."""
    variables = {name: VALUES.get(name, f"qxcanary-{name}") for name in names}
    with monkeypatch.context() as patch:
        patch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["store-1"]')
        for name, value in {"BASE_URL": "https://ehr.example/r4", **variables, **more}.items():
            patch.setenv(f"{prefix}{name}", value)
        targets = Settings.load().targets
    return targets["ehr" if prefix == "MEDSCRIBE_EHR_" else "store-1"]


def problem(monkeypatch: pytest.MonkeyPatch, *names: str, prefix: str = "MEDSCRIBE_EHR_", **more: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(monkeypatch, *names, prefix=prefix, **more)
    assert caught.value.code == "setting"
    assert "qxcanary" not in str(caught.value)
    return caught.value.message


@pytest.fixture(autouse=True)
def _alone(clean_environment: Path) -> None:
    assert clean_environment


@PREFIXES
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("auto", [True, False])
def test_a_whole_group_tells_the_way(monkeypatch: pytest.MonkeyPatch, way: str, auto: bool, prefix: str) -> None:
    found = load(monkeypatch, *WAYS[way], prefix=prefix, **({} if auto else {"AUTH": way}))

    assert found.sign_in == way
    assert "qxcanary-TOKEN" not in repr(found)


@PREFIXES
@pytest.mark.parametrize(
    ("given_ones", "missing_ones"),
    [
        (["USERNAME"], ["PASSWORD"]),
        (["PASSWORD"], ["USERNAME"]),
        (["CLIENT_ID"], ["CLIENT_SECRET", "PRIVATE_KEY_FILE"]),
        (["CLIENT_SECRET"], ["CLIENT_ID"]),
        (["PRIVATE_KEY_FILE"], ["CLIENT_ID"]),
        *(([extra], [needs]) for extra, needs in EXTRAS.items()),
        (["CLIENT_ID", "CLIENT_SECRET", "KEY_ID"], ["PRIVATE_KEY_FILE"]),
        (["TOKEN", "SCOPE"], ["CLIENT_ID"]),
    ],
)
def test_half_a_group_names_the_other_half(
    monkeypatch: pytest.MonkeyPatch, given_ones: list[str], missing_ones: list[str], prefix: str
) -> None:
    told = problem(monkeypatch, *given_ones, prefix=prefix)

    named = told.partition("missing: ")[2]
    assert [name for name in (*ALL, "CLIENT_CERT_FILE") if f"{prefix}{name}" in named.split()] == missing_ones


@PREFIXES
@pytest.mark.parametrize(
    ("names", "told_ones"),
    [
        (["TOKEN", "USERNAME", "PASSWORD"], ["TOKEN", "USERNAME", "PASSWORD"]),
        (["TOKEN", "CLIENT_ID", "CLIENT_SECRET"], ["TOKEN", "CLIENT_ID", "CLIENT_SECRET"]),
        (["TOKEN", "CLIENT_ID"], ["TOKEN", "CLIENT_ID"]),
        (["CLIENT_ID", "CLIENT_SECRET", "PRIVATE_KEY_FILE"], ["CLIENT_SECRET", "PRIVATE_KEY_FILE"]),
    ],
)
def test_two_kinds_of_credentials_are_refused(
    monkeypatch: pytest.MonkeyPatch, names: list[str], told_ones: list[str], prefix: str
) -> None:
    told = problem(monkeypatch, *names, prefix=prefix)

    assert told.endswith(", ".join(f"{prefix}{name}" for name in told_ones))


@PREFIXES
def test_a_way_that_is_set_takes_its_own_credentials_only(monkeypatch: pytest.MonkeyPatch, prefix: str) -> None:
    assert f"{prefix}AUTH is none, which takes no {prefix}TOKEN" in problem(
        monkeypatch, "TOKEN", prefix=prefix, AUTH="none"
    )
    assert f"{prefix}AUTH is smart, which takes no {prefix}CLIENT_SECRET" in problem(
        monkeypatch, "CLIENT_ID", "CLIENT_SECRET", "PRIVATE_KEY_FILE", prefix=prefix, AUTH="smart"
    )
    assert f"missing: {prefix}USERNAME, {prefix}PASSWORD" in problem(monkeypatch, prefix=prefix, AUTH="basic")
    assert f"missing: {prefix}PRIVATE_KEY_FILE" in problem(monkeypatch, "CLIENT_ID", prefix=prefix, AUTH="smart")


@pytest.mark.parametrize("names", [WAYS["basic"], WAYS["oauth2"], WAYS["smart"], ("TOKEN",), ("CLIENT_CERT_FILE",)])
def test_credentials_without_a_server_name_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    assert "missing: MEDSCRIBE_EHR_BASE_URL" in problem(monkeypatch, *names, BASE_URL="")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("USERNAME", "qxcanary:colon"),
        ("USERNAME", "qxcanary\nline"),
        ("SCOPE", "qxcanary  two"),
        ("SCOPE", 'qxcanary"'),
        ("SIGNING_ALG", "qxcanary"),
        ("AUTH", "qxcanary"),
        ("TOKEN_URL", "qxcanary"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    assert f"MEDSCRIBE_EHR_{name}" in problem(monkeypatch, **{name: value})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.sets(st.sampled_from((*ALL, *EXTRAS, "CLIENT_CERT_FILE"))),
    auth=st.sampled_from(["auto", *WAYS]),
)
def test_whatever_is_set_either_one_whole_way_remains_or_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, names: set[str], auth: str
) -> None:
    refused = ""
    try:
        found = load(monkeypatch, *sorted(names), AUTH=auth)
    except ConfigError as error:
        refused = error.message
    if refused:
        assert "MEDSCRIBE_EHR_" in refused
        return
    assert auth in ("auto", found.sign_in)
    assert names & set(ALL) == set(WAYS[found.sign_in])
    assert all(EXTRAS[name] in names for name in names & set(EXTRAS))
