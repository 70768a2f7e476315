from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from medscribe_pipeline.sandbox import AskaraOptions, Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def running(clock: Clock, tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(clock=clock, state=tmp_path / "state.sqlite") as sandbox:
        yield sandbox


def _exchange(sandbox: Sandbox, **body: str) -> httpx.Response:
    environment = sandbox.environment(oauth=True)
    whole = {
        "grant_type": "refresh_token",
        "client_id": environment["MEDSCRIBE_ASKARA_CLIENT_ID"],
        "client_secret": environment["MEDSCRIBE_ASKARA_CLIENT_SECRET"],
        "refresh_token": environment["MEDSCRIBE_ASKARA_REFRESH_TOKEN"],
        **body,
    }
    return httpx.post(f"{sandbox.askara_url}/oauth2/token", json=whole)


def _me(sandbox: Sandbox, token: str) -> int:
    return httpx.get(f"{sandbox.askara_url}/me", headers={"authorization": f"Bearer {token}"}).status_code


def test_a_refresh_token_yields_an_access_token_and_its_successor(running: Sandbox) -> None:
    answer = _exchange(running).json()

    assert set(answer) == {"token_type", "expires_in", "access_token", "refresh_token"}
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 3600)
    assert _me(running, answer["access_token"]) == 200


def test_a_refresh_token_is_spent_once_and_its_successor_works(running: Sandbox) -> None:
    first = _exchange(running)
    again = _exchange(running)
    successor = _exchange(running, refresh_token=first.json()["refresh_token"])

    assert (again.status_code, again.json()) == (400, {"error": "invalid_grant"})
    assert successor.status_code == 200
    assert _exchange(running, refresh_token=first.json()["refresh_token"]).status_code == 400


def test_access_tokens_expire_after_an_hour(running: Sandbox, clock: Clock) -> None:
    token = _exchange(running).json()["access_token"]

    clock.now += 3599
    before = _me(running, token)
    clock.now += 2
    after = _me(running, token)

    assert (before, after) == (200, 401)


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": "wrong"}, 401, "invalid_client"),
        ({"refresh_token": "wrong"}, 400, "invalid_grant"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
    ],
)
def test_refused_exchanges_spend_nothing(running: Sandbox, body: dict[str, str], status: int, error: str) -> None:
    refused = _exchange(running, **body)

    assert (refused.status_code, refused.json()) == (status, {"error": error})
    assert _exchange(running).status_code == 200


def test_the_token_body_is_json(running: Sandbox) -> None:
    form = httpx.post(f"{running.askara_url}/oauth2/token", data={"grant_type": "refresh_token"})

    assert form.status_code == 400


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic c2FuZGJveA=="}])
def test_no_good_token_no_data(running: Sandbox, header: dict[str, str]) -> None:
    for path in ("/audios", "/notes", "/me"):
        answer = httpx.get(running.askara_url + path, headers=header)
        assert (answer.status_code, answer.json()["status"]) == (401, 401)


def test_rotation_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with Sandbox(state=path, askara=AskaraOptions()) as first:
        tokens = _exchange(first).json()

    with Sandbox(state=path) as second:
        assert _exchange(second).status_code == 400
        assert _me(second, tokens["access_token"]) == 200
        assert _exchange(second, refresh_token=tokens["refresh_token"]).status_code == 200
