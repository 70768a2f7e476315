# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Views, a comment on every table and column, and nothing as NULL.

The first two are made anew after every upgrade (`warehouse/recreated.py`): a later migration need not mention them, and
may change any table under them. This one is what brings an older warehouse there.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """On PostgreSQL nothing was written as the JSON value null, which is not NULL to a query."""
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, column in (("notes", "practitioner"), ("deliveries", "outcome_codes"), ("quarantine", "payload")):
        name = sa.table(table, sa.column(column))
        op.execute(sa.update(name).where(sa.text(f"{column} = 'null'::jsonb")).values({column: sa.null()}))


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
