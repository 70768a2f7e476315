"""`medscribe ehr jwks` and `medscribe ehr selftest`: what is printed, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from joserfc.jwk import ECKey, RSAKey

from medscribe_pipeline.sandbox import Sandbox
from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.cli.conftest import Ran


@pytest.fixture
def keys(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, RSAKey | ECKey]:
    """Two targets, each with a key of its own."""
    assert home
    made: dict[str, RSAKey | ECKey] = {"EHR": RSAKey.generate_key(2048), "EHR_STORE_1": ECKey.generate_key("P-384")}
    monkeypatch.setenv("MEDSCRIBE_EHR_MORE_TARGETS", '["store-1"]')
    for name, key in made.items():
        path = tmp_path / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(key.as_pem(private=True))
        monkeypatch.setenv(f"MEDSCRIBE_{name}_BASE_URL", "https://ehr.example/r4")
        monkeypatch.setenv(f"MEDSCRIBE_{name}_CLIENT_ID", "writer")
        monkeypatch.setenv(f"MEDSCRIBE_{name}_PRIVATE_KEY_FILE", str(path))
    return made


def test_the_public_key_of_the_first_target_is_printed(
    keys: dict[str, RSAKey | ECKey], medscribe: Callable[..., Ran]
) -> None:
    ran = medscribe("ehr", "jwks")

    public = keys["EHR"].as_dict(private=False)
    kid = keys["EHR"].thumbprint()
    assert (ran.code, ran.err) == (0, "")
    assert ran.json == {"keys": [{**public, "kid": kid, "alg": "RS384", "use": "sig"}]}
    assert set(ran.json["keys"][0]) == {"kty", "n", "e", "kid", "alg", "use"}


def test_that_of_another_target_by_its_name(
    keys: dict[str, RSAKey | ECKey], medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDSCRIBE_EHR_STORE_1_KEY_ID", "writer-2026")

    (key,) = medscribe("ehr", "jwks", "--target", "store-1").json["keys"]

    assert set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"}
    assert (key["kid"], key["alg"], key["crv"]) == ("writer-2026", "ES384", "P-384")
    assert key["x"] == keys["EHR_STORE_1"].as_dict(private=False)["x"]


def test_a_target_there_is_not_is_exit_code_2(keys: dict[str, RSAKey | ECKey], medscribe: Callable[..., Ran]) -> None:
    assert keys

    ran = medscribe("ehr", "jwks", "--target", "absent")

    assert (ran.code, ran.out) == (2, "")
    assert "known are: ehr, store-1" in ran.err


def test_without_a_target_or_a_key_the_variable_is_named(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home

    nowhere = medscribe("ehr", "jwks")
    monkeypatch.setenv("MEDSCRIBE_EHR_BASE_URL", "https://ehr.example/r4")
    keyless = medscribe("ehr", "jwks")

    assert (nowhere.code, keyless.code) == (2, 2)
    assert "MEDSCRIBE_EHR_BASE_URL is not set" in nowhere.err
    assert "MEDSCRIBE_EHR_PRIVATE_KEY_FILE is not set" in keyless.err


def test_a_key_open_to_others_is_not_read(
    keys: dict[str, RSAKey | ECKey], medscribe: Callable[..., Ran], tmp_path: Path
) -> None:
    assert keys
    (tmp_path / "EHR.pem").chmod(0o644)

    ran = medscribe("ehr", "jwks")

    assert (ran.code, ran.out) == (2, "")
    assert "chmod 600" in ran.err
    assert "MEDSCRIBE_EHR_PRIVATE_KEY_FILE" in ran.err


PATIENT = "urn:example:patients|synthetic-test-patient"


@pytest.fixture
def odd(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OddEhr]:
    """A server that is the target."""
    assert home
    server = OddEhr()
    monkeypatch.setenv("MEDSCRIBE_EHR_BASE_URL", server.base_url)
    monkeypatch.setenv("MEDSCRIBE_EHR_RECONCILE_AFTER_S", "0")
    yield server
    server.close()


def test_a_good_target_is_exit_code_0_and_what_stays_is_named(odd: OddEhr, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("ehr", "selftest", "--patient", PATIENT)

    assert ran.code == 0
    assert "What deliveries rely on holds." in ran.words
    assert "conditional_create_holds ok" in ran.words
    for each in odd.newest("Composition"):
        assert f"Composition/{each['id']} entered-in-error" in ran.words
    assert "synthetic-test-patient" not in ran.out + ran.err


def test_the_same_as_json(odd: OddEhr, medscribe: Callable[..., Ran]) -> None:
    ran = medscribe("ehr", "selftest", "--patient", PATIENT, "--json")

    assert (ran.code, ran.json["exit_code"], ran.json["problem"]) == (0, 0, None)
    assert ran.json["requests"] == len(odd.seen)
    assert {each["state"] for each in ran.json["findings"]} == {"ok"}
    assert {each["status"] for each in ran.json["left"]} == {"entered-in-error"}
    assert (ran.json["capabilities_file"], ran.json["settings"]) == ([], {})
    assert "synthetic-test-patient" not in ran.out + ran.err


def test_a_bad_target_is_exit_code_2_and_the_lines_for_the_file_are_printed(
    odd: OddEhr, medscribe: Callable[..., Ran]
) -> None:
    odd.does.conditional = False

    ran = medscribe("ehr", "selftest", "--patient", PATIENT)

    assert ran.code == 2
    assert "MEDSCRIBE_EHR_CAPABILITIES" in ran.words
    assert "conditional_create = false  # conditional_create_holds\n" in ran.out
    assert 'strategy = "unconditional"' in ran.out


def test_the_endpoint_of_the_sandbox_is_tried_with_its_token(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    with Sandbox() as sandbox:
        for name, value in sandbox.environment().items():
            monkeypatch.setenv(name, value)
        ran = medscribe("ehr", "selftest", "--json")

    assert ran.code == 0
    assert any("synthetic patient" in each for each in ran.json["warnings"])


def test_a_target_that_is_not_there_is_exit_code_3(
    home: Path, medscribe: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home
    monkeypatch.setenv("MEDSCRIBE_EHR_BASE_URL", "http://127.0.0.1:9/fhir")
    monkeypatch.setenv("MEDSCRIBE_EHR_MAX_ATTEMPTS", "1")

    ran = medscribe("ehr", "selftest", "--patient", PATIENT)

    assert (ran.code, ran.out) == (3, "")
    assert "code=unreachable" in ran.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--patient", "synthetic-test-patient"), "SYSTEM|VALUE"),
        (("--patient", PATIENT, "--patient-id", "p1"), "not by both"),
        (("--patient-id", "p/1"), "no logical id"),
        (("--target", "absent"), "known are: ehr"),
    ],
)
def test_what_is_typed_wrong_is_exit_code_2_and_sends_nothing(
    odd: OddEhr, medscribe: Callable[..., Ran], options: tuple[str, ...], told: str
) -> None:
    ran = medscribe("ehr", "selftest", *options)

    assert (ran.code, ran.out, odd.writes()) == (2, "", [])
    assert told in ran.err
    assert "synthetic-test-patient" not in ran.err
