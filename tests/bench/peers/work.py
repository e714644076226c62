"""What all peers have to do: the same tables, signature and statements, over psycopg."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg

DATABASE_URL = os.environ.get("BENCH_DATABASE_URL", "")
REDIS_URL = os.environ.get("BENCH_REDIS_URL", "")
SECRET = os.environ.get("BENCH_SECRET", "").encode()
PRODUCER = "bench"
TIMEOUT_SECONDS = 30.0

READ = "SELECT url, body, attempts + 1 FROM deliveries WHERE id = %s"
ATTEMPT = """
INSERT INTO attempts (delivery_id, number, started_at, seconds, status_code, error)
VALUES (%s, %s, %s, %s, %s, %s)
"""
UPDATE = "UPDATE deliveries SET status = %s, attempts = %s, finished_at = now() WHERE id = %s"
RECORD = """
WITH attempt AS (
    INSERT INTO attempts (delivery_id, number, started_at, seconds, status_code, error)
    VALUES (%(id)s, %(number)s, %(started_at)s, %(seconds)s, %(code)s, %(error)s)
)
UPDATE deliveries SET status = %(status)s, attempts = %(number)s, finished_at = now()
WHERE id = %(id)s
"""
"""Both in one statement and one commit, which is what who tunes would write."""

TABLES = """
CREATE TABLE deliveries (
    id uuid PRIMARY KEY, url text NOT NULL, body bytea NOT NULL,
    status text NOT NULL DEFAULT 'pending', attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz
);
CREATE INDEX ON deliveries (created_at) WHERE status = 'pending';
CREATE TABLE attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, delivery_id uuid NOT NULL,
    number integer NOT NULL, started_at timestamptz NOT NULL, seconds double precision NOT NULL,
    status_code integer, error text, UNIQUE (delivery_id, number)
);
"""


def body() -> bytes:
    """A signal of the usual size."""
    fields = {
        "confidence": 0.8,
        "entry_price": 101.5,
        "id": str(uuid4()),
        "instrument": "AAPL",
        "payload": {},
        "reason": "measured",
        "side": "buy",
        "stop_loss": 99,
        "take_profit": 110,
        "timestamp": datetime.now(UTC).isoformat(),
        "version": 1,
    }
    return json.dumps(fields, separators=(",", ":")).encode()


def signed(delivery_id: str, url: str, content: bytes) -> dict[str, str]:
    """The headers of one attempt, with one HMAC-SHA256 signature."""
    stamp = datetime.now(UTC).isoformat()
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    path = urlsplit(url).path
    facts = (
        f"METHOD:POST\nENDPOINT:{path}\nTIMESTAMP:{stamp}\nPRODUCER_ID:{PRODUCER}\n"
        f"BODY_SHA256:{digest}"
    )
    signature = base64.b64encode(hmac.digest(SECRET, facts.encode(), "sha256")).decode()
    return {
        "Content-Type": "application/json",
        "X-Producer-Id": PRODUCER,
        "X-Timestamp": stamp,
        "X-Signature": signature,
        "X-Idempotency-Key": delivery_id,
    }


class Tried:
    """What one POST brought, in the words of the tables."""

    def __init__(self, delivery_id: str, number: int) -> None:
        self.id, self.number = delivery_id, number
        self.started_at, self._begun = datetime.now(UTC), time.perf_counter()
        self.code: int | None = None
        self.error: str | None = None

    def row(self) -> dict[str, object]:
        """Parameters for RECORD."""
        good = self.code is not None and self.code < 300
        return {
            "id": self.id,
            "number": self.number,
            "started_at": self.started_at,
            "seconds": time.perf_counter() - self._begun,
            "code": self.code,
            "error": self.error,
            "status": "delivered" if good else "retry",
        }


class PeerFeed:
    """Stores rows, and publishes their ids by the peer's own function; see feeding.Feed."""

    def __init__(self, publish: Callable[[Sequence[str]], None]) -> None:
        self._publish = publish
        self._connection = psycopg.connect(DATABASE_URL, autocommit=True)
        if self._connection.execute("SELECT to_regclass('deliveries') IS NULL").fetchone() == (
            True,
        ):
            self._connection.execute(TABLES)

    def clear(self, urls: Sequence[str]) -> None:
        self._connection.execute("TRUNCATE deliveries, attempts")

    def adopt(self, urls: Sequence[str]) -> None:
        pass

    def fill(self, urls: Sequence[str]) -> None:
        self._publish(self._store(urls))

    def one(self, url: str) -> str:
        name = str(uuid4())
        self._connection.execute(
            "INSERT INTO deliveries (id, url, body) VALUES (%s, %s, %s)", (name, url, body())
        )
        self._publish([name])
        return name

    def many(self, url: str, count: int) -> float:
        begun = time.perf_counter()
        self.fill([url] * count)
        return time.perf_counter() - begun

    def left(self) -> int:
        found = self._connection.execute("SELECT count(*) FROM deliveries WHERE status = 'pending'")
        return sum(count for (count,) in found)

    def _store(self, urls: Sequence[str]) -> list[str]:
        rows = [(str(uuid4()), url, body()) for url in urls]
        with self._connection.cursor() as cursor:
            statement = "COPY deliveries (id, url, body) FROM STDIN"
            with self._connection.transaction(), cursor.copy(statement) as copy:
                for row in rows:
                    copy.write_row(row)
        return [name for name, _, _ in rows]
