from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.medscribe_pipeline.ehr.clinic import Clinic
from tests.medscribe_pipeline.ehr.fake_ehr import FakeEhr

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def ehr() -> Iterator[FakeEhr]:
    server = FakeEhr()
    yield server
    server.close()


@pytest.fixture
def clinic(tmp_path: Path, ehr: FakeEhr, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    monkeypatch.chdir(tmp_path)  # No `.env` of whoever runs the tests.
    clinic = Clinic(tmp_path, ehr.base_url)
    yield clinic
    clinic.close()
