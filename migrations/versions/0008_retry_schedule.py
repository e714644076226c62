"""An endpoint's retries may wait by a list of its own instead of doubling."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCHEMA = "signalpost"


def upgrade() -> None:
    op.add_column(
        "endpoints", sa.Column("retry_schedule_seconds", sa.ARRAY(sa.Float())), schema=SCHEMA
    )


def downgrade() -> None:
    op.drop_column("endpoints", "retry_schedule_seconds", schema=SCHEMA)
