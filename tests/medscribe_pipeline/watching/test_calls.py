"""Every log call of the project has fixed words, and facts that may be told: read off the source, each of them."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import medscribe_pipeline
from medscribe_pipeline.watching.logs import form_of

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(medscribe_pipeline.__file__).parent
LOGGERS = {"log", "_log"}
METHODS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


def calls(folder: Path) -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if isinstance(owner, ast.Name) and owner.id in LOGGERS and node.func.attr in METHODS:
                    yield f"{path.relative_to(folder.parent)}:{node.lineno}", node


CALLS = list(calls(ROOT))


@pytest.mark.parametrize("call", [call for _, call in CALLS], ids=[place for place, _ in CALLS])
def test_a_log_call_has_fixed_words_and_known_facts(call: ast.Call) -> None:
    template = ast.literal_eval(call.args[0])

    form = form_of(template)

    assert form is not None, template
    assert len(call.args) == 1 + len(form.names)
    assert {keyword.arg for keyword in call.keywords} <= {"exc_info"}


def test_all_of_them_are_read() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py"))

    assert sources.count("logging.getLogger(__name__)") == len({place.partition(":")[0] for place, _ in CALLS})
