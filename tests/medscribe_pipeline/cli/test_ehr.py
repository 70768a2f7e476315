"""`medscribe ehr jwks`: what is published, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from joserfc.jwk import ECKey, RSAKey

if TYPE_CHECKING:
    from collections.abc import Callable
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
