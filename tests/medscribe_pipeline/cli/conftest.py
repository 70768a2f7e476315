"""Fixtures of this room: clinics, and the command run in process as the entry point runs it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from medscribe_pipeline.cli import main
from tests.synced import DAGSTER_ON_PYDANTIC, clinic, empty_clinic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["clinic", "empty_clinic"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", DAGSTER_ON_PYDANTIC)


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it wrote."""

    code: object
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document and nothing else."""
        return orjson.loads(self.out)

    @property
    def words(self) -> str:
        """Standard output without line breaks, which depend on the width of the terminal."""
        return " ".join(self.out.split())


@pytest.fixture
def medscribe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Runs the command with these arguments."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["medscribe", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return Ran(ended.value.code, written.out, written.err)

    return run


@pytest.fixture
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home that does not exist yet, and no provider."""
    assert clean_environment
    monkeypatch.setenv("MEDSCRIBE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
