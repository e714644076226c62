"""procrastinate: jobs in PostgreSQL itself, aiohttp, one commit."""

from __future__ import annotations

from typing import Any

from procrastinate import App, PsycopgConnector

from tests.bench.peers import async_work, work

app = App(connector=PsycopgConnector(conninfo=work.DATABASE_URL))
held: dict[str, Any] = {}


@app.task(name="deliver")
async def deliver(delivery_id: str) -> None:
    if "opened" not in held:
        # The first jobs come together; the pool that is not kept is closed.
        opened = await async_work.opened()
        if held.setdefault("opened", opened) is not opened:
            await opened.close()
    await async_work.deliver(held["opened"], delivery_id)


def feed(_database_url: str, _redis_url: str) -> work.PeerFeed:
    app.open()
    if not app.check_connection():
        app.schema_manager.apply_schema()
    defer = app.configure_task("deliver")
    return work.PeerFeed(
        lambda ids: defer.batch_defer(*({"delivery_id": name} for name in ids)) and None
    )
