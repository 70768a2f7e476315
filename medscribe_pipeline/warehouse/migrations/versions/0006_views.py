# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Views, and a comment on every table and column.

Both are made anew after every upgrade (`warehouse/recreated.py`): a later migration need not mention them, and may
change any table under them. This one is empty; it is what brings an older warehouse there.
"""

from __future__ import annotations

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing of its own."""


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
