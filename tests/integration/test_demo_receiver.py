"""The demo's receiver process against real requests: what it answers and what it writes down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from signalpost.core.signals import Signal
from signalpost.core.signing import Outgoing, secret_bytes, sign
from signalpost.demo.ledger import read_ledger
from signalpost.demo.processes import Child, start_receiver
from signalpost.demo.receiver_process import LEDGER, Plan
from tests.processes import clean_environment, wait_for

SECRETS = {"desk": "correct horse battery staple", "journal": "staple battery horse correct"}
PLAN = Plan(SECRETS, misbehaving="desk", fail_at=0, fail_seconds=0.0, refuse_at=0)

Post = Callable[..., int]


def _body(instrument: str = "AAPL") -> bytes:
    signal = Signal(
        instrument=instrument,
        side="buy",
        entry_price="10.5",
        stop_loss="9.5",
        take_profit="12.5",
        confidence="0.5",
        reason="a test",
        timestamp=datetime(2020, 1, 2, tzinfo=UTC),
    )
    return signal.identified("tester").body()


class Served:
    """A receiver under a plan, and the sender's side of it."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.folder = folder
        self.child, self.port = start_receiver(
            folder, plan.to_json(), environment=clean_environment(), log=folder / "receiver.log"
        )

    def post(self, endpoint: str, body: bytes, delivery: str, *, secret: str | None = None) -> int:
        outgoing = Outgoing(
            method="POST",
            authority=f"127.0.0.1:{self.port}",
            raw_path=f"/{endpoint}",
            query="",
            body=body,
            producer_id="tester",
            delivery_id=delivery,
            attempt=1,
            expires_at=None,
            replayed=False,
            sequence=None,
            timestamp=datetime.now(UTC),
        )
        key = secret_bytes(secret or SECRETS[endpoint])
        headers = sign(outgoing, keys=[key], key_ids=[f"{endpoint}:1"])
        url = f"http://{outgoing.authority}{outgoing.raw_path}"
        return httpx.post(url, content=body, headers=headers).status_code

    def verdicts(self) -> list[tuple[str, str]]:
        return [(line.endpoint, line.verdict.value) for line in read_ledger(self.folder / LEDGER)]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Plan], Served]]:
    children: list[Child] = []

    def start(plan: Plan) -> Served:
        served = Served(tmp_path, plan)
        children.append(served.child)
        return served

    yield start
    for child in children:
        child.end()


def test_each_request_is_answered_and_written_down(serve: Callable[[Plan], Served]) -> None:
    """A new delivery is accepted, the same again a duplicate, a wrong signature refused."""
    served = serve(PLAN)
    delivery = str(uuid4())

    assert served.post("desk", _body(), delivery) == 201
    assert served.post("desk", _body(), delivery) == 200
    assert served.post("desk", _body(), str(uuid4()), secret="an altogether other one") == 401
    assert served.post("journal", _body(), delivery) == 201
    assert served.verdicts() == [
        ("desk", "accepted"),
        ("desk", "duplicate"),
        ("desk", "bad signature"),
        ("journal", "accepted"),
    ]


def test_the_receiver_fails_from_the_planned_request_on(serve: Callable[[Plan], Served]) -> None:
    """From its request number 2 the desk answers 503 for a while, the journal never does."""
    served = serve(replace(PLAN, fail_at=2, fail_seconds=60.0))
    deliveries = [str(uuid4()) for _ in range(3)]

    assert [served.post("desk", _body(), each) for each in deliveries] == [201, 503, 503]
    assert served.post("journal", _body(), deliveries[0]) == 201
    assert [line.delivery for line in read_ledger(served.folder / LEDGER)][:3] == deliveries


def test_the_receiver_recovers(serve: Callable[[Plan], Served]) -> None:
    """Once the time of failing is over, the delivery that failed is accepted."""
    served = serve(replace(PLAN, fail_at=1, fail_seconds=0.3))
    delivery = str(uuid4())

    assert served.post("desk", _body(), delivery) == 503
    wait_for(lambda: served.post("desk", _body(), delivery) == 201, 10.0, "a recovery")


def test_one_signal_is_refused_for_good(serve: Callable[[Plan], Served]) -> None:
    """The planned signal gets 422 each time it comes, those before and after it are accepted."""
    served = serve(replace(PLAN, refuse_at=2))
    bodies = [_body("AAPL"), _body("IBM"), _body("GOOG")]

    assert [served.post("desk", body, str(uuid4())) for body in bodies] == [201, 422, 201]
    assert served.post("desk", bodies[1], str(uuid4())) == 422


def test_the_receiver_ends_with_its_stdin(serve: Callable[[Plan], Served]) -> None:
    """The process ends by itself when the demo is gone, which it learns from its stdin."""
    served = serve(PLAN)
    assert served.child.process.stdin is not None

    served.child.process.stdin.close()

    assert served.child.process.wait(10) == 0
