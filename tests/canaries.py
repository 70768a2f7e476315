"""Every mark by which a patient, a person's words or a secret of a test could be recognised, and the search for them.

The sandbox's people and texts carry `MARKERS`. Beside these are sought: names, dates of birth, ids and addresses of
patients and clinicians, ids of records, encounters and recordings, URLs of recordings; and of secrets all that were
configured or issued. Each as it is and in the forms it may hide in: JSON, JSON in JSON, percent-encoded, Base64, or as
Python prints it.
"""

from __future__ import annotations

import base64
import gzip
import json
import sqlite3
import threading
import traceback
import zlib
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from medscribe_pipeline.sandbox import MARKERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from medscribe_pipeline.sandbox import World

SHORTEST = 5
"""Shorter names occur in words of their own."""
SHORTEST_SECRET = 12
SHORTEST_ENCODED = 8
"""Of Base64: anything shorter turns up by chance."""

SANDBOX_SECRETS = frozenset({"sandbox-askara-token", "sandbox-client-secret", "sandbox-refresh-", "sandbox-access-"})
SECRET_NAMES = ("TOKEN", "SECRET", "PASSWORD", "KEY")

LONGEST_WHOLE = 900
"""Bytes of a row that SQLite keeps in one piece whatever it is; the file as it is shows those."""

LOOK_EVERY_S = 1.0
PROC = Path("/proc")


def needles_of(world: World) -> set[str]:
    """Everything of the people in a world."""
    patients = list(world.records("patients").values())
    people = [*patients, *world.records("users").values()]
    names = {part for each in people for part in (each["firstName"], each["lastName"]) if len(part) >= SHORTEST}
    facts = {each[field] for each in people for field in ("uuid", "email") if each.get(field)}
    births = {each["dateOfBirth"][:19] for each in patients}
    records = {key for kind in ("audios", "notes") for key in world.records(kind)}
    visits = world.visits()
    places = {row[field] for row in visits for field in ("encounter_id", "audio_url") if row.get(field)}
    files = {Path(row["audio_path"]).name for row in visits if row.get("audio_path")}
    return {*MARKERS, *names, *facts, *births, *records, *places, *files}


def secrets_in(environment: Mapping[str, str]) -> set[str]:
    """Every secret among some settings; those short enough to be words are none."""
    return {
        value
        for name, value in environment.items()
        if name.startswith("MEDSCRIBE_") and name.endswith(SECRET_NAMES) and len(value) >= SHORTEST_SECRET
    }


def tokens_in(database: Path) -> set[str]:
    """Tokens a SQLite warehouse keeps: what was issued on the way."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT refresh_token, access_token FROM oauth_tokens")
        return {token for row in rows for token in row if token}
    return set()


class Canaries:
    """A search for needles in whatever a test has left behind."""

    def __init__(self, needles: Iterable[str]) -> None:
        self._forms = {form: needle for needle in sorted(needles) for form in _forms(needle)}

    def among(self, texts: Iterable[str]) -> set[str]:
        """The needles that any of the texts holds, in whatever form."""
        return {needle for text in texts for form, needle in self._forms.items() if form in text}

    def in_error(self, error: BaseException) -> set[str]:
        """Those that anything could print of an error, or of those it came from."""
        return self.among(texts_of_error(error))

    def in_files(self, files: Iterable[Path]) -> dict[Path, set[str]]:
        """Those in files, by file; see `texts_of`."""
        return {path: found for path in files if (found := self.among([path.name, *texts_of(path)]))}


def _forms(needle: str) -> set[str]:
    once = json.dumps(needle)[1:-1]
    plain = {needle, once, json.dumps(once)[1:-1], repr(needle)[1:-1], ascii(needle)[1:-1], quote(needle, safe="")}
    # Every document and every text has a marker, so that it is enough to look for these in what is encoded whole.
    return plain | set(_in_base64(needle.encode())) if needle in MARKERS else plain


def _in_base64(raw: bytes) -> Iterator[str]:
    """What a text is inside a longer one that is Base64: it may begin at any of three offsets."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + raw).decode().rstrip("=")
        # Characters at either end hold bits of the neighbours.
        core = encoded[(before * 8 + 5) // 6 : (before + len(raw)) * 8 // 6]
        if len(core) >= SHORTEST_ENCODED:
            yield core
            yield core.translate(str.maketrans("+/", "-_"))


def texts_of(path: Path) -> Iterator[str]:
    """A file as text, unpacked; of a SQLite database every value as well: one longer than a page is cut into pieces."""
    try:
        content = path.read_bytes()
    except OSError:
        return  # A lock, or a socket: gone since it was listed.
    yield from texts_in(content)
    if content.startswith(b"SQLite format 3\0"):
        yield from _values_of(path)


def texts_in(content: bytes) -> Iterator[str]:
    """Bytes as text, as they are and unpacked."""
    yield content.decode("utf-8", errors="replace")
    for unpack in (gzip.decompress, zlib.decompress):
        with suppress(OSError, EOFError, zlib.error):
            yield unpack(content).decode("utf-8", errors="replace")


def _values_of(database: Path) -> Iterator[str]:
    with suppress(sqlite3.Error), closing(sqlite3.connect(database)) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            for row in connection.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - names come from the database itself
                long = sum(len(value) for value in row if isinstance(value, str | bytes)) > LONGEST_WHOLE
                for value in row:
                    if isinstance(value, bytes):
                        yield from texts_in(value)
                    elif long and isinstance(value, str):
                        yield value


def texts_of_error(error: BaseException) -> Iterator[str]:
    """What a log, a terminal or a bug tracker could show of an error, along all its links."""
    links: list[BaseException] = [error]
    seen: set[int] = set()
    while links:
        link = links.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield from (str(link), repr(link), repr(link.args), repr(vars(link)), *traceback.format_exception(link))
        links += [each for each in (link.__cause__, link.__context__) if each is not None]
        if isinstance(link, BaseExceptionGroup):
            links += link.exceptions


class CommandLines:
    """What `ps` shows of a process and of all that it starts, as long as somebody looks."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def look(self, session: int) -> None:
        """Reads the arguments of every process of a session."""
        for folder in PROC.glob("[0-9]*"):
            with suppress(OSError, IndexError, ValueError):
                # After the name, which may hold anything, come state, parent, group and session.
                fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == session:
                    raw = (folder / "cmdline").read_bytes()
                    self.seen.add(raw.replace(b"\0", b" ").decode("utf-8", errors="replace"))

    @contextmanager
    def watched(self, session: int) -> Iterator[None]:
        """Looks every so often while the block runs, and at its beginning."""
        done = threading.Event()

        def keep_looking() -> None:
            self.look(session)
            while not done.wait(LOOK_EVERY_S):
                self.look(session)

        thread = threading.Thread(target=keep_looking, name="command-lines", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def files_below(folders: Iterable[Path], *, but: Iterable[Any] = ()) -> list[Path]:
    """Every file below some folders, but those of these paths or names."""
    left_out = {str(each) for each in but}
    return [
        path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {str(path), path.name} & left_out
    ]
