"""A token server that knows one good refresh token at a time, and a store in a file between processes."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

import orjson
from filelock import FileLock

from medscribe_pipeline.providers.oauth import RefreshTokenAuth, StoredTokens
from medscribe_pipeline.settings import AskaraSettings
from tests.medscribe_pipeline.providers.scripted_server import Hangup, Reply

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.medscribe_pipeline.providers.scripted_server import FakeClock, ScriptedServer, Seen


class FileStore:
    """One JSON file, and a lock beside it that the system frees when its holder dies."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "tokens.json"
        self._lock = folder / "tokens.lock"
        self.broken = 0

    def load(self) -> StoredTokens | None:
        if not self._file.exists():
            return None
        kept = orjson.loads(self._file.read_bytes())
        times = {key: datetime.fromisoformat(kept[key]) for key in ("expires_at", "rotated_at")}
        return StoredTokens(**{**kept, **times})

    def save(self, tokens: StoredTokens) -> None:
        if self.broken:
            self.broken -= 1
            raise OSError("disk full")
        self._file.write_bytes(orjson.dumps(asdict(tokens)))

    @contextmanager
    def lock(self) -> Iterator[None]:
        with FileLock(self._lock, timeout=20):
            yield


class TokenServer:
    """Knows one good refresh token at a time, as the vendor does; counts what is spent."""

    def __init__(self, server: ScriptedServer, life_s: object = 3600) -> None:
        self.current = "first"
        self.life_s = life_s
        self.spent: list[str] = []
        self.revoked: set[str] = set()
        self._lock = threading.Lock()
        server.responder = self.answer

    def answer(self, seen: Seen) -> Reply | Hangup:
        if seen.path != "/oauth2/token":
            good = seen.headers["authorization"] == f"Bearer access-{len(self.spent)}"
            return Reply(200 if good and seen.headers["authorization"] not in self.revoked else 401)
        with self._lock:
            if seen.json["refresh_token"] != self.current:
                return Reply(400, body=b'{"error": "invalid_grant"}')
            self.spent.append(self.current)
            self.current = f"refresh-{len(self.spent)}"
            tokens = {
                "token_type": "Bearer",
                "expires_in": self.life_s,
                "access_token": f"access-{len(self.spent)}",
                "refresh_token": self.current,
            }
            return Reply(body=orjson.dumps(tokens))


class AuthMaker:
    def __init__(self, server: ScriptedServer, store: FileStore, clock: FakeClock) -> None:
        self._server, self._store, self._clock = server, store, clock
        self._open: list[RefreshTokenAuth] = []

    def __call__(self, seed: str = "first", base: str | None = None) -> RefreshTokenAuth:
        settings = AskaraSettings(
            base_url=base or self._server.url,
            client_id="clinic",
            client_secret="client-secret",
            refresh_token=seed,
            timeout_s=5,
            max_attempts=3,
        )
        auth = RefreshTokenAuth(settings, self._store, clock=self._clock, sleep=self._clock.sleep)
        self._open.append(auth)
        return auth

    def close(self) -> None:
        for auth in self._open:
            auth.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
