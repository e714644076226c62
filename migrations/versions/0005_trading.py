"""Many endpoints: filters, limits, breakers, order, priority and pauses."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "signalpost"

READY = "status = 'pending' AND held IS NULL AND NOT parked"
FORMER = (("ix_deliveries_due", "next_attempt_at"), ("ix_deliveries_claims", "worker_id"))
INDEXES = (
    ("ix_deliveries_due", ["endpoint_id", "priority", "next_attempt_at"], READY),
    (
        "ix_deliveries_live",
        ["endpoint_id", "ordering_key", "position"],
        "status IN ('pending', 'sending')",
    ),
    (
        "ix_deliveries_unplaced",
        ["held", "position"],
        "status = 'pending' AND held IN ('new', 'superseding')",
    ),
    ("ix_deliveries_parked", ["position"], "status = 'pending' AND parked"),
    ("ix_deliveries_claims", ["endpoint_id", "worker_id"], "status = 'sending'"),
    (
        "ix_deliveries_supersede",
        ["endpoint_id", "supersede_key"],
        "supersede_key IS NOT NULL AND status IN ('pending', 'sending')",
    ),
)


def upgrade() -> None:
    op.execute(f"CREATE SEQUENCE {SCHEMA}.positions")
    for column in endpoint_columns():
        op.add_column("endpoints", column, schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_endpoints_on_dead"), "endpoints", "on_dead IN ('skip', 'block')", schema=SCHEMA
    )
    create_orderings()
    create_pauses()
    for column in delivery_columns():
        op.add_column("deliveries", column, schema=SCHEMA)
    op.create_check_constraint(
        op.f("ck_deliveries_held"),
        "deliveries",
        "held IN ('new', 'behind', 'superseding')",
        schema=SCHEMA,
    )
    op.execute("""
        UPDATE signalpost.deliveries d SET ordering_key = s.instrument
        FROM signalpost.signals s WHERE s.id = d.signal_id AND d.status IN ('pending', 'sending')
    """)
    for name, _ in FORMER:
        op.drop_index(name, "deliveries", schema=SCHEMA)
    for name, columns, where in INDEXES:
        op.create_index(name, "deliveries", columns, schema=SCHEMA, postgresql_where=sa.text(where))
    # Never two of one ordering key at once, whatever any code does.
    op.create_index(
        "uq_deliveries_head",
        "deliveries",
        ["endpoint_id", "ordering_key"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text(
            "ordered AND (status = 'sending' OR (status = 'pending' AND held IS NULL))"
        ),
    )


def downgrade() -> None:
    for name in ("uq_deliveries_head", *(name for name, _, _ in INDEXES)):
        op.drop_index(name, "deliveries", schema=SCHEMA)
    op.drop_constraint(op.f("ck_deliveries_held"), "deliveries", schema=SCHEMA)
    for column in delivery_columns():
        op.drop_column("deliveries", column.name, schema=SCHEMA)
    for name, former in FORMER:
        status = "pending" if name == "ix_deliveries_due" else "sending"
        op.create_index(
            name,
            "deliveries",
            [former],
            schema=SCHEMA,
            postgresql_where=sa.text(f"status = '{status}'"),
        )
    op.drop_table("pauses", schema=SCHEMA)
    op.drop_table("orderings", schema=SCHEMA)
    op.drop_constraint(op.f("ck_endpoints_on_dead"), "endpoints", schema=SCHEMA)
    for column in endpoint_columns():
        op.drop_column("endpoints", column.name, schema=SCHEMA)
    op.execute(f"DROP SEQUENCE {SCHEMA}.positions")


def flag(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def count(name: str, kind: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, server_default=sa.text("0"), nullable=False)


def moment(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def endpoint_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("instruments", ARRAY(sa.Text())),
        sa.Column("sides", ARRAY(sa.Text())),
        sa.Column("actions", ARRAY(sa.Text())),
        sa.Column("producers", ARRAY(sa.Text())),
        sa.Column("min_confidence", sa.Numeric()),
        flag("ordered"),
        sa.Column("on_dead", sa.Text(), server_default=sa.text("'skip'"), nullable=False),
        sa.Column("max_in_flight", sa.Integer()),
        sa.Column("rate_per_second", sa.Float()),
        sa.Column("headers", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        moment("rate_next_at"),
        count("failures", sa.Integer()),
        moment("failing_since"),
        moment("opened_at"),
        moment("probe_at"),
        count("probes", sa.Integer()),
        moment("released_at"),
    ]


def delivery_columns() -> list[sa.Column[Any]]:
    return [
        count("priority", sa.SmallInteger()),
        flag("ordered"),
        sa.Column("ordering_key", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("supersede_key", sa.Text()),
        sa.Column(
            "position",
            sa.BigInteger(),
            server_default=sa.text("(nextval('signalpost.positions'::regclass) << 24)"),
            nullable=False,
        ),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("held", sa.Text()),
        flag("parked"),
    ]


def create_orderings() -> None:
    op.create_table(
        "orderings",
        sa.Column("endpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("ordering_key", sa.Text(), nullable=False),
        count("sequence", sa.BigInteger()),
        sa.Column("blocked_by", sa.Uuid()),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], [f"{SCHEMA}.endpoints.id"], name="fk_orderings_endpoint_id"
        ),
        sa.PrimaryKeyConstraint("endpoint_id", "ordering_key", name="pk_orderings"),
        schema=SCHEMA,
    )
    # Its sequence is counted up at nearly every claim, and no index holds that.
    op.execute(f"ALTER TABLE {SCHEMA}.orderings SET (fillfactor = 50)")


def create_pauses() -> None:
    op.create_table(
        "pauses",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("endpoint_id", sa.BigInteger()),
        flag("entries_only"),
        sa.Column(
            "paused_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.CheckConstraint(
            "scope IN ('all', 'producer', 'instrument', 'endpoint')", name=op.f("ck_pauses_scope")
        ),
        sa.CheckConstraint(
            "(scope = 'endpoint') = (endpoint_id IS NOT NULL)", name=op.f("ck_pauses_endpoint")
        ),
        sa.ForeignKeyConstraint(
            ["endpoint_id"], [f"{SCHEMA}.endpoints.id"], name="fk_pauses_endpoint_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_pauses"),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_pauses_scope",
        "pauses",
        ["scope", "value", "endpoint_id"],
        unique=True,
        schema=SCHEMA,
        postgresql_nulls_not_distinct=True,
    )
