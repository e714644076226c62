"""A delivery that is withdrawn while an attempt is under way remembers how it shall end."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = "signalpost"
CHECK = "ck_deliveries_wanted_end"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("wanted_end", sa.Text()), schema=SCHEMA)
    op.create_check_constraint(
        op.f(CHECK),
        "deliveries",
        "wanted_end IS NULL OR (status = 'sending' AND wanted_end IN ('cancelled', 'superseded'))",
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_constraint(op.f(CHECK), "deliveries", schema=SCHEMA)
    op.drop_column("deliveries", "wanted_end", schema=SCHEMA)
