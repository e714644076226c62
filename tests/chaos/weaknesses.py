"""What the suite must notice: changes to the code, each with the faults that bring it out."""

from __future__ import annotations

from dataclasses import dataclass

ALERTS = "        alerts = {row.id: row.alert_id for row in moved if row.alert_id is not None}\n"
LAST_CHECK = "    def _last_check(self, flight: Flight) -> Failure | None:\n"
PAUSES = """\
        EXISTS (SELECT FROM signalpost.pauses
                WHERE scope IN ('producer', 'instrument')) AS narrow,
        EXISTS (SELECT FROM signalpost.orderings) AS ordered,
        EXISTS (SELECT FROM signalpost.pauses WHERE scope = 'all') AS paused,
        EXISTS (SELECT FROM signalpost.pauses WHERE scope = 'all' AND NOT entries_only) AS stopped
"""


@dataclass(frozen=True, slots=True)
class Change:
    """What stands once in which file, and what stands there instead."""

    file: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """What is changed, the faults that bring it out, and the count that must rise.

    ``faults``: when each comes, see `plan.placed`. What would make good for what is taken away is
    taken away too.
    """

    name: str
    changes: tuple[Change, ...]
    faults: str
    count: str
    minutes: float = 0.5


DISPATCH = "app/signalpost/dispatch.py"
SWEEPS = "app/signalpost/sweeps.py"
CONTROL = Mutation(
    "nothing is changed",
    (),
    "link_receiver_slow@3+20,freeze_deliver@7+13,clock_off@9+5,receiver_reject@22+6,"
    "receiver_timeout@24+6,kill_every_deliver@27,link_postgres_slow@31+8",
    "",
    0.7,
)

