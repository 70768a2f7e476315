"""deploy/nginx: directives nginx has, where they may stand, and in step with the receiver."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import crossplane
import pytest

from medscribe_pipeline.settings import ReceiverSettings
from tests.deploy.deployed import DEPLOY, load, text

if TYPE_CHECKING:
    from pathlib import Path

CONF = DEPLOY / "nginx" / "receiver.conf"


def parsed(folder: Path, site: Path) -> dict[str, Any]:
    """The site as the image includes it, so that what stands in the wrong place is an error."""
    whole = folder / "nginx.conf"
    whole.write_text(f"events {{}}\nhttp {{ include {site}; }}\n", encoding="utf-8")
    found: dict[str, Any] = crossplane.parse(str(whole), strict=True)
    return found


def test_nginx_knows_every_directive(tmp_path: Path) -> None:
    found = parsed(tmp_path, CONF)

    assert found["errors"] == []
    assert len(found["config"]) == 2


@pytest.mark.parametrize("wrong", ["proxy_passs http://x;", "limit_except POST;", "listen;"])
def test_a_wrong_one_would_be_noticed(wrong: str, tmp_path: Path) -> None:
    (tmp_path / "site.conf").write_text(
        text("nginx/receiver.conf").replace("server_tokens off;", wrong), encoding="utf-8"
    )

    assert parsed(tmp_path, tmp_path / "site.conf")["status"] == "failed"


def test_it_is_in_step_with_the_receiver_and_the_containers() -> None:
    conf = CONF.read_text(encoding="utf-8")
    services = load("compose.yaml")["services"]
    receiver = ReceiverSettings.model_fields

    assert f"proxy_pass http://$receiver:{receiver['port'].default};" in conf
    assert services["receiver"]["environment"]["MEDSCRIBE_RECEIVER_PORT"] == str(receiver["port"].default)
    assert "set $receiver receiver;" in conf
    [size] = re.findall(r"client_max_body_size (\d+)m;", conf)
    assert int(size) * 1024**2 >= receiver["max_body_bytes"].default
    assert {f"/run/secrets/{name}" for name in services["proxy"]["secrets"]} == set(
        re.findall(r"/run/secrets/\w+", conf)
    )
    assert services["proxy"]["ports"][0].endswith(":" + re.findall(r"listen (\d+) ssl;", conf)[0])


def test_paths_are_not_logged() -> None:
    assert text("nginx/receiver.conf").count("access_log off;") == text("nginx/receiver.conf").count("server {")
