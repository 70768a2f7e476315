"""The pushing side of all four providers: jobs move on, news is noticed, and what is due goes out, tick by tick.

A tick is a step of the sandbox's own time. Nobody has to wait for one: a test asks for it, a long-running sandbox
makes one every few seconds.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.sandbox.askara import note_item
from medscribe_pipeline.sandbox.askara_webhooks import EVENTS, envelope
from medscribe_pipeline.sandbox.audioscribe import session_item

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from medscribe_pipeline.sandbox.askara_webhooks import AskaraWebhooks
    from medscribe_pipeline.sandbox.intron import Intron
    from medscribe_pipeline.sandbox.nabla import Nabla
    from medscribe_pipeline.sandbox.outbox import Outbox, Signature
    from medscribe_pipeline.sandbox.world import World

__all__ = ["Pushes", "Ticker"]


class Pushes:
    """What the providers tell by themselves.

    Args:
        world: Watched for new sessions, notes and documents; what it holds now is no news.
        nabla: Its jobs move on with every tick.
        intron: Likewise.
        outbox: What is sent goes there.
        webhooks: Askara's registrations.
    """

    def __init__(self, world: World, nabla: Nabla, intron: Intron, outbox: Outbox, webhooks: AskaraWebhooks) -> None:
        self._world = world
        self._nabla = nabla
        self._intron = intron
        self._outbox = outbox
        self._webhooks = webhooks
        self._lock = threading.Lock()
        self._known = {name: set(self._keys(name)) for name in ("sessions", "notes", "documents")}

    def tick(self, times: int = 1) -> dict[str, int]:
        """Lets time pass: every job takes a step, news is put into the outbox, and what is due is sent.

        Returns:
            How many jobs ended, and what became of messages (see `Outbox.deliver`), all ticks together.
        """
        counts = {"finished": 0}
        for _ in range(times):
            counts["finished"] += self._nabla.book.tick() + self._intron.book.tick()
            self._notice()
            for outcome, count in self._outbox.deliver().items():
                counts[outcome] = counts.get(outcome, 0) + count
        return counts

    def push(
        self,
        app: str,
        keys: Iterable[str],
        *,
        event: str = "new_note",
        times: int = 1,
        signature: Signature = "good",
        changes: Mapping[str, Any] | None = None,
    ) -> dict[str, int]:
        """Sends something now, whether it is news or not.

        Args:
            app: `nabla`, `audioscribe` or `askara`.
            keys: Jobs, sessions, or notes (for `new_note`) and documents.
            event: Of Askara's: `new_note`, `new_document` or `document_synchronize`.
            times: How often each is sent.
            signature: Of Nabla's: anything but `good` is a forgery.
            changes: Fields to lie about, in sessions, notes and documents.

        Returns:
            How many messages were `queued`, and what became of all that were due.

        Raises:
            KeyError: There is no such key.
            ValueError: There is no such app, event or signature.
        """
        queued = 0
        for key in keys:
            for _ in range(times):
                if app == "nabla":
                    queued += self._push_job(key, signature)
                elif app == "audioscribe":
                    queued += self._push_session(key, changes or {})
                elif app == "askara" and event in EVENTS:
                    queued += self._push_event(event, key, changes or {})
                else:
                    raise ValueError("unknown app or event")
        return {"queued": queued, **self._outbox.deliver()}

    def _notice(self) -> None:
        """Puts what is new since the last time into the outbox."""
        with self._lock:
            for key in self._new("sessions"):
                self._push_session(key, {})
            for key in self._new("notes"):
                self._push_event("new_note", key, {})
            for key in self._new("documents"):
                self._push_event("new_document", key, {})

    def _new(self, name: str) -> list[str]:
        new = [key for key in self._keys(name) if key not in self._known[name]]
        self._known[name].update(new)
        return new

    def _keys(self, name: str) -> list[str]:
        with self._world.lock:
            if name == "documents":
                return [document for audio in self._world.items.audios.values() for document in audio["documents"]]
            return list(self._world.records(name))

    def _push_job(self, key: str, signature: Signature) -> int:
        if self._nabla.book.get(key) is None:
            raise KeyError(key)
        if signature not in {"none", "good", "wrong", "stale"}:
            raise ValueError("unknown signature")
        return int(self._nabla.push(key, signature))

    def _push_session(self, key: str, changes: Mapping[str, Any]) -> int:
        session = self._world.records("sessions")[key]
        url = self._outbox.targets["audioscribe"]
        if url is None:
            return 0
        # The vendor: the receiver's answer changes nothing, so there is no second attempt.
        self._outbox.put("audioscribe", url, {**session_item(session), **changes}, subject=key, attempts=1)
        return 1

    def _push_event(self, event: str, key: str, changes: Mapping[str, Any]) -> int:
        resource, user = self._resource(EVENTS[event], key)
        organization = next(iter(self._world.records("users")))
        hooks = self._webhooks.listening(event)
        for hook in hooks:
            payload = envelope(hook, event, {**resource, **changes}, user=user, organization=organization)
            self._outbox.put("askara", hook["url"], payload, subject=key)
        return len(hooks)

    def _resource(self, kind: str, key: str) -> tuple[dict[str, Any], str | None]:
        """A note or a document as its event shows it, and whose it is."""
        if kind == "note":
            note = self._world.records("notes")[key]
            return note_item(self._world, note), note["user"]
        with self._world.lock:
            for audio in self._world.items.audios.values():
                if key in audio["documents"]:
                    return {"uuid": key}, audio["user"]
        raise KeyError(key)


class Ticker:
    """Ticks every so often, in a thread of its own, until it is stopped."""

    def __init__(self, pushes: Pushes, every_s: float) -> None:
        self._pushes = pushes
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="medscribe-sandbox-ticks", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ends it; a tick that is under way may end later, but before its receivers' time is up."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._pushes.tick()
