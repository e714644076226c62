"""Alerts in messages: one pace for all senders, and the troubles that last.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

SCHEMA = "signalpost"
NOW = sa.text("clock_timestamp()")


def upgrade() -> None:
    """Let notices differ by their subject; add pace and troubles."""
    op.add_column(
        "alerts",
        sa.Column("subject", sa.Text(), server_default=sa.text("''"), nullable=False),
        schema=SCHEMA,
    )
    open_notice(["kind", "endpoint_id", "subject"])
    # Whether one of its kind was told lately is asked before every message.
    op.create_index("ix_alerts_kind_sent", "alerts", ["kind", "sent_at"], schema=SCHEMA)
    op.create_table(
        "alert_pace",
        sa.Column("id", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("silent_until", sa.DateTime(timezone=True)),
        sa.Column(
            "begun",
            ARRAY(sa.DateTime(timezone=True)),
            server_default=sa.text("'{}'::timestamptz[]"),
            nullable=False,
        ),
        sa.CheckConstraint("id = 1", name="one_row"),
        sa.PrimaryKeyConstraint("id", name="pk_alert_pace"),
        schema=SCHEMA,
    )
    op.create_table(
        "troubles",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.BigInteger()),
        sa.Column("details", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("told_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], [f"{SCHEMA}.endpoints.id"], name="fk_troubles_endpoint_id"
        ),
        sa.PrimaryKeyConstraint("kind", "subject", name="pk_troubles"),
        schema=SCHEMA,
    )


def downgrade() -> None:
    """Take it all away again; of notices that differ by subject alone the newest stays open."""
    op.drop_table("troubles", schema=SCHEMA)
    op.drop_table("alert_pace", schema=SCHEMA)
    op.drop_index("ix_alerts_kind_sent", "alerts", schema=SCHEMA)
    op.execute(
        """
        DELETE FROM signalpost.alerts a USING signalpost.alerts newer
        WHERE a.sent_at IS NULL AND a.delivery_id IS NULL
          AND newer.sent_at IS NULL AND newer.delivery_id IS NULL
          AND newer.kind = a.kind AND newer.endpoint_id IS NOT DISTINCT FROM a.endpoint_id
          AND newer.id > a.id
        """
    )
    open_notice(["kind", "endpoint_id"])
    op.drop_column("alerts", "subject", schema=SCHEMA)


def open_notice(columns: list[str]) -> None:
    """Make the index that keeps a repeated trouble from being told twice, over other columns."""
    op.drop_index("uq_alerts_open_notice", "alerts", schema=SCHEMA)
    op.create_index(
        "uq_alerts_open_notice",
        "alerts",
        columns,
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("sent_at IS NULL AND delivery_id IS NULL"),
        postgresql_nulls_not_distinct=True,
    )
