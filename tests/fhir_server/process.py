"""The server's process, and its endpoints as a test sees them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.fhir_server.abilities import Abilities
from tests.fhir_server.faults import Faults
from tests.fhir_server.ledger import Written, read_ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Endpoint", "FhirServer"]

ROOT = Path(__file__).parents[2]
ABLE = Abilities()
SOUND = Faults()


class FhirServer:
    """The process. Use as a context manager.

    Args:
        ledger: File it writes its ledger to.
    """

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        command = [sys.executable, "-m", "tests.fhir_server", str(ledger)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._process.terminate()
        self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def endpoint(
        self,
        abilities: Abilities = ABLE,
        faults: Faults = SOUND,
        *,
        seed: Iterable[Mapping[str, Any]] = (),
        delay_s: float = 0.0,
    ) -> Endpoint:
        """A new endpoint.

        Args:
            abilities: What it can do.
            faults: What goes wrong.
            seed: Resources with ids that are there from the beginning.
            delay_s: How long it takes for each request.
        """
        body = {"abilities": asdict(abilities), "faults": asdict(faults), "seed": list(seed), "delay_s": delay_s}
        number = self.control("POST", "", body)["endpoint"]
        return Endpoint(self, number)

    def control(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Talks to the server about itself."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            connection.request(method, f"/control{path}", json.dumps(body))
            told: dict[str, Any] = json.load(connection.getresponse())
        return told


class Endpoint:
    """One FHIR base URL."""

    def __init__(self, server: FhirServer, number: int) -> None:
        self._server = server
        self.number = number
        self.ledger = server.ledger
        self.base_url = f"{server.url}/{number}/fhir"
        self.token_url = f"{server.url}/{number}/token"

    def mend(self) -> None:
        """From now on nothing goes wrong."""
        self.set_faults(SOUND)

    def set_faults(self, faults: Faults) -> None:
        """From now on other things go wrong."""
        self._server.control("PUT", f"/{self.number}", {"faults": asdict(faults)})

    def told(self) -> dict[str, Any]:
        """`busy`: requests being worked on. `seen`: how many came. `happened`: faults, since they were set."""
        return self._server.control("GET", f"/{self.number}")

    def wait_until_idle(self) -> None:
        """Waits until what is slow has happened too."""
        for _ in range(500):
            if not self.told()["busy"]:
                return
            time.sleep(0.02)
        raise TimeoutError("the FHIR server does not come to rest")

    def written(self) -> list[Written]:
        """Everything it accepted, oldest first."""
        return read_ledger(self.ledger, self.number)
