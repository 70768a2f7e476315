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
        return Endpoint(self.port, _control(self.port, "POST", "", body)["endpoint"], self.ledger)


class Endpoint:
    """One FHIR base URL, also as seen from another process.

    Args:
        port: Where the server listens.
        number: Which of its endpoints this is.
        ledger: The file of its ledger.
    """

    def __init__(self, port: int, number: int, ledger: Path) -> None:
        self.port = port
        self.number = number
        self.ledger = ledger
        self.base_url = f"http://127.0.0.1:{port}/{number}/fhir"
        self.token_url = f"http://127.0.0.1:{port}/{number}/token"

    def mend(self) -> None:
        """From now on nothing goes wrong."""
        self.set_faults(SOUND)

    def set_faults(self, faults: Faults) -> None:
        """From now on other things go wrong."""
        _control(self.port, "PUT", f"/{self.number}", {"faults": asdict(faults)})

    def told(self) -> dict[str, Any]:
        """`requests`: how many came. `working`: those not answered yet. `seen`: by kind. `happened`: faults."""
        return _control(self.port, "GET", f"/{self.number}")

    def wait_until_done(self) -> None:
        """Waits until every request that has come so far has happened, however slow; others may come meanwhile."""
        # What was sent just now may not have been read yet.
        time.sleep(0.02)
        last = self.told()["requests"]
        for _ in range(500):
            if all(number > last for number in self.told()["working"]):
                return
            time.sleep(0.02)
        raise TimeoutError("the FHIR server does not come to rest")

    def written(self) -> list[Written]:
        """Everything it accepted, oldest first."""
        return read_ledger(self.ledger, self.number)


def _control(port: int, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Talks to the server about itself."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, f"/control{path}", json.dumps(body))
        told: dict[str, Any] = json.load(connection.getresponse())
    return told
