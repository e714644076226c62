"""Two seldom looks find what they want: signals that are old, and newer ones of a supersede key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

SCHEMA = "signalpost"


def upgrade() -> None:
    op.create_index("ix_signals_created", "signals", ["created_at"], schema=SCHEMA)
    op.create_index(
        "ix_deliveries_superseders",
        "deliveries",
        ["endpoint_id", "supersede_key", "position"],
        schema=SCHEMA,
        postgresql_where=sa.text("supersede_key IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_deliveries_superseders", "deliveries", schema=SCHEMA)
    op.drop_index("ix_signals_created", "signals", schema=SCHEMA)
