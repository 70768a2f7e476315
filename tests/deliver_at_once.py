"""Several processes that deliver the same day at once: `python -m tests.deliver_at_once`, see `start`.

A process of its own, because it forks: everything is imported once, and the processes start together.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medscribe_pipeline.settings import Settings
from tests.delivering import WAYS, settle, target
from tests.dying import bomb, fork, join
from tests.fhir_server import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["start"]

ROOT = Path(__file__).parents[1]


def start(settings: Settings, at: Endpoint, way: str, count: int, deaths: Sequence[tuple[str, int]] = ()) -> list[int]:
    """Delivers with `count` processes at once, each again and again until nothing is left; returns their exit codes.

    Args:
        settings: Where the warehouse is.
        at: The target.
        way: Name of the way of delivering.
        count: How many processes.
        deaths: Where the first of them end themselves, and the how manieth time they are there.
    """
    asked = {
        "home": str(settings.home),
        "warehouse": settings.database_url,
        "at": [at.port, at.number, str(at.ledger)],
        "way": way,
        "count": count,
        "deaths": list(deaths),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MEDSCRIBE_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.deliver_at_once"],
        cwd=ROOT,
        env=environment,
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=True,
    )
    codes: list[int] = json.loads(done.stdout)
    return codes


def main(asked: dict[str, Any]) -> list[int]:
    """Forks the processes and waits for them."""
    settings = Settings(home=Path(asked["home"]), warehouse_url=asked["warehouse"])
    port, number, ledger = asked["at"]
    at = Endpoint(port, number, Path(ledger))
    # One connection each, so that none of them takes all there is to do.
    ehr = target(settings.home, at, WAYS[asked["way"]], connections=1)
    deaths = [*asked["deaths"], *[None] * asked["count"]][: asked["count"]]

    def wait(_seconds: float) -> None:
        at.wait_until_done()

    def work(death: tuple[str, int] | None) -> None:
        settle(settings, ehr, bomb(*death) if death else lambda _name: None, wait=wait)

    children = [fork(lambda death=death: work(death)) for death in deaths]  # type: ignore[misc]
    return [join(child) for child in children]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(json.load(sys.stdin))))
