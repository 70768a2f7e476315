"""The signing key: in whatever PEM form it comes, refused where it should be, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, KeySet, RSAKey

from medscribe_pipeline.ehr.keys import ClientKey, load_client_key
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.settings import EhrSettings

if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}
RSA = RSAKey.generate_key(2048)
EC = ECKey.generate_key("P-384")


def pem(key: RSAKey | ECKey, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    assert key.private_key is not None
    return key.private_key.private_bytes(Encoding.PEM, form, NoEncryption())


def load(folder: Path, content: bytes, *, mode: int = 0o600, **settings: Any) -> ClientKey:
    path = folder / "qxcanary.pem"
    path.write_bytes(content)
    path.chmod(mode)
    own = {"base_url": "https://ehr.example", "client_id": "c", "private_key_file": path}
    return load_client_key(EhrSettings(**{**own, **settings}))


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize(("key", "alg", "kty"), [(RSA, "RS384", "RSA"), (EC, "ES384", "EC")])
@pytest.mark.parametrize("chosen", [True, False])
def test_a_key_in_either_form_signs_what_its_public_half_verifies(
    tmp_path: Path, form: PrivateFormat, key: RSAKey | ECKey, alg: str, kty: str, chosen: bool
) -> None:
    loaded = load(tmp_path, pem(key, form), signing_alg=alg if chosen else None)

    public = loaded.public_jwk()
    token = jwt.decode(loaded.sign({"iss": "c"}), KeySet.import_key_set({"keys": [public]}), algorithms=[alg])
    assert (token.claims, token.header["kid"]) == ({"iss": "c"}, key.thumbprint())
    assert (public["kty"], public["alg"], public["use"], public["kid"]) == (kty, alg, "sig", key.thumbprint())
    assert not PRIVATE_MEMBERS & set(public)


def test_the_name_of_the_key_may_be_set(tmp_path: Path) -> None:
    loaded = load(tmp_path, pem(EC), key_id="writer-2026")

    assert (loaded.kid, loaded.public_jwk()["kid"]) == ("writer-2026", "writer-2026")


def test_nothing_private_is_shown(tmp_path: Path) -> None:
    private = RSA.as_dict(private=True)

    shown = repr(load(tmp_path, pem(RSA)))

    assert "RS384" in shown
    assert not any(str(private[name]) in shown for name in PRIVATE_MEMBERS & set(private))


def ed25519() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("content", "settings", "told"),
    [
        (pem(RSA), {"signing_alg": "ES384"}, "no EC key"),
        (pem(EC), {"signing_alg": "RS384"}, "no RSA key"),
        (pem(ECKey.generate_key("P-256")), {}, "P-384"),
        (pem(ECKey.generate_key("P-521")), {"signing_alg": "ES384"}, "P-384"),
        (ed25519(), {}, "no RSA or EC key"),
        (RSA.as_pem(private=False), {}, "public key"),
        (EC.as_pem(private=False), {}, "public key"),
        (RSA.as_pem(private=True, password="qxcanary"), {}, "encrypted"),
        (EC.as_pem(private=True, password="qxcanary"), {"signing_alg": "ES384"}, "encrypted"),
        (b"", {}, "holds no private key"),
        (b"qxcanary", {}, "holds no private key"),
        (pem(EC)[:-60], {}, "holds no private key"),
        (b"x" * 70_000, {}, "too large"),
    ],
)
def test_what_cannot_sign_is_refused_and_not_quoted(
    tmp_path: Path, content: bytes, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, content, **settings)

    error = caught.value
    assert (error.code, error.__cause__, error.__context__) == ("private_key", None, None)
    assert told in error.message
    assert "MEDSCRIBE_EHR_PRIVATE_KEY_FILE" in str(error.context["setting"])
    assert ("MEDSCRIBE_EHR_SIGNING_ALG" in str(error.context["setting"])) == ("signing_alg" in settings)
    assert "qxcanary" not in str(error)


def test_a_short_rsa_key_is_refused(tmp_path: Path) -> None:
    with pytest.warns(SecurityWarning):
        short = RSAKey.generate_key(1024)

    with pytest.raises(ConfigError, match="too short"):
        load(tmp_path, pem(short))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o660, 0o777])
def test_a_key_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="chmod 600"):
        load(tmp_path, pem(EC), mode=mode)


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_a_key_for_its_owner_only_is_taken(tmp_path: Path, mode: int) -> None:
    assert load(tmp_path, pem(EC), mode=mode).alg == "ES384"


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    own: dict[str, Any] = {"base_url": "https://ehr.example", "client_id": "c"}

    for path, told in ((tmp_path, "is no file"), (tmp_path / "qxcanary", "does not exist")):
        with pytest.raises(ConfigError, match=told):
            load_client_key(EhrSettings(**own, private_key_file=path))
    with pytest.raises(ConfigError, match="MEDSCRIBE_EHR_PRIVATE_KEY_FILE is not set"):
        load_client_key(EhrSettings(**own, client_secret="s"))
