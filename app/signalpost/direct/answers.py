"""What a receiver says of a signal, read from whatever it sends."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import from_json

from signalpost.core.instants import instant

__all__ = ["ANSWER_BYTES", "SignalIngestResponse", "read_answer"]

ANSWER_BYTES = 65536
"""As much of an answer is read; a longer one counts as unreadable."""

MOST_CHARACTERS = 2000
MOST_ERRORS = 100


def _text(value: object) -> str:
    if value is None:
        return ""
    shown = value if isinstance(value, str) else json.dumps(value, default=str)
    return shown[:MOST_CHARACTERS]


def _label(value: object) -> str | None:
    return _text(value) or None


def _moment(value: object) -> datetime | None:
    try:
        return instant(value)
    except ValueError:
        return None


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    each = value if isinstance(value, list | tuple) else [value]
    return tuple(_text(one) for one in each[:MOST_ERRORS])


class SignalIngestResponse(BaseModel):
    """A receiver's answer.

    status_code: of HTTP. signal_id, status (the kit: received, pending_approval or rejected),
    server_timestamp (UTC), message and errors: as the receiver gave them, None or empty where it
    did not, or not in a form that can be read. Further fields are left out. Its repr leaves out the
    receiver's own words, which may quote the signal.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    status_code: int
    signal_id: Annotated[str | None, BeforeValidator(_label)] = None
    status: Annotated[str | None, BeforeValidator(_label)] = None
    server_timestamp: Annotated[datetime | None, BeforeValidator(_moment)] = None
    message: Annotated[str, BeforeValidator(_text)] = ""
    errors: Annotated[tuple[str, ...], BeforeValidator(_texts)] = ()

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [(name, getattr(self, name)) for name in ("status_code", "signal_id", "status")]


def read_answer(status_code: int, body: bytes) -> SignalIngestResponse:
    """The answer in `body`; of one that is no JSON object, or too long, the status code alone."""
    members: Any = None
    if len(body) < ANSWER_BYTES:
        try:
            members = from_json(body)
        except ValueError:
            members = None
    fields = members if isinstance(members, dict) else {}
    return SignalIngestResponse.model_validate({**fields, "status_code": status_code})
