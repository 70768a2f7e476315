"""Columns of the tables that assets write, as the UI shows them: read off the comments of the tables."""

from typing import Any

import dagster as dg
import sqlalchemy as sa

from medscribe_pipeline.warehouse.dictionary import type_name


def columns_of(table: sa.Table) -> dict[str, Any]:
    """Metadata of an asset that writes this table: its name, and its columns with what they mean.

    The asset is not all of it: other assets, days and accounts write to the same table.
    """
    schema = dg.TableSchema(
        [
            dg.TableColumn(
                column.name,
                type_name(column),
                description=column.comment,
                constraints=dg.TableColumnConstraints(
                    nullable=bool(column.nullable), other=["key"] if column.primary_key else []
                ),
            )
            for column in table.columns
        ]
    )
    return {"dagster/column_schema": schema, "dagster/table_name": table.name}
