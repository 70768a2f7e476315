"""Opens accounts for the conformance classes, and lets pytest show what their assertions compared."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite(*(f"tests.conformance.{name}" for name in ("bench", "listed", "ordered", "wanted")))

from tests.conformance.bench import Bench  # noqa: E402  # rewritten only if imported after the line above
from tests.conformance.gate import Gate  # noqa: E402  # stays beside the other

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.bench import OpenBench, Origin


@pytest.fixture
def open_bench(
    request: pytest.FixtureRequest, clean_environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> OpenBench:
    """Opens the account an origin describes; no setting of the machine reaches it."""
    assert clean_environment
    empty: Path = request.getfixturevalue("_migrated_sqlite")

    @contextmanager
    def opened(name: str, origin: Origin, id_field: str) -> Iterator[Bench]:
        with Gate(origin.api, id_field) as gate:
            bench = Bench(name, origin, gate, monkeypatch, tmp_path, empty)
            try:
                yield bench
            finally:
                bench.close()

    return opened
