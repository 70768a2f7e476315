"""Runs the sandbox: one server on loopback with an app for each provider, `/fhir` and `/_control`."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from typing import TYPE_CHECKING, Self

import uvicorn

from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.sandbox.askara import AskaraOptions, askara_app
from medscribe_pipeline.sandbox.askara_webhooks import AskaraWebhooks
from medscribe_pipeline.sandbox.audioscribe import AudioScribeOptions, audioscribe_app
from medscribe_pipeline.sandbox.control import control_app
from medscribe_pipeline.sandbox.control_work import work_routes
from medscribe_pipeline.sandbox.fates import JobOptions
from medscribe_pipeline.sandbox.fhir_server import FhirOptions, fhir_app
from medscribe_pipeline.sandbox.fhir_store import FhirStore
from medscribe_pipeline.sandbox.inflict import FaultMiddleware, FaultSwitch
from medscribe_pipeline.sandbox.intron import Intron, IntronOptions
from medscribe_pipeline.sandbox.nabla import Nabla, NablaOptions
from medscribe_pipeline.sandbox.outbox import Outbox, PushOptions
from medscribe_pipeline.sandbox.pushes import Pushes, Ticker
from medscribe_pipeline.sandbox.state import State
from medscribe_pipeline.sandbox.stats import Stats, StatsMiddleware
from medscribe_pipeline.sandbox.world import World
from medscribe_pipeline.serving import Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from medscribe_pipeline.sandbox.corpus import CorpusOptions
    from medscribe_pipeline.sandbox.faults import Faults

__all__ = ["Sandbox"]

_STOP_TIMEOUT_S = 10.0


class Sandbox:
    """The outside world on loopback, as a context manager: it listens inside the block.

    Args:
        state: File in which it remembers everything across restarts; by default it forgets.
        corpus: What the providers hold at first.
        faults: What goes wrong; by default nothing. `set_faults` changes it while the server runs.
        host: A loopback address or `localhost`.
        port: 0 takes a free one.
        askara: Credentials and open questions of that vendor.
        audioscribe: The same.
        nabla: The same.
        intron: The same.
        jobs: How long the jobs of those two take, and what becomes of them.
        push: Where callbacks and webhooks go, and how.
        tick_every_s: Let time pass by itself; by default it passes by `pushes.tick` and the control endpoint only.
        audio_folder: Where sound files for Intron are put when the visits are asked for.
        fhir: The endpoint's token and limits.
        clock: Seconds since the epoch, for tokens, signatures and rate limits.

    Attributes:
        world: The providers' data; set while it runs.
        nabla: That provider and its jobs; set while it runs.
        intron: The same.
        outbox: What is waiting to be pushed, and where to; set while it runs.
        pushes: Makes time pass and sends things; set while it runs.
        fhir: The FHIR resources; set while it runs.
        stats: What the server saw.

    Raises:
        ConfigError: The host is not loopback, the port is taken, or the state cannot be used.
        Busy: Another sandbox runs on the same state.
    """

    world: World
    nabla: Nabla
    intron: Intron
    outbox: Outbox
    pushes: Pushes
    fhir: FhirStore

    def __init__(
        self,
        *,
        state: Path | None = None,
        corpus: CorpusOptions | None = None,
        faults: Faults | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        askara: AskaraOptions | None = None,
        audioscribe: AudioScribeOptions | None = None,
        nabla: NablaOptions | None = None,
        intron: IntronOptions | None = None,
        jobs: JobOptions | None = None,
        push: PushOptions | None = None,
        tick_every_s: float | None = None,
        audio_folder: Path | None = None,
        fhir: FhirOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.stats = Stats()
        self._address = _loopback(host)
        self._port = port
        self._state_path = state
        self._corpus = corpus
        self._switch = FaultSwitch(faults)
        self._askara = askara or AskaraOptions()
        self._audioscribe = audioscribe or AudioScribeOptions()
        self._nabla = nabla or NablaOptions()
        self._intron = intron or IntronOptions()
        self._jobs = jobs or JobOptions()
        self._push = push or PushOptions()
        self._tick_every_s = tick_every_s
        self._audio_folder = audio_folder
        self._fhir = fhir or FhirOptions()
        self._clock = clock
        self._ticker: Ticker | None = None
        self._state: State | None = None
        self._serving: Serving | None = None

    def __enter__(self) -> Self:
        self._state = State(self._state_path)
        try:
            self.world = World(self._corpus, self._state, self._audio_folder)
            self.outbox = Outbox(self._push, self._nabla.webhook_secrets, self._state, self.stats, self._clock)
            self.nabla = Nabla(self._nabla, self._jobs, self.outbox, self._state, self.stats, self._clock)
            self.intron = Intron(self.world, self._intron, self._jobs, self._state, self.stats, self._clock)
            self.fhir = FhirStore(self._state)
            self._start()
        except BaseException:
            self._state.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the server, open connections included, and lets the state go. Safe to call twice."""
        if self._ticker is not None:
            self._ticker.stop(_STOP_TIMEOUT_S)
            self._ticker = None
        if self._serving is not None:
            self._serving.stop()
            self._serving = None
            self.outbox.close()
        if self._state is not None:
            self._state.close()

    def set_faults(self, faults: Faults | None) -> None:
        """Changes what goes wrong from now on; `None` lets everything go right."""
        self._switch.set(faults)

    @property
    def url(self) -> str:
        """Root of the server."""
        host = f"[{self._address}]" if self._address.version == 6 else self._address  # noqa: PLR2004 - IPv6
        return f"http://{host}:{self._port}"

    @property
    def askara_url(self) -> str:
        """Base URL of the Askara API."""
        return f"{self.url}/askara"

    @property
    def audioscribe_url(self) -> str:
        """Base URL of the AudioScribe API; `/api/v1/audioscribe/...` comes after it."""
        return f"{self.url}/audioscribe"

    @property
    def nabla_url(self) -> str:
        """Base URL of the Nabla API; `/v1/core/server/...` comes after it."""
        return f"{self.url}/nabla"

    @property
    def intron_url(self) -> str:
        """Base URL of the Intron API; `/file/v1/...` comes after it."""
        return f"{self.url}/intron"

    @property
    def fhir_url(self) -> str:
        """FHIR base."""
        return f"{self.url}/fhir"

    @property
    def control_url(self) -> str:
        """Base of the control endpoints, see `control.py`."""
        return f"{self.url}/_control"

    def environment(self, *, oauth: bool = False) -> dict[str, str]:
        """The environment variables that point the pipeline here.

        Args:
            oauth: Askara by client id, secret and refresh token instead of a fixed token.
        """
        if oauth:
            askara = {
                "MEDSCRIBE_ASKARA_CLIENT_ID": self._askara.client_id,
                "MEDSCRIBE_ASKARA_CLIENT_SECRET": self._askara.client_secret,
                "MEDSCRIBE_ASKARA_REFRESH_TOKEN": self._askara.refresh_token,
            }
        else:
            askara = {"MEDSCRIBE_ASKARA_TOKEN": self._askara.token}
        ehr = {} if self._fhir.token is None else {"MEDSCRIBE_EHR_TOKEN": self._fhir.token}
        more = dict(ehr)
        if self._nabla.webhook_secrets:
            more["MEDSCRIBE_NABLA_WEBHOOK_SECRET"] = self._nabla.webhook_secrets[0]
        if self._audio_folder is not None:
            more["MEDSCRIBE_INTRON_AUDIO_FOLDER"] = str(self._audio_folder.absolute())
        return {
            "MEDSCRIBE_ASKARA_BASE_URL": self.askara_url,
            **askara,
            "MEDSCRIBE_AUDIOSCRIBE_BASE_URL": self.audioscribe_url,
            "MEDSCRIBE_AUDIOSCRIBE_TOKEN": self._audioscribe.token,
            "MEDSCRIBE_NABLA_BASE_URL": self.nabla_url,
            "MEDSCRIBE_NABLA_TOKEN": self._nabla.token,
            "MEDSCRIBE_INTRON_BASE_URL": self.intron_url,
            "MEDSCRIBE_INTRON_TOKEN": self._intron.token,
            "MEDSCRIBE_EHR_BASE_URL": self.fhir_url,
            **more,
        }

    def _start(self) -> None:
        family = socket.AF_INET6 if self._address.version == 6 else socket.AF_INET  # noqa: PLR2004 - IPv6
        # The protocol is named because asyncio turns Nagle's algorithm off only where it reads TCP on the socket;
        # with it on, every answer waits 40 ms for the client's delayed acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(self._address), self._port))
        except OSError:
            listener.close()
            raise ConfigError("The sandbox cannot listen on this port.", code="sandbox_port") from None
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            StatsMiddleware(self._dispatcher(), self.stats),
            # Plain asyncio, whatever else is installed: its transports are what `_cut` knows how to end.
            loop="asyncio",
            # Without these, uvicorn would take over the logging of the process, and believe forwarded addresses.
            log_config=None,
            proxy_headers=False,
            # Queries name patients. The level keeps them from handlers that somebody attaches later, too.
            access_log=False,
            log_level="warning",
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=1,
        )
        self._serving = Serving(config, listener, "medscribe-sandbox")
        if not self._serving.start():
            self.stop()
            raise ConfigError("The sandbox did not start.", code="sandbox_start")
        if self._tick_every_s is not None:
            self._ticker = Ticker(self.pushes, self._tick_every_s)

    def _dispatcher(self) -> ASGIApp:
        state = self._state or State()
        webhooks = AskaraWebhooks(state)
        self.pushes = Pushes(self.world, self.nabla, self.intron, self.outbox, webhooks)
        apps: dict[str, ASGIApp] = {
            "askara": askara_app(self.world, state, webhooks, self._askara, self._clock),
            "audioscribe": audioscribe_app(self.world, self._audioscribe),
            "nabla": self.nabla.app,
            "intron": self.intron.app,
            "fhir": fhir_app(self.fhir, self._fhir),
        }
        mounted: dict[str, ASGIApp] = {
            name: FaultMiddleware(app, name, switch=self._switch, stats=self.stats, cut=self._cut)
            for name, app in apps.items()
        }
        work = work_routes(self.pushes, self.outbox, {"nabla": self.nabla.book, "intron": self.intron.book})
        mounted["_control"] = control_app(self.world, self.fhir, self._switch, self.stats, work)
        return _Dispatcher(mounted)

    def _cut(self, scope: Scope) -> None:
        """Ends the connection a request came over, at once."""
        if self._serving is None:
            return
        for connection in list(self._serving.state.connections):
            # Every HTTP protocol of uvicorn has a `client`; its base types do not say so.
            transport = connection.transport
            if getattr(connection, "client", None) == scope["client"] and isinstance(transport, asyncio.Transport):
                transport.abort()


class _Dispatcher:
    """Sends a request to the app its first path segment names.

    Unlike a mount it takes the bare prefix too: FHIR transactions are posted to `[base]`, without a slash.
    """

    def __init__(self, apps: Mapping[str, ASGIApp]) -> None:
        self._apps = apps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name, _, rest = scope["path"].removeprefix("/").partition("/")
        app = self._apps.get(name)
        if app is None:
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        await app({**scope, "root_path": f"/{name}", "path": f"/{name}/{rest}"}, receive, send)


def _loopback(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ConfigError("The sandbox listens on loopback only (127.0.0.1, ::1, localhost).", code="sandbox_host")
    return address
