# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""What a payload in quarantine is sealed with, and who put a record aside, and why.

Rows that are there stay as they are: not sealed, and closed by no person.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Adds columns to the quarantine."""
    for name in ("sealed_with", "closed_by", "closed_for"):
        op.add_column("quarantine", sa.Column(name, sa.String(64)))


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