MUTATIONS = (
    CONTROL,
    Mutation(
        "no rescue and no look",
        (
            Change(
                SWEEPS,
                "    async def rescue(self) -> None:\n",
                "    async def rescue(self) -> None:\n        return\n",
            ),
            # Each expiry looks for what is due, and with it for what the rescue would have found.
            Change(
                SWEEPS,
                "        if self._stopped:\n            return\n",
                "        if after_seconds >= 0:\n            return\n",
            ),
        ),
        "redis_flushall@10",
        "lost",
    ),
    Mutation(
        "no claim of the dead is taken back",
        (
            Change(
                "app/signalpost/vigil.py",
                "        if not self._lease.may_take_back:\n",
                "        if self._lease.may_take_back or not self._lease.may_take_back:\n",
            ),
        ),
        "link_receiver_slow@3+15,kill_every_deliver@12",
        "lost",
    ),
    Mutation(
        "acknowledged before it is recorded",
        (
            Change(
                DISPATCH,
                "        claim = flight.claim\n        flight.task",
                "        claim = flight.claim\n"
                "        from signalpost.core.outcomes import Phase as P\n"
                "        early = Answer(P.BODY, 0.0, status_code=200)\n"
                "        await self._records.put(self.judge(claim, early))\n"
                "        flight.task",
            ),
        ),
        "receiver_error@4+6,receiver_timeout@12+6",
        "wrong_status",
    ),
    Mutation(
        "no claim id in the record",
        (
            Change(
                "app/signalpost/core/lifecycle.py",
                "    if standing.status is Status.SENDING and standing.claim_id == claim_id:\n",
                "    if standing.status is Status.SENDING:\n",
            ),
        ),
        # What the frozen one had under way is under way again when it thaws and gives it up.
        "link_receiver_slow@3+24,freeze_deliver@7+13",
        "duplicated",
    ),
    Mutation(
        "no last check",
        (
            Change(
                DISPATCH,
                "            timeout_seconds=timeout if life is None else min(timeout, life),\n",
                "            timeout_seconds=timeout,\n",
            ),
            Change(DISPATCH, LAST_CHECK, f"{LAST_CHECK}        return None\n"),
        ),
        # So short that the lease outlives it; a claim under way is answered after five seconds.
        "link_postgres_slow@3+4,link_postgres_slow@12+4,link_postgres_slow@21+4,"
        "link_postgres_slow@30+4",
        "late",
        0.7,
    ),
    Mutation(
        "no alert with an expired delivery",
        (
            Change(
                "app/signalpost/repository/recorded.py",
                'Status.EXPIRED: "expired"}',
                'Status.EXPIRED: "none"}',
            ),
        ),
        "receiver_error@4+12,link_receiver_refuse@17+12",
        "silent",
    ),
    Mutation(
        "alerts outside the transaction",
        (
            Change(
                "app/signalpost/repository/records.py",
                ALERTS,
                f"{ALERTS}        if alerts:\n"
                "            import threading\n"
                '            taken = text("DELETE FROM signalpost.alerts WHERE id = ANY(:ids) "\n'
                '                "RETURNING kind, delivery_id, endpoint_id")\n'
                '            told = connection.execute(taken, {"ids": [*alerts.values()]}).all()\n'
                "            url = connection.engine.url\n"
                "            def later() -> None:\n"
                "                from sqlalchemy import create_engine\n"
                "                with create_engine(url).begin() as own:\n"
                "                    for row in told:\n"
                '                        own.execute(text("INSERT INTO signalpost.alerts "\n'
                '                            "(kind, delivery_id, endpoint_id) "\n'
                '                            "VALUES (:k, :d, :e)"),\n'
                '                            {"k": row[0], "d": row[1], "e": row[2]})\n'
                "            threading.Timer(0.5, later).start()\n"
                "            alerts = {}\n",
            ),
        ),
        "receiver_reject@4+20,kill_every_deliver@10,kill_every_deliver@19",
        "silent",
    ),
    Mutation(
        "the order is not kept",
        (
            Change(
                "app/signalpost/repository/storing.py",
                "        CAST(:priority AS smallint), targets.ordered, "
                "CASE WHEN targets.ordered THEN 'new' END,\n",
                "        CAST(:priority AS smallint), false, NULL,\n",
            ),
        ),
        "receiver_error@4+6,link_receiver_refuse@12+6,receiver_error@20+6",
        "misordered",
    ),
    Mutation(
        "exits overtake their own key",
        (
            Change(
                "app/signalpost/repository/taking.py",
                "AND o.status IN ('pending', 'sending') AND o.position < d.position))\"\"\"\n",
                'AND false AND o.position < d.position))"""\n',
            ),
        ),
        "receiver_error@4+6,link_receiver_refuse@12+6,receiver_error@20+6",
        "misordered",
    ),
    Mutation(
        "pauses hold nothing",
        (
            Change(
                "app/signalpost/gate.py",
                "        return Failure.PAUSED if held else None\n",
                "        return None\n",
            ),
            Change(
                "app/signalpost/repository/looking.py",
                PAUSES,
                "        false AS narrow,\n"
                "        EXISTS (SELECT FROM signalpost.orderings) AS ordered,\n"
                "        false AS paused, false AS stopped\n",
            ),
        ),
        "kill_ops@5",
        "wrong_status",
        1.2,
    ),
    Mutation(
        "a clock that is off signs all the same",
        (
            Change(
                "app/signalpost/clock.py",
                "        return self.clock_off_seconds <= CLOCK_TOLERANCE_SECONDS\n",
                "        return True\n",
            ),
        ),
        "clock_off@5+10",
        "altered",
    ),
    Mutation(
        "a timeout is taken for a delivery",
        (
            Change(
                "app/signalpost/core/lifecycle.py",
                "    match verdict.outcome:\n",
                "    match verdict.outcome:\n"
                "        case Outcome.UNKNOWN:\n            return Decision(Status.DELIVERED)\n",
            ),
        ),
        "receiver_timeout@5+8",
        "wrong_status",
    ),
    Mutation(
        "the body is not the stored one",
        (
            Change(
                DISPATCH,
                "            body=claim.body,\n            timeout_seconds",
                '            body=claim.body + b" ",\n            timeout_seconds',
            ),
        ),
        "kill_deliver@10",
        "altered",
    ),
)
