"""What an engine's log lines say they are about."""

from __future__ import annotations

import io
import json
import logging

from sqlalchemy import Engine

from signalpost.logs import _JsonLines
from tests import receivers, rows
from tests.engines import SEALED, engine_rig
from tests.waiting import until


async def test_every_line_about_a_delivery_has_its_four_ids(
    engine: Engine, database_url: str
) -> None:
    """Lines of an attempt that fails, of one without a readable secret, of whatever module: each
    has signal, delivery, endpoint and attempt as fields, of its own delivery.
    """
    page = io.StringIO()
    handler = logging.StreamHandler(page)
    handler.setFormatter(_JsonLines())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        async with (
            receivers.receiver(receivers.status(503, 201)) as receiver,
            engine_rig(database_url) as rig,
        ):
            with engine.begin() as connection:
                well, ill = (
                    rows.add_endpoint(
                        connection, name=name, url=receiver.url, secret_ciphertext=sealed
                    )
                    for name, sealed in (("well", SEALED), ("ill", b"sealed by nobody"))
                )
                about = {}
                for endpoint_id, name in ((well, "well"), (ill, "ill")):
                    signal_id = rows.add_signal(connection)
                    delivery_id = rows.add_delivery(
                        connection, signal_id=signal_id, endpoint_id=endpoint_id
                    )
                    about[str(delivery_id)] = (str(signal_id), name)
            await rig.engine.drain()
            await until(lambda: len(receiver.seen) == 2)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    lines = [json.loads(line) for line in page.getvalue().splitlines()]
    told = [line for line in lines if "delivery" in line]
    assert {line["logger"] for line in told} >= {"signalpost.deliveries", "signalpost.dispatch"}
    for line in told:
        assert (line["signal"], line["endpoint"]) == about[line["delivery"]]
        assert line["attempt"] >= 1
