from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.medscribe_pipeline.receiver.letterbox import Letterbox, open_letterbox, receiver_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from medscribe_pipeline.settings import Settings


@pytest.fixture
def letterbox(make_settings: Callable[..., Settings]) -> Iterator[Letterbox]:
    """A receiver in this process, on SQLite, with both secrets; its clock stands still."""
    with open_letterbox(receiver_settings(make_settings)) as opened:
        yield opened
