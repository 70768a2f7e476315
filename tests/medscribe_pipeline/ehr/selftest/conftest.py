from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.medscribe_pipeline.ehr.selftest.trials import Trial

if TYPE_CHECKING:
    from pathlib import Path

    from tests.medscribe_pipeline.ehr.odd_ehr import OddEhr


@pytest.fixture
def trial(odd: OddEhr, clean_environment: Path) -> Trial:
    return Trial(odd.base_url, clean_environment)
