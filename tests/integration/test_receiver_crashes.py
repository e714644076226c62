from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests import rows
from tests.desks import Desk, PostgresDesk, SqliteDesk, body_of
from tests.engines import SEALED, SECRET, engine_rig
from tests.processes import Program

PROGRAM = Path(__file__).with_name("receiver_program.py")


@pytest.fixture(params=["sqlite", "postgres"])
def desk(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Desk:
    return PostgresDesk(database_url) if request.param == "postgres" else SqliteDesk(tmp_path)


@pytest.mark.parametrize(("moment", "status"), [("effect", "201 accepted"), ("answer", "200")])
async def test_killed_between_effect_and_answer_the_effect_is_there_once(
    desk: Desk, moment: str, status: str, engine: Engine, database_url: str
) -> None:
    """A receiver killed -9 after its effect gets the delivery again and acts on it once in all."""
    desk.close()
    where = ("sqlite", desk.file) if isinstance(desk, SqliteDesk) else ("postgres", database_url)
    run = [sys.executable, str(PROGRAM), *map(str, where)]
    env = {"DESK_SECRET": SECRET}

    async with engine_rig(database_url) as rig:
        with Program([*run, "0", moment], env=env) as doomed:
            url = doomed.wait_for_line(r"listening on (http://127\.0\.0\.1:(\d+)/.*)")
            with engine.begin() as connection:
                delivery_id = rows.add_delivery(
                    connection,
                    endpoint_id=rows.add_endpoint(connection, url=url[1], secret_ciphertext=SEALED),
                    signal_id=rows.add_signal(connection, body=body_of()),
                )
            attempt = asyncio.create_task(rig.engine.deliver(delivery_id))
            await asyncio.to_thread(doomed.wait_for_line, "standing still")
            doomed.kill()
            first = await attempt
        with Program([*run, url[2], "never"], env=env) as revived:
            await asyncio.to_thread(revived.wait_for_line, "listening")
            second = await rig.engine.deliver(delivery_id)
            revived.wait_for_line(f"^{status}")

    assert (first.outcome, second.outcome, second.status) == ("unknown", "delivered", "delivered")
    assert (first.attempt, second.attempt) == (1, 2)
    assert [str(key) for (key,) in desk.ask("SELECT delivery_id FROM orders")] == [str(delivery_id)]
