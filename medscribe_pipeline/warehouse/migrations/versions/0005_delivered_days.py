# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""How far each visit day is delivered, where there are several targets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds the table of delivered days."""
    op.create_table(
        "delivered_days",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("target", sa.String(64), nullable=False),
        sa.Column("visit_day", sa.Date, nullable=False),
        sa.Column("delivered_seq", sa.BigInteger, nullable=False, comment="changed_seq of the day when it began."),
        sa.Column("delivered_with", sa.String(64), nullable=False, comment="As built_with of visit_days."),
        sa.PrimaryKeyConstraint("account", "target", "visit_day", name=op.f("pk_delivered_days")),
        comment="Where there are several targets: how far each day is delivered to each. It is built when all are.",
    )


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
