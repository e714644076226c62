"""A fake Redis keeps the broker's promises as the real one does: the same tests, another server.

So a strategy's own tests may run against `fakeredis` what in production runs against Redis.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from fakeredis import TcpFakeServer

from tests.integration import test_broker

broker = test_broker.broker

test_a_few_get_a_message_each = test_broker.test_a_few_get_a_message_each
test_more_ring_the_doorbell = test_broker.test_more_ring_the_doorbell
test_a_doorbell_is_not_rung_again = test_broker.test_a_doorbell_that_rings_is_not_rung_again
test_alerts_are_announced_by_number = test_broker.test_alerts_are_announced_by_number
test_a_celery_worker_runs_it = test_broker.test_a_celery_worker_runs_what_is_announced
test_a_closed_broker_opens_anew = test_broker.test_a_closed_broker_opens_anew


@pytest.fixture
def redis_url() -> Iterator[str]:
    """The address of a fake that speaks the protocol over TCP, and holds nothing yet."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="valkey")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()
    thread.join()
