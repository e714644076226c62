"""A second secret of an endpoint, for as long as its secret is being replaced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "signalpost"
BOTH_OR_NONE = "(previous_secret_ciphertext IS NULL) = (previous_secret_until IS NULL)"


def upgrade() -> None:
    for column in (
        sa.Column("previous_secret_ciphertext", sa.LargeBinary()),
        sa.Column("previous_secret_until", sa.DateTime(timezone=True)),
    ):
        op.add_column("endpoints", column, schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_endpoints_previous_secret"), "endpoints", BOTH_OR_NONE, schema=SCHEMA
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_endpoints_previous_secret"), "endpoints", schema=SCHEMA)
    for name in ("previous_secret_until", "previous_secret_ciphertext"):
        op.drop_column("endpoints", name, schema=SCHEMA)
