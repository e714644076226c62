"""The audit trail can only be added to, and forgets nothing before a year is over."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "signalpost"


def upgrade() -> None:
    op.create_index("ix_audit_subject", "audit", ["subject", "id"], schema=SCHEMA)
    op.execute(f"""
        CREATE FUNCTION {SCHEMA}.keep_audit() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'DELETE' AND OLD.at < clock_timestamp() - interval '366 days' THEN
                RETURN OLD;
            END IF;
            RAISE EXCEPTION 'the audit trail is append-only: % is refused', TG_OP
                USING ERRCODE = 'insufficient_privilege';
        END $$
    """)
    op.execute(f"""
        CREATE TRIGGER keep_rows BEFORE UPDATE OR DELETE ON {SCHEMA}.audit
        FOR EACH ROW EXECUTE FUNCTION {SCHEMA}.keep_audit()
    """)
    op.execute(f"""
        CREATE TRIGGER keep_all BEFORE TRUNCATE ON {SCHEMA}.audit
        FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.keep_audit()
    """)


def downgrade() -> None:
    op.execute(f"DROP TRIGGER keep_all ON {SCHEMA}.audit")
    op.execute(f"DROP TRIGGER keep_rows ON {SCHEMA}.audit")
    op.execute(f"DROP FUNCTION {SCHEMA}.keep_audit()")
    op.drop_index("ix_audit_subject", "audit", schema=SCHEMA)
