"""Assets say what is in the tables they write, in the words of the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg

from assets.columns import columns_of
from assets.days import day_assets
from assets.deliveries import delivery_assets
from assets.sources import source_assets
from assets.work import work_assets
from medscribe_pipeline.settings import AskaraSettings, EhrSettings, NablaSettings
from medscribe_pipeline.warehouse.tables import metadata, notes

if TYPE_CHECKING:
    from collections.abc import Callable

    from medscribe_pipeline.settings import Settings


def test_every_asset_that_writes_a_table_describes_it(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(
        askara=AskaraSettings(token="t"),
        nabla=NablaSettings(client_id="zz", private_key_file="zz.pem"),
        ehr=EhrSettings(base_url="http://127.0.0.1:9/fhir"),
    )
    assets = [each(settings) for each in (source_assets, work_assets, day_assets, delivery_assets)]

    found = {
        spec.key.to_user_string(): spec.metadata.get("dagster/table_name")
        for group in assets
        for asset in group
        for spec in asset.specs
    }

    assert found == {
        "askara_audios": "source_records",
        "askara_notes": "source_records",
        "nabla_jobs": "scribe_jobs",
        "inbox_events": "inbox",
        "scribe_notes": "notes",
        "fhir_compositions": "fhir_documents",
        "fhir_document_references": "fhir_documents",
        "ehr_deliveries": "deliveries",
    }


def test_every_column_is_there_with_its_meaning() -> None:
    for table in metadata.tables.values():
        schema = columns_of(table)["dagster/column_schema"]

        assert isinstance(schema, dg.TableSchema)
        assert [(column.name, column.description) for column in schema.columns] == [
            (column.name, column.comment) for column in table.columns
        ]
        assert all(column.description and column.type for column in schema.columns)


def test_keys_types_and_what_may_be_missing_are_told() -> None:
    columns = {column.name: column for column in columns_of(notes)["dagster/column_schema"].columns}

    assert columns["note_id"].constraints.other == ["key"]
    assert (columns["title"].type, columns["title"].constraints.nullable) == ("text", True)
    assert (columns["mapped_at"].type, columns["mapped_at"].constraints.nullable) == ("time", False)
    assert (columns["practitioner"].type, columns["visit_day"].type) == ("JSON", "day")
