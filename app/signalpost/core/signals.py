"""The signal: one trading instruction, its rules, and the bytes that go over the wire."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from signalpost.core import exactjson
from signalpost.core.identity import check_key, check_producer_id, derived_id, signal_id
from signalpost.core.instants import rfc3339
from signalpost.core.signal_rules import (
    Confidence,
    Instant,
    Price,
    broken_price_rules,
    plain_payload,
    problems,
)
from signalpost.errors import SignalError

__all__ = [
    "Action",
    "Number",
    "Side",
    "Signal",
    "check_body_size",
    "check_key",
    "check_producer_id",
]

Side = Literal["buy", "sell"]
Action = Literal["open", "close", "modify", "cancel"]
Number = Decimal | int | float | str


class Signal(BaseModel):
    """One trading instruction of a producer; immutable, and checked when it is made.

    Raises errors.SignalError, one line for each broken rule (docs/signing.md). Numbers may be
    Decimal, int, str or float and keep their digits; times need a time zone and are kept in UTC.
    The body is made once, here: changing `payload` afterwards does not change what is sent.
    Its repr shows labels only, since prices, reason and payload must not reach logs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)

    instrument: Annotated[str, Field(pattern=r"^[A-Z0-9._-]{2,20}$")]
    side: Side
    entry_price: Price
    stop_loss: Price | None = None
    take_profit: Price | None = None
    confidence: Confidence
    reason: Annotated[str, Field(min_length=1, max_length=200)]
    timestamp: Instant
    action: Action = "open"
    payload: Annotated[dict[str, Any], BeforeValidator(plain_payload)] = Field(default_factory=dict)
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,20}$")] = "1.0"
    expires_at: Instant | None = None
    id: Annotated[UUID, BeforeValidator(signal_id)] | None = None

    _body: bytes = PrivateAttr(default=b"")

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            instrument: str,
            side: Side,
            entry_price: Number,
            confidence: Number,
            reason: str,
            timestamp: datetime | str,
            stop_loss: Number | None = None,
            take_profit: Number | None = None,
            action: Action = "open",
            payload: Mapping[str, Any] = ...,
            version: str = "1.0",
            expires_at: datetime | str | None = None,
            id: UUID | str | None = None,  # noqa: A002  the body's name for it
        ) -> None: ...

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        broken: list[str]
        try:
            signal = handler(data)
        except ValidationError as error:
            broken = problems(error)
        else:
            broken = _broken_levels(signal)
            if not broken:
                signal._body = _body_of(signal)  # noqa: SLF001  its own class
                return signal
        # Raised out here, so that no context carries the input along.
        raise SignalError(*broken)

    @classmethod
    def from_json(cls, text: bytes | str) -> Self:
        """Reads a body, or a line of JSON, with every number's digits kept.

        Raises errors.SignalError also for what is not JSON in UTF-8 and for a key given twice.
        """
        try:
            data = exactjson.decode(text)
        except ValueError as error:
            problem = f"JSON: {error}"
        else:
            return cls.model_validate(data)
        raise SignalError(problem)

    def body(self) -> bytes:
        """The exact bytes of the request: sorted keys, no spaces, UTF-8, numbers as given.

        Left out: `action` where it is open; `stop_loss`, `take_profit`, `expires_at` and `id` where
        they are not set. `payload` is always there, `{}` if empty.
        """
        return self._body

    def identified(self, producer_id: str, key: str | None = None) -> Self:
        """The same signal with an id, so that enqueueing it again, even after a restart, is known.

        A given id stays. Otherwise it is derived from the producer and its key, or from the
        producer and the body: the first 16 bytes of a SHA-256 as a UUID of version 8 (RFC 9562).
        """
        check_producer_id(producer_id)
        if self.id is not None:
            return self
        if key is None:
            derived = derived_id("body", producer_id, self._body)
        else:
            derived = derived_id("key", producer_id, check_key(key).encode())
        # From the body and not from the fields: what was checked is sent, under the id made of it.
        members = exactjson.decode(self._body)
        identified = super().model_copy(update={"id": derived, "payload": members["payload"]})
        identified._body = exactjson.encode({**members, "id": str(derived)})  # noqa: SLF001  its own class
        return identified

    def model_copy(
        self,
        *,
        update: Mapping[str, Any] | None = None,
        deep: bool = False,  # noqa: ARG002  pydantic's signature; a new signal is always deep
    ) -> Self:
        """A copy with other values, checked like any new signal (pydantic's own copy is not)."""
        return type(self).model_validate({**self.__dict__, **(update or {})})

    def copy(  # type: ignore[override]  # pydantic's can leave fields out, which no signal can
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Self:
        """As `model_copy`: pydantic's older way would keep the body of before the update."""
        return self.model_copy(update=update, deep=deep)

    @classmethod
    def model_construct(  # type: ignore[override]  # the plugin's own signature
        cls,
        _fields_set: set[str] | None = None,  # pydantic's signature
        **values: Any,
    ) -> Self:
        """As a new signal: unchecked there is none, since it would have no body."""
        return cls.model_validate(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signal) and self._body == other._body

    def __hash__(self) -> int:
        return hash(self._body)

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [(name, getattr(self, name)) for name in ("id", "instrument", "side", "action")]


def check_body_size(body: bytes, limit: int) -> None:
    """errors.SignalError where the body has more bytes than the limit."""
    if len(body) > limit:
        raise SignalError(
            f"the body has {len(body)} bytes and at most {limit} are allowed; "
            "shorten the payload or raise OUTBOUND_MAX_BODY_SIZE"
        )


def _broken_levels(signal: Signal) -> list[str]:
    if signal.action != "open":
        return []
    return broken_price_rules(signal.side, signal.entry_price, signal.stop_loss, signal.take_profit)


def _body_of(signal: Signal) -> bytes:
    members = {name: value for name, value in signal.__dict__.items() if value is not None}
    if signal.action == "open":
        del members["action"]
    for name in ("timestamp", "expires_at"):
        if name in members:
            members[name] = rfc3339(members[name])
    if signal.id is not None:
        members["id"] = str(signal.id)
    return exactjson.encode(members)
