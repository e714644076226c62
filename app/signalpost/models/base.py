"""What all tables share: the schema, the names of constraints, the kinds of columns."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Float, LargeBinary, MetaData, Numeric, Sequence, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase

__all__ = ["NOW", "POSITIONS", "SCHEMA", "Base"]

SCHEMA = "signalpost"

NOW = text("clock_timestamp()")


class Base(DeclarativeBase):
    """Declarative root; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it as a plain class attribute
        datetime: DateTime(timezone=True),
        str: Text,
        bytes: LargeBinary,
        UUID: Uuid,
        dict[str, Any]: JSONB,
        list[str]: ARRAY(Text),
        list[float]: ARRAY(Float),
        Decimal: Numeric,
    }


POSITIONS = Sequence("positions", schema=SCHEMA, metadata=Base.metadata)
"""Numbers the calls of enqueue; a delivery's position is its call's number with room for 2**24
signals of the same call below it."""
