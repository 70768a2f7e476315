"""The generated pages: as committed, complete, and true."""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from typing import TYPE_CHECKING

from docs import configuration_page, generate, markdown, warehouse_page
from medscribe_pipeline.fhir.sections import default_mapping
from medscribe_pipeline.settings import (
    AskaraSettings,
    AudioScribeSettings,
    EhrSettings,
    FhirSettings,
    IntronSettings,
    NablaSettings,
    ReceiverSettings,
    Settings,
    WatchSettings,
)
from medscribe_pipeline.warehouse.tables import metadata
from medscribe_pipeline.warehouse.views import view_metadata

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from pydantic_settings import BaseSettings

CLASSES: tuple[type[BaseSettings], ...] = (
    Settings,
    AskaraSettings,
    AudioScribeSettings,
    NablaSettings,
    IntronSettings,
    EhrSettings,
    FhirSettings,
    ReceiverSettings,
    WatchSettings,
)
PROVIDERS = ("ASKARA", "AUDIOSCRIBE", "NABLA", "INTRON")


def test_committed_pages_are_current() -> None:
    assert generate.outdated() == [], "run `make docs`"


def test_what_is_written_is_current_and_written_once(tmp_path: Path) -> None:
    assert generate.write(tmp_path) == list(generate.PAGES)
    assert generate.outdated(tmp_path) == []
    assert generate.write(tmp_path) == []


def test_check_names_what_is_out_of_date_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate.write(tmp_path)
    (tmp_path / "mapping.md").write_text("old")
    (tmp_path / "warehouse.md").unlink()

    code = generate.main(["--check"], tmp_path)

    said = capsys.readouterr().out
    assert code == 1
    assert "mapping.md" in said
    assert "warehouse.md" in said
    assert "configuration.md" not in said
    assert (tmp_path / "mapping.md").read_text() == "old"
    assert generate.main([], tmp_path) == 0
    assert generate.main(["--check"], tmp_path) == 0


def test_the_environment_leaves_no_trace(tmp_path: Path) -> None:
    """In a process of its own, with a `.env`, other settings and another hash seed."""
    (tmp_path / ".env").write_text("MEDSCRIBE_ACCOUNT=canary\nMEDSCRIBE_ASKARA_TOKEN=canary\n")
    script = "import sys; from docs import generate; sys.exit(len(generate.outdated()))"
    environment = {"MEDSCRIBE_TIMEZONE": "canary", "MEDSCRIBE_FHIR_BASE_URI": "urn:canary", "PYTHONHASHSEED": "7"}

    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, timeout=60, check=False)

    assert done.returncode == 0


def own_prefix(settings: type[BaseSettings]) -> str:
    return str(settings.model_config["env_prefix"])


def test_every_setting_is_there_exactly_once() -> None:
    rows = re.findall(
        r"^\| `(MEDSCRIBE_[A-Z0-9_<>]+)` \|", (generate.FOLDER / "configuration.md").read_text(), re.MULTILINE
    )
    expanded = [
        row.replace(placeholder, name)
        for row in rows
        for placeholder, names in {
            "<PROVIDER>": PROVIDERS,
            "<SERVER>": (*PROVIDERS, "EHR"),
            "<NABLA_OR_INTRON>": ("NABLA", "INTRON"),
        }.items()
        for name in names
        if placeholder in row
    ] + [row for row in rows if "<" not in row]
    variables = [
        f"{own_prefix(settings)}{name.upper()}"
        for settings in CLASSES
        for name, field in settings.model_fields.items()
        if not field.exclude
    ]

    assert sorted(expanded) == sorted(variables)


def test_every_variable_says_what_it_means() -> None:
    silent = [
        variable.name
        for group in configuration_page.GROUPS
        for variable in configuration_page.variables(group)
        if not variable.meaning
    ]

    assert silent == []


def test_the_example_loads_and_configures_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(configuration_page.EXAMPLE)
    monkeypatch.chdir(tmp_path)

    settings = Settings.load()

    assert settings.providers == ("askara", "audioscribe", "nabla", "intron")
    assert settings.receiver.path_secret
    assert settings.ehr.enabled
    known = {f"{own_prefix(each)}{name.upper()}" for each in CLASSES for name in each.model_fields}
    used = set(re.findall(r"^(MEDSCRIBE_\w+)=", configuration_page.EXAMPLE, re.MULTILINE))
    assert used <= known


def test_every_section_key_is_mapped_on_the_page() -> None:
    text = (generate.FOLDER / "mapping.md").read_text()

    assert [key for key in sorted(default_mapping().known_keys()) if f"| `{key}` |" not in text] == []


def test_every_table_and_column_is_described() -> None:
    text = (generate.FOLDER / "warehouse.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", text, re.MULTILINE | re.DOTALL))

    assert {name: sorted(re.findall(r"^\| `(\w+)` \|", body, re.MULTILINE)) for name, body in sections.items()} == {
        table.name: sorted(table.columns.keys())
        for table in (*metadata.tables.values(), *view_metadata.tables.values())
    }


def test_the_small_examples_hold() -> None:
    assert doctest.testmod(markdown).failed == 0
    assert doctest.testmod(markdown).attempted > 0


def test_no_query_reads_what_a_patient_said() -> None:
    forbidden = ("payload", "turns", "resource", ".text", ".title", "practitioner", "select *", "patient_id,")

    for query in warehouse_page.QUERIES:
        assert not any(word in query.sql.lower() for word in forbidden), query.title
