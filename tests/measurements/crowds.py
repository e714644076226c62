"""Many of one kind, by one worker: endpoints of one signal, ordering keys, replayed dead letters.

    python -m tests.measurements.crowds [endpoints] [keys] [replay]

Real servers, a worker and a receiver with its own log, as in trading.py. Exit code 1 where
something was not delivered, or out of its order.
"""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence

from sqlalchemy import text

from tests.measurements.trading_stage import Broken, Entry, ids, share_of, signal, stage

ENDPOINTS = 1000
KEYS = 1000
EACH = 3
DEAD = 5000
WAIT_SECONDS = 300.0


def endpoints() -> None:
    """One signal to 1,000 endpoints is one transaction; who is served first, and who last?"""
    with stage() as here:
        receiver = here.receiver()
        for number in range(ENDPOINTS):
            here.endpoint(f"desk-{number}", receiver.url(f"ok-{number}"))
        here.worker()
        producer = here.producer()
        wanted, spent = set(), []
        began = time.time()
        for number in range(EACH):
            call = time.monotonic()
            made = producer.enqueue(signal("AAPL", number))
            spent.append(time.monotonic() - call)
            wanted |= {str(one) for one in ids([made])}
        here.wait(lambda found: found.get("delivered") == EACH * ENDPOINTS, WAIT_SECONDS)
        log = receiver.log()
        _check(len(log), {entry.delivery_id for entry in log} == wanted, "requests")
        ends: dict[str, list[float]] = defaultdict(list)
        for entry in log:
            ends[entry.path].append(entry.first_byte_at - began)
        _check(len(ends), all(len(found) == EACH for found in ends.values()), "endpoints")
        first = [min(found) for found in ends.values()]
        last = [max(found) for found in ends.values()]
        print(
            f"{EACH} signals to {ENDPOINTS} endpoints: a call {max(spent):.2f} s at most; first "
            f"delivery of an endpoint after {share_of(first, 0.5):.1f} s in the middle and "
            f"{max(first):.1f} s at last, all after {max(last):.1f} s "
            f"({len(log) / max(last):.0f}/s)"
        )


def keys() -> None:
    """1,000 keys of one ordered endpoint: each in its order, and none is left to the end."""
    with stage() as here:
        receiver = here.receiver()
        here.endpoint("desk", receiver.url("ok"), ordered=True)
        here.worker()
        made = [signal(f"K{n % KEYS:03}", n) for n in range(KEYS * EACH)]
        began = time.time()
        here.producer().enqueue_many(made)
        here.wait(lambda found: found.get("delivered") == KEYS * EACH, WAIT_SECONDS)
        log = receiver.log()
        came: dict[str, list[Entry]] = defaultdict(list)
        for entry in log:
            came[json.loads(entry.body)["instrument"]].append(entry)
        ordered = all(
            [one.sequence for one in found] == list(range(1, EACH + 1)) for found in came.values()
        )
        _check(len(log), ordered and len(came) == KEYS, "requests, of which some out of order,")
        first = [found[0].first_byte_at - began for found in came.values()]
        took = max(entry.first_byte_at for entry in log) - began
        print(
            f"{KEYS} keys of {EACH} on one endpoint: each in sequence; a key's first after "
            f"{share_of(first, 0.5):.1f} s in the middle and {max(first):.1f} s at last, all after "
            f"{took:.1f} s ({len(log) / took:.0f}/s)"
        )


def replay() -> None:
    """Dead letters by `signalpost replay`, beside as many that are enqueued, in the same run."""
    with stage() as here:
        receiver = here.receiver()
        here.endpoint("desk", receiver.url("ok"))
        here.worker()
        producer = here.producer()
        producer.enqueue(signal("WARM", 0))
        here.wait(lambda found: found.get("delivered") == 1, WAIT_SECONDS)
        began = time.time()
        producer.enqueue_many([signal("AAPL", number) for number in range(DEAD)])
        here.wait(lambda found: found.get("delivered") == DEAD + 1, WAIT_SECONDS)
        enqueued = receiver.log()
        with here.engine.begin() as connection:
            connection.execute(
                text("UPDATE signalpost.deliveries SET status = 'dead', reason = 'exhausted'")
            )
        asked = time.time()
        here.command("replay", "--endpoint", "desk", "--yes")
        answered = time.time() - asked
        here.wait(lambda found: found.get("delivered") == DEAD + 1, WAIT_SECONDS)
        replayed = receiver.log()[len(enqueued) :]
        _check(len(replayed), len(replayed) == DEAD + 1, "replayed")
        fresh, again = _rate(enqueued[1:]), _rate(replayed)
        print(
            f"{DEAD} enqueued: {fresh:.0f}/s, all after {enqueued[-1].answered_at - began:.1f} s; "
            f"{DEAD} replayed: {again:.0f}/s, the command {answered:.1f} s, all after "
            f"{replayed[-1].answered_at - asked:.1f} s; ratio of the rates {again / fresh:.2f}"
        )


def _rate(log: Sequence[Entry]) -> float:
    return len(log) / (log[-1].answered_at - log[0].first_byte_at)


def _check(found: int, kept: bool, what: str) -> None:
    if not kept:
        raise Broken(f"{found} {what}")


RUNS: dict[str, Callable[[], None]] = {run.__name__: run for run in (endpoints, keys, replay)}


def main(names: Sequence[str]) -> int:
    """Make the runs of these names, or all; 1 where one failed, 2 where there is no such run."""
    if unknown := set(names) - RUNS.keys():
        print(f"no such run: {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
        return 2
    failed = 0
    for name in names or list(RUNS):
        try:
            RUNS[name]()
        except Broken as broken:
            failed = 1
            print(f"{name}: BROKEN: {broken}")
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
