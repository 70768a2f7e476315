"""What the providers push: callbacks and webhooks on their way to the receiver, with retries and scripted mishaps.

Nothing leaves by itself. `deliver` sends what is due, in the order it was put in (or the reverse), and counts time in
its own calls: a message that is refused waits for the next one, and is given up after a bounded number of attempts.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import httpx
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from medscribe_pipeline.sandbox.corpus import Record
    from medscribe_pipeline.sandbox.state import State
    from medscribe_pipeline.sandbox.stats import Stats

__all__ = ["Outbox", "PushOptions", "Signature", "signature_headers"]

Signature = Literal["none", "good", "wrong", "stale"]
"""How a message is signed: not at all, as documented, with a secret nobody knows, or long ago."""

_WRONG_SECRET = "not-the-secret"  # noqa: S105 - that is the point of it
_STALE_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How pushing goes.

    Attributes:
        nabla_url: Where Nabla's webhook points; a job's own `callback_url` comes before it.
        audioscribe_url: Where AudioScribe posts new sessions.
        attempts: Deliveries tried before a message is given up. AudioScribe, which promises none, tries once.
        timeout_s: What a receiver has to answer, as the vendors ask (5 s).
        newest_first: Send what is due in reverse order.
    """

    nabla_url: str | None = None
    audioscribe_url: str | None = None
    attempts: int = 5
    timeout_s: float = 5.0
    newest_first: bool = False


class Outbox:
    """Messages on their way; methods may be called from any thread.

    Args:
        options: How delivery goes.
        secrets: Nabla's webhook secrets; each makes one signature.
        state: Where messages wait, also across a restart.
        stats: Counts what became of them, as `pushes`.
        clock: Seconds since the epoch, for the time in signatures.

    Attributes:
        targets: Where `nabla` and `audioscribe` post; `None` is nowhere. Changes count at once.
    """

    def __init__(
        self, options: PushOptions, secrets: Sequence[str], state: State, stats: Stats, clock: Callable[[], float]
    ) -> None:
        self._options = options
        self._secrets = tuple(secrets)
        self._state = state
        self._stats = stats
        self._clock = clock
        self._lock = RLock()
        self._one_at_a_time = Lock()
        self.targets = {"nabla": options.nabla_url, "audioscribe": options.audioscribe_url}
        self._is_closing = False
        self._client: httpx.Client | None = None
        self._waiting: dict[str, Record] = dict(state.load("outbox"))
        self._number = max((int(key) for key in self._waiting), default=0)

    def put(
        self,
        app: str,
        url: str,
        payload: Any,
        *,
        subject: str,
        delay: int = 0,
        signature: Signature = "none",
        attempts: int | None = None,
    ) -> None:
        """Adds a message.

        Args:
            app: Who sends it, for the counters.
            url: Where to; other than loopback is never called.
            payload: The JSON body.
            subject: What it is about, so that it can be delivered apart from the others.
            delay: Deliveries (calls of `deliver`) it sits out.
            signature: How it is signed. A `wrong` or `stale` one is sent once, whatever the answer.
            attempts: Deliveries tried; by default as the options say.
        """
        once = signature in {"wrong", "stale"}
        with self._lock:
            self._number += 1
            message = {
                "app": app,
                "url": url,
                "subject": subject,
                "body": orjson.dumps(payload).decode(),
                "delay": delay,
                "signature": signature,
                "attempts": 1 if once else attempts or self._options.attempts,
            }
            self._keep(str(self._number), message)

    def waiting(self) -> int:
        """Messages not delivered yet and not given up."""
        return len(self._waiting)

    def deliver(self, subject: str | None = None) -> dict[str, int]:
        """Sends everything that is due, or is about one subject, one after the other.

        Returns:
            How many were `delivered`, `refused` (tried again later), `given_up`, and `later` (not due yet).
        """
        counts = {"delivered": 0, "refused": 0, "given_up": 0, "later": 0}
        with self._one_at_a_time:
            with self._lock:
                batch = [item for item in self._waiting.items() if subject in (None, item[1]["subject"])]
            batch.sort(key=lambda item: int(item[0]), reverse=self._options.newest_first)
            for key, message in batch:
                if self._is_closing:
                    break
                outcome = self._try(key, message)
                counts[outcome] += 1
        return counts

    def close(self) -> None:
        """Ends open connections, once the message under way is settled; the others go on waiting."""
        self._is_closing = True
        with self._one_at_a_time:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _try(self, key: str, message: Record) -> str:
        if message["delay"] > 0:
            self._keep(key, {**message, "delay": message["delay"] - 1})
            return "later"
        kind = f"{message['app']} {message['signature']}"
        if self._is_accepted(message):
            self._keep(key, None)
            outcome = "delivered"
        elif message["attempts"] > 1:
            self._keep(key, {**message, "attempts": message["attempts"] - 1})
            outcome = "refused"
        else:
            self._keep(key, None)
            outcome = "given_up"
        self._stats.count_push(f"{kind} {outcome}")
        return outcome

    def _is_accepted(self, message: Record) -> bool:
        if not _is_loopback(message["url"]):
            return False
        body = message["body"].encode()
        headers = {"content-type": "application/json", "user-agent": f"sandbox-{message['app']}"}
        headers |= signature_headers(body, message["signature"], self._secrets, self._clock())
        if self._client is None:
            # A proxy of this machine has no business between two ends of loopback.
            self._client = httpx.Client(timeout=self._options.timeout_s, trust_env=False)
        try:
            return self._client.post(message["url"], content=body, headers=headers).is_success
        except httpx.HTTPError:
            return False

    def _keep(self, key: str, message: Record | None) -> None:
        with self._lock:
            if message is None:
                self._waiting.pop(key, None)
            else:
                self._waiting[key] = message
            self._state.save([("outbox", key, message)])


def signature_headers(body: bytes, signature: Signature, secrets: Sequence[str], now: float) -> dict[str, str]:
    """Nabla's webhook headers: an ISO 8601 time, and hex HMAC-SHA256 of that time and the raw body for each secret."""
    if signature == "none" or not secrets:
        return {}
    at = now - _STALE_S if signature == "stale" else now
    timestamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    keys = (_WRONG_SECRET,) if signature == "wrong" else secrets
    signatures = [hmac.new(key.encode(), timestamp.encode() + body, hashlib.sha256).hexdigest() for key in keys]
    return {"x-nabla-webhook-timestamp": timestamp, "x-nabla-webhook-signature": ",".join(signatures)}


def _is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine: the sandbox never talks to any other."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
