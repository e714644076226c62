"""The receiver's own ledger: one line for each request, only ever appended to.

It is kept apart from the kit's store and from signalpost's database, so that the demo can hold
what signalpost says against what really arrived.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

__all__ = ["Ledger", "Receipt", "Verdict", "read_ledger"]


class Verdict(StrEnum):
    """What the receiver made of a request."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REFUSED = "refused"
    """Refused for good, with 422."""
    FAILED = "failed"
    """Answered 503 while the receiver was out of order."""
    BAD_SIGNATURE = "bad signature"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One request as the receiver saw it; ``at`` is in seconds since 1970, by its own clock."""

    at: float
    endpoint: str
    verdict: Verdict
    delivery: str
    signal: str


class Ledger:
    """Appends receipts to a file; each is one write, so that a killed receiver tears no line."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def append(self, receipt: Receipt) -> None:
        """Write one receipt."""
        os.write(self._file, json.dumps(asdict(receipt)).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_ledger(path: Path) -> list[Receipt]:
    """Read all receipts so far; none where the file is not there yet."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_receipt(json.loads(line)) for line in lines]


def count_by_endpoint(receipts: Iterable[Receipt]) -> dict[str, Counter[Verdict]]:
    """Count the verdicts of each endpoint."""
    counts: dict[str, Counter[Verdict]] = {}
    for receipt in receipts:
        counts.setdefault(receipt.endpoint, Counter())[receipt.verdict] += 1
    return counts


def _receipt(fields: dict[str, object]) -> Receipt:
    return Receipt(
        at=float(str(fields["at"])),
        endpoint=str(fields["endpoint"]),
        verdict=Verdict(str(fields["verdict"])),
        delivery=str(fields["delivery"]),
        signal=str(fields["signal"]),
    )
