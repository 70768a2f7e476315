"""What the tests of Intron share: settings, recordings, a parser for the multipart bodies we send."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import SecretStr

from medscribe_pipeline.providers.http import BearerToken, HttpClient
from medscribe_pipeline.providers.work import Job
from medscribe_pipeline.settings import IntronSettings, Settings
from tests.medscribe_pipeline.providers.scripted_server import FakeClock, HighRoll, Reply

if TYPE_CHECKING:
    from medscribe_pipeline.providers.intron import Intron
    from medscribe_pipeline.providers.records import ManifestVisit
    from tests.medscribe_pipeline.providers.scripted_server import Seen

CANARY = "Testa-CANARY-Patient"
TOKEN = "intron-secret-token"
REQUEST_ID = "2c0c4a52-0000-5000-8000-000000000001"
FILE_ID = "12a9760f-b165-4404-91d0-a65d4cdt78fs"
WAV = b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(range(256)) * 5 + b"\r\n--not-the-boundary\r\n"

# Every documented type by its first bytes.
HEADS = {
    "a.wav": WAV,
    "a.mp3": b"ID3\x04\x00" + bytes(40),
    "b.mp3": b"\xff\xfb\x90\x64" + bytes(40),
    "a.mp4": b"\x00\x00\x00\x18ftypisom" + bytes(40),
    "a.m4a": b"\x00\x00\x00\x18ftypM4A " + bytes(40),
    "a.ogg": b"OggS" + bytes(40),
    "a.webm": b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\x82\x84webm" + bytes(40),
    "a.flac": b"fLaC" + bytes(40),
}


def settings_for(folder: Path | None = None, *, base_url: str = "https://intron.example.org", **own: Any) -> Settings:
    own = {"timeout_s": 5, "max_attempts": 4, **own}
    intron = IntronSettings(base_url=base_url, token=SecretStr(TOKEN), audio_folder=folder, **own)
    return Settings(account="clinic", intron=intron)


def client_for(settings: Settings, clock: FakeClock) -> HttpClient:
    """As `open_client` makes it, but with a clock of its own."""
    own = settings.intron
    auth = BearerToken(TOKEN)
    return HttpClient("intron", own.base_url, own, auth, clock=clock, sleep=clock.sleep, random=HighRoll())


def wanted_job(provider: Intron, visit: ManifestVisit) -> Job:
    (spec,) = provider.wanted("visit-1", visit)
    return Job(spec.correlation_key, spec.step, spec.request, REQUEST_ID)


def envelope(data: Any = None, *, status: str = "Ok", message: str = CANARY, http_status: int = 200) -> Reply:
    return Reply(
        http_status, orjson.dumps({"status": status, "message": message, "data": {} if data is None else data})
    )


@dataclass(frozen=True)
class Part:
    disposition: dict[str, str]
    media_type: str | None
    content: bytes

    @property
    def name(self) -> str:
        return self.disposition["name"]


def parts_of(seen: Seen) -> list[Part]:
    """The parts of a multipart body, read without our own code."""
    kind, _, boundary = seen.headers["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    opening, *blocks, closing = (b"\r\n" + seen.body).split(b"\r\n--" + boundary.encode())
    assert (opening, closing) == (b"", b"--\r\n")
    parts = []
    for block in blocks:
        head, _, content = block.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        disposition = dict(re.findall(r'(\w+)="([^"]*)"', headers["Content-Disposition"]))
        parts.append(Part(disposition, headers.get("Content-Type"), content))
    return parts


def write(folder: Path, name: str = "a.wav", content: bytes | None = None) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADS[Path(name).name] if content is None else content)
    return path
