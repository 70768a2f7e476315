"""The pages people wrote: links lead somewhere, and what they say about the code is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from starlette.routing import Route

from assets.automation import jobs, sensors
from medscribe_pipeline.ehr.ledger import MOVES
from medscribe_pipeline.ehr.plan import (
    DOCUMENTS_MISSING,
    NOT_VALIDATED,
    PATIENT_UNKNOWN,
    RETRACTED_BEFORE_DELIVERY,
    SUPERSEDED,
)
from medscribe_pipeline.errors import ConfigError
from medscribe_pipeline.providers.catalogue import PROVIDERS
from medscribe_pipeline.sandbox import Fault, Sandbox, World
from medscribe_pipeline.sandbox.control import control_app
from medscribe_pipeline.sandbox.control_work import work_routes
from medscribe_pipeline.sandbox.fates import Fate
from medscribe_pipeline.sandbox.fhir_store import FhirStore
from medscribe_pipeline.sandbox.inflict import FaultSwitch
from medscribe_pipeline.sandbox.state import State
from medscribe_pipeline.sandbox.stats import Stats
from medscribe_pipeline.visits import COLUMNS, read_visits
from tests.synced import DAGSTER_ON_PYDANTIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def text(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_promise_names_a_test_there_is() -> None:
    promised = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text("architecture.md"))

    missing = [
        f"{path}::{name}"
        for path, name in promised
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]

    assert promised
    assert missing == []


def test_the_picture_of_the_ledger_is_the_ledger() -> None:
    arrows = set(re.findall(r"^    (\w+) --> (\w+): (\w+)$", text("delivery.md"), re.MULTILINE))

    assert arrows == {(source, move.target, name) for name, move in MOVES.items() for source in move.sources}


@pytest.mark.parametrize("name", [*MOVES, "add"])
def test_every_move_is_explained(name: str) -> None:
    assert re.search(rf"^\| .*`{name}`.* \| ", text("delivery.md"), re.MULTILINE)


@pytest.mark.parametrize(
    "reason", [DOCUMENTS_MISSING, NOT_VALIDATED, PATIENT_UNKNOWN, RETRACTED_BEFORE_DELIVERY, SUPERSEDED]
)
def test_every_reason_to_hold_is_explained(reason: str) -> None:
    assert f"| `{reason}` |" in text("delivery.md")


def test_the_manifest_example_is_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "visits.csv").write_text(manifest(), encoding="utf-8")

    rows = read_visits(tmp_path / "visits.csv", zone=ZoneInfo("Europe/Paris"), known_providers=tuple(PROVIDERS))

    assert len(rows) == manifest().count("\n") - 1


def test_the_error_example_is_what_is_said(tmp_path: Path) -> None:
    wrong = manifest().replace("audioscribe,4001", "audioscrib,4001").replace("en-GB", "english!")
    (tmp_path / "visits.csv").write_text(wrong, encoding="utf-8")

    with pytest.raises(ConfigError) as told:
        read_visits(tmp_path / "visits.csv", zone=ZoneInfo("Europe/Paris"), known_providers=tuple(PROVIDERS))

    assert f"medscribe: {told.value}\n" in text("visits.md")


def test_every_manifest_column_is_explained() -> None:
    assert [column for column in COLUMNS if f"`{column}`" not in text("visits.md")] == []


def manifest() -> str:
    found = re.search(r"^```csv\n(.*?)^```", text("visits.md"), re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_every_fault_is_explained() -> None:
    listed = re.findall(r"^\| `(\w+)` \| ", text("sandbox.md"), re.MULTILINE)

    assert sorted(listed) == sorted(Fault)


def test_every_fate_of_a_job_is_explained() -> None:
    section = text("sandbox.md").partition("## What becomes of a job")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`[a-z`, ]+`) \| ", section, re.MULTILINE)

    assert sorted(word for cell in first_cells for word in re.findall(r"\w+", cell)) == sorted(Fate)


@pytest.mark.filterwarnings(DAGSTER_ON_PYDANTIC)
def test_every_sensor_and_job_is_in_operations(make_settings: Callable[..., Settings]) -> None:
    everything = {name: {"token": "x"} for name in PROVIDERS}
    configured = make_settings(**everything, ehr={"base_url": "https://ehr.example.org/fhir"})

    names = [*(sensor.name for sensor in sensors(configured)), *(job.name for job in jobs(configured))]
    assert [name for name in names if f"`{name}`" not in text("operations.md")] == []


def test_every_control_endpoint_is_explained() -> None:
    with Sandbox() as sandbox:
        more = work_routes(sandbox.pushes, sandbox.outbox, {})
    app = control_app(World(), FhirStore(State()), FaultSwitch(), Stats(), more)
    routes = {
        f"{method} {route.path}"
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }

    assert set(re.findall(r"`((?:GET|POST|PUT|DELETE) /[\w/{}]+)`", text("sandbox.md"))) >= routes


def test_the_python_example_of_the_sandbox_runs(tmp_path: Path) -> None:
    found = re.search(r"^```python\n(.*?)^```", text("sandbox.md"), re.MULTILINE | re.DOTALL)
    assert found

    done = subprocess.run(
        [sys.executable, "-c", found[1]], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "MEDSCRIBE_EHR_BASE_URL" in done.stdout


def test_every_code_in_operations_is_one() -> None:
    source = "\n".join(
        path.read_text(encoding="utf-8")
        for folder in ("medscribe_pipeline", "resources", "assets")
        for path in (ROOT / folder).rglob("*.py")
    )
    first_cells = re.findall(r"^\| (`[a-z_`, ]+`) \| ", text("operations.md"), re.MULTILINE)
    codes = [code for cell in first_cells for code in re.findall(r"`([a-z_]+)`", cell)]
    instance = (ROOT / "deploy" / "dagster.yaml").read_text(encoding="utf-8")

    assert len(codes) > len(first_cells)
    named = (f'"{code}"' in source or f"`{code}`" in source or f"{code}:" in instance for code in codes)
    assert [code for code, known in zip(codes, named, strict=True) if not known] == []


def test_every_configuration_code_is_in_operations() -> None:
    """What ends a command with exit code 2 is explained; the sandbox's own and a damaged installation are not."""
    raised = {
        code
        for path in (ROOT / "medscribe_pipeline").rglob("*.py")
        if "sandbox" not in path.parts
        for call in re.findall(r"ConfigError\((.*?)\n\s*(?:\)|\w+ = )", path.read_text(encoding="utf-8"), re.DOTALL)
        for code in re.findall(r'code="(\w+)"', call)
    }

    assert len(raised) > 10
    assert raised - {"headings_file", "fhir_profile"} - explained() == set()


def explained() -> set[str]:
    return set(re.findall(r"`([a-z_]+)`", text("operations.md")))
