"""The outbox: endpoints, signals, deliveries, attempts, workers, alerts and the audit trail."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "signalpost"


def upgrade() -> None:
    create_endpoints()
    create_signals()
    create_workers()
    create_deliveries()
    create_attempts()
    create_alerts()
    create_audit()


def downgrade() -> None:
    # The schema stays: Alembic's own table lives in it.
    for table in ("audit", "alerts", "attempts", "deliveries", "workers", "signals", "endpoints"):
        op.drop_table(table, schema=SCHEMA)


def number(name: str = "id") -> sa.Column[Any]:
    return sa.Column(name, sa.BigInteger(), sa.Identity(), nullable=False)


def moment(name: str) -> sa.Column[Any]:
    return sa.Column(name, sa.DateTime(timezone=True))


def stamped(name: str, *, nullable: bool = False) -> sa.Column[Any]:
    """A moment that is the database's own time of the insert unless it is given."""
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("clock_timestamp()"),
        nullable=nullable,
    )


def foreign(
    table: str, column: str, to: str, *, ondelete: str | None = None
) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{SCHEMA}.{to}.id"], name=f"fk_{table}_{column}", ondelete=ondelete
    )


def create_endpoints() -> None:
    op.create_table(
        "endpoints",
        number(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("secret_ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("secret_version", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("timeout_seconds", sa.Float()),
        sa.Column("max_retries", sa.Integer()),
        sa.Column("retry_delay_seconds", sa.Float()),
        sa.Column("ttl_seconds", sa.Float()),
        sa.Column("on_unknown", sa.Text(), server_default=sa.text("'retry'"), nullable=False),
        stamped("created_at"),
        moment("removed_at"),
        sa.CheckConstraint("on_unknown IN ('retry', 'stop')", name=op.f("ck_endpoints_on_unknown")),
        sa.PrimaryKeyConstraint("id", name="pk_endpoints"),
        schema=SCHEMA,
    )
    op.create_index(
        "uq_endpoints_name_live",
        "endpoints",
        ["name"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("removed_at IS NULL"),
    )


def create_signals() -> None:
    op.create_table(
        "signals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("producer_id", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("instrument", sa.Text(), nullable=False),
        sa.Column("side", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        stamped("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_signals"),
        sa.UniqueConstraint(
            "producer_id", "idempotency_key", name="uq_signals_producer_id_idempotency_key"
        ),
        schema=SCHEMA,
    )


def create_workers() -> None:
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        stamped("started_at"),
        stamped("renewed_at"),
        moment("stopped_at"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
        schema=SCHEMA,
    )


def create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Uuid(), server_default=sa.text("gen_random_uuid()"), nullable=False),
        sa.Column("signal_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Text(), server_default=sa.text("'pending'"), nullable=False),
        sa.Column("reason", sa.Text()),
        stamped("created_at"),
        stamped("next_attempt_at", nullable=True),
        moment("expires_at"),
        moment("finished_at"),
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("spent", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("maybe_received", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("replays", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claim_id", sa.Uuid()),
        sa.Column("worker_id", sa.Uuid()),
        moment("claimed_at"),
        sa.CheckConstraint(
            "(status = 'sending') = (claim_id IS NOT NULL)", name=op.f("ck_deliveries_claimed")
        ),
        sa.CheckConstraint(
            "status IN ('pending', 'sending', 'delivered', 'dead', 'expired', 'cancelled', "
            "'superseded')",
            name=op.f("ck_deliveries_status"),
        ),
        foreign("deliveries", "signal_id", "signals"),
        foreign("deliveries", "endpoint_id", "endpoints"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
        sa.UniqueConstraint("signal_id", "endpoint_id", name="uq_deliveries_signal_id_endpoint_id"),
        schema=SCHEMA,
    )
    # A claimed row is updated twice in its life. Its status decides in which indexes it stands, so
    # no update is HOT; but a new version that stays on its page spares log (docs/scaling.md).
    op.execute(f"ALTER TABLE {SCHEMA}.deliveries SET (fillfactor = 80)")
    index_deliveries()


def index_deliveries() -> None:
    """Nearly all are partial: finished rows cost a claim nothing, however many there are."""
    indexes = (
        ("due", "next_attempt_at", "status = 'pending'"),
        ("expiring", "expires_at", "status = 'pending'"),
        ("claims", "worker_id", "status = 'sending'"),
        ("dead_letters", "finished_at", "status IN ('dead', 'expired')"),
        ("finished", "finished_at", "finished_at IS NOT NULL"),
        ("created", "created_at", None),
    )
    for name, column, where in indexes:
        op.create_index(
            f"ix_deliveries_{name}",
            "deliveries",
            [column],
            schema=SCHEMA,
            postgresql_where=None if where is None else sa.text(where),
        )


def create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("delivery_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("claim_id", sa.Uuid(), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        stamped("recorded_at"),
        sa.Column("duration_seconds", sa.Float()),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("failure", sa.Text()),
        sa.Column("detail", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("late", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("excerpt", sa.LargeBinary(), server_default=sa.text("''::bytea"), nullable=False),
        foreign("attempts", "delivery_id", "deliveries", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("delivery_id", "number", name="pk_attempts"),
        sa.UniqueConstraint("claim_id", name="uq_attempts_claim_id"),
        schema=SCHEMA,
    )


def create_alerts() -> None:
    op.create_table(
        "alerts",
        number(),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Uuid()),
        sa.Column("endpoint_id", sa.BigInteger()),
        sa.Column("details", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        stamped("created_at"),
        stamped("next_attempt_at"),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("error", sa.Text()),
        moment("sent_at"),
        sa.Column("receipt", sa.Text()),
        foreign("alerts", "delivery_id", "deliveries", ondelete="CASCADE"),
        foreign("alerts", "endpoint_id", "endpoints"),
        sa.PrimaryKeyConstraint("id", name="pk_alerts"),
        schema=SCHEMA,
    )
    op.create_index("ix_alerts_delivery_id", "alerts", ["delivery_id"], schema=SCHEMA)
    op.create_index(
        "ix_alerts_unsent",
        "alerts",
        ["next_attempt_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("sent_at IS NULL"),
    )
    # One open notice of a kind for an endpoint (or for none): a repeated trouble is told once.
    op.create_index(
        "uq_alerts_open_notice",
        "alerts",
        ["kind", "endpoint_id"],
        unique=True,
        schema=SCHEMA,
        postgresql_where=sa.text("sent_at IS NULL AND delivery_id IS NULL"),
        postgresql_nulls_not_distinct=True,
    )


def create_audit() -> None:
    op.create_table(
        "audit",
        number(),
        stamped("at"),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("before", JSONB()),
        sa.Column("after", JSONB()),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        schema=SCHEMA,
    )
