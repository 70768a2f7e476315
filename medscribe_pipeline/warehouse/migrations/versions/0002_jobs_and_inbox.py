# noqa: INP001  # Alembic runs it by its path; it is no module of the package
"""Jobs and inbox: recordings to work on, what became of them, callbacks and webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from medscribe_pipeline.errors import ConfigError

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Frozen here on purpose: a migration must not change when `tables.py` does.
utc_datetime = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")
json = sa.Text().with_variant(postgresql.JSONB(), "postgresql")

TIMES = ("started_at", "ended_at")


def _is_time(column: str) -> str:
    return (
        f"{column} GLOB '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*' AND {column} BETWEEN '1000' AND '9998'"
        f" AND datetime({column}) IS NOT NULL AND date(substr({column}, 1, 10), '+0 days') = substr({column}, 1, 10)"
        f" AND substr({column}, 12, 2) < '24'"
    )


def _refuse_unreadable_times() -> None:
    wrong = " OR ".join(f"({column} IS NOT NULL AND NOT ({_is_time(column)}))" for column in TIMES)
    count = op.get_bind().scalar(sa.text(f"SELECT count(*) FROM visits WHERE {wrong}"))  # noqa: S608 - all of it is ours
    if count:
        raise ConfigError(
            f"{count} rows of the table visits have a started_at or ended_at that is no ISO 8601 time, "
            "so the warehouse was not migrated. Correct them by SQL, or import them again with the version before.",
            code="visits_times",
        )


def upgrade() -> None:
    """Adds the tables of jobs, and to the visits what a job needs to know."""
    op.create_table(
        "inbox",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column(
            "event_id",
            sa.String(255),
            nullable=False,
            comment="The event's own id, or a hash of its body: the same event twice is one row.",
        ),
        sa.Column("seq", sa.BigInteger(), nullable=False, comment="Order of arrival, in commit order."),
        sa.Column(
            "kind",
            sa.String(64),
            nullable=False,
            comment="callback, session, new_note, new_document, document_synchronize.",
        ),
        sa.Column("payload", json, nullable=False, comment="As received. Holds patient data."),
        sa.Column(
            "verified",
            sa.Boolean(),
            nullable=False,
            comment="Whether a signature proved it; else it is asked for again by id.",
        ),
        sa.Column("received_at", utc_datetime, nullable=False),
        sa.Column("deliveries", sa.Integer(), nullable=False, comment="How often it arrived."),
        sa.Column("attempts", sa.Integer(), nullable=False, comment="How often processing was tried."),
        sa.Column("code", sa.String(64), nullable=True, comment="Why it is not processed yet, or could not be."),
        sa.Column("processed_at", utc_datetime, nullable=True),
        sa.PrimaryKeyConstraint("account", "provider", "event_id", name=op.f("pk_inbox")),
        comment="Callbacks and webhooks, as received.",
    )
    op.create_index("ix_inbox_open", "inbox", ["account", "processed_at", "seq"], unique=False)
    op.create_table(
        "rate_budgets",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False, comment="What is counted: status, upload."),
        sa.Column("window_at", utc_datetime, nullable=False, comment="When the last call was let go."),
        sa.Column("used", sa.Integer(), nullable=False, comment="Calls since the last quiet minute."),
        sa.PrimaryKeyConstraint("account", "provider", "kind", name=op.f("pk_rate_budgets")),
        comment="Calls a minute, shared by all runs of an account.",
    )
    op.create_table(
        "scribe_jobs",
        sa.Column("account", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(64), nullable=False),
        sa.Column("job_key", sa.String(255), nullable=False, comment="Correlation key and step: `visit-1/listen`."),
        sa.Column("correlation_key", sa.String(255), nullable=False, comment="The visit it works for."),
        sa.Column(
            "step",
            sa.String(64),
            nullable=False,
            comment="What is asked of the provider: listen, transcribe, note, upload.",
        ),
        sa.Column(
            "client_request_id",
            sa.String(128),
            nullable=False,
            comment="Our name for it, derived; the provider gives it back.",
        ),
        sa.Column(
            "request", json, nullable=False, comment="What to submit. Holds patient data where a note is asked for."
        ),
        sa.Column(
            "request_hash", sa.String(64), nullable=False, comment="Another audio or other options are another job."
        ),
        sa.Column("state", sa.String(16), nullable=False, comment="See providers/jobs.py."),
        sa.Column("vendor_job_id", sa.String(255), nullable=True, comment="The provider's id, once it gave one."),
        sa.Column(
            "code",
            sa.String(64),
            nullable=True,
            comment="Why it failed, expired, was cancelled or is unknown; the provider's own code.",
        ),
        sa.Column("submissions", sa.Integer(), nullable=False, comment="How often it was sent."),
        sa.Column("polls", sa.Integer(), nullable=False, comment="How often it was asked after."),
        sa.Column("next_poll_at", utc_datetime, nullable=True, comment="Not to be asked after before."),
        sa.Column("expires_at", utc_datetime, nullable=True, comment="Given up after."),
        sa.Column(
            "claimed_by", sa.String(64), nullable=True, comment="Worker that submits it; see warehouse/locks.py."
        ),
        sa.Column("wanted_at", utc_datetime, nullable=False),
        sa.Column("submitted_at", utc_datetime, nullable=True),
        sa.Column(
            "settled_at", utc_datetime, nullable=True, comment="When it was fetched, failed, expired or cancelled."
        ),
        sa.Column("run_id", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("account", "provider", "job_key", name=op.f("pk_scribe_jobs")),
        comment="Work a provider does for us, from wanted to fetched.",
    )
    op.create_index("ix_scribe_jobs_client", "scribe_jobs", ["account", "provider", "client_request_id"], unique=False)
    op.create_index("ix_scribe_jobs_due", "scribe_jobs", ["account", "provider", "state", "next_poll_at"], unique=False)
    op.create_index("ix_scribe_jobs_vendor", "scribe_jobs", ["account", "provider", "vendor_job_id"], unique=False)
    op.create_index("ix_scribe_jobs_visit", "scribe_jobs", ["account", "provider", "correlation_key"], unique=False)
    on_sqlite = op.get_bind().dialect.name == "sqlite"
    if on_sqlite:
        _refuse_unreadable_times()
    with op.batch_alter_table("visits") as visits:
        visits.add_column(
            sa.Column("audio_url", sa.Text(), comment="Where the provider fetches the recording; makes the row a job.")
        )
        visits.add_column(
            sa.Column(
                "audio_path", sa.Text(), comment="The recording as a file of ours to upload; makes the row a job."
            )
        )
        visits.add_column(sa.Column("section_style", sa.String(64)))
        visits.add_column(sa.Column("split_by_problem", sa.Boolean()))
        visits.add_column(sa.Column("diarization", sa.Boolean()))
        visits.add_column(
            sa.Column("category", sa.String(64), comment="Kind of recording, where the provider distinguishes them.")
        )
        visits.alter_column("imported_at", server_default=sa.text("CURRENT_TIMESTAMP"))
        if on_sqlite:
            for column in TIMES:
                visits.create_check_constraint(f"{column}_is_a_time", f"{column} IS NULL OR ({_is_time(column)})")


def downgrade() -> None:
    """Refused: a warehouse only moves forward; restore a backup instead."""
    raise NotImplementedError
