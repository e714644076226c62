"""What trading asks of delivery, shown by real workers and a receiver with its own log.

    python -m tests.measurements.trading isolation|order|expiry|rate|pause [...]

Each run starts its own servers and worker processes on loopback, says what it saw, and fails (exit
code 1) where a promise is broken. `isolation` takes four minutes, for 2,000 signals go out at 20 a
second, twice; each of the others takes less than one.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import pairwise

from sqlalchemy import text

from signalpost.demo.telegram_standin import running_standin
from tests.measurements.trading_stage import (
    Broken,
    Entry,
    Stage,
    ids,
    pace,
    share_of,
    signal,
    stage,
)

HEALTHY, SIGNALS, SIGNALS_PER_SECOND = 17, 2000, 20
LATE_MILLISECONDS = 200
ORDERED, KEYS = 10_000, 50
SHORT, LIFE_SECONDS, DOWN_SECONDS = 10_000, 2.0, 5.0
RATE, RATED = 50, 1500
PAUSED_SECONDS, PAUSED_KEYS = 10, 40


def check(kept: bool, otherwise: str) -> None:
    """Fail the run with these words where a promise was not kept."""
    if not kept:
        raise Broken(otherwise)


def isolation() -> None:
    """Seventeen healthy endpoints beside a dead, a slow and a flapping one, and without these."""
    without = _fan_out(troubled=False)
    beside = _fan_out(troubled=True)
    print(f"p50/p99 without the bad three: {without[0]:.1f} / {without[1]:.1f} ms")
    print(f"p50/p99 beside them:           {beside[0]:.1f} / {beside[1]:.1f} ms")
    factor = beside[1] / without[1]
    print(f"p99 is {factor:.2f} times that of the run without them")
    check(factor <= 1.5, "the healthy ones are slowed by more than half")


def _fan_out(*, troubled: bool) -> tuple[float, float]:
    with stage() as here:
        receiver = here.receiver()
        for number in range(HEALTHY):
            here.endpoint(f"ok-{number}", receiver.url(f"ok-{number}"))
        if troubled:
            here.endpoint("dead", "http://127.0.0.1:9/dead")
            here.endpoint("slow", receiver.url("slow"))
            here.endpoint("flapping", receiver.url("flapping"))
        for _ in range(2):
            here.worker()
        producer = here.producer()
        producer.enqueue(signal("WARM", 0))
        called = {}
        for number in pace(SIGNALS, SIGNALS_PER_SECOND):
            moment = time.time()
            for delivery in ids([producer.enqueue(signal("AAPL", number))]):
                called[str(delivery)] = moment
        wanted = HEALTHY * (SIGNALS + 1)
        question = text(
            "SELECT count(*) FROM signalpost.deliveries d JOIN signalpost.endpoints e"
            " ON e.id = d.endpoint_id WHERE e.name LIKE 'ok-%' AND d.status = 'delivered'"
        )
        _wait(here, lambda: _number(here, str(question)) >= wanted, 60)
        healthy = [
            (called[entry.delivery_id], (entry.first_byte_at - called[entry.delivery_id]) * 1000)
            for entry in receiver.log()
            if entry.path.startswith("/ok") and entry.delivery_id in called
        ]
        took = [milliseconds for _, milliseconds in healthy]
        check(len(took) == HEALTHY * SIGNALS, f"{len(took)} requests for the healthy ones")
        print(f"{'beside' if troubled else 'without'} the bad three: {here.count()}")
        # One stall of the machine for two seconds is all that a 99th percentile takes.
        first = min(called.values())
        late = Counter(int(when - first) for when, spent in healthy if spent > LATE_MILLISECONDS)
        print(f"later than {LATE_MILLISECONDS} ms, by second: {dict(sorted(late.items()))}")
        return share_of(took, 0.5), share_of(took, 0.99)


def order() -> None:
    """Two workers, one of them killed on the way; the receiver fails a fifth at random."""
    with stage() as here:
        receiver = here.receiver()
        policy = {"ordered": True, "max_retries": 1000, "retry_delay_seconds": 0.05}
        here.endpoint("desk", receiver.url("failing"), **policy)
        victim = here.worker()
        here.worker()
        producer = here.producer()
        wanted: dict[str, list[str]] = defaultdict(list)
        began = time.monotonic()
        killed_at = 0.0
        for step in range(0, ORDERED, 500):
            keys = [f"K{number % KEYS:02}" for number in range(step, step + 500)]
            signals = [signal(key, step + n) for n, key in enumerate(keys)]
            for key, made in zip(keys, ids(producer.enqueue_many(signals)), strict=True):
                wanted[key].append(str(made))
            if step == ORDERED // 2:
                _wait(here, lambda: here.count().get("delivered", 0) > ORDERED // 10, 60)
                victim.kill()
                killed_at = time.monotonic() - began
        here.wait(lambda found: found.get("delivered") == ORDERED, 240)
        took = time.monotonic() - began
        log = receiver.log()
        accepted: dict[str, list[Entry]] = defaultdict(list)
        known = set()
        for entry in log:
            if entry.status == 201 and entry.delivery_id not in known:
                known.add(entry.delivery_id)
                accepted[json.loads(entry.body)["instrument"]].append(entry)
        again = sum(1 for entry in log if entry.status == 201) - len(known)
        check(len(known) == ORDERED, f"{len(known)} were accepted")
        for key, found in accepted.items():
            numbers = [entry.sequence for entry in found]
            check(numbers == list(range(1, len(found) + 1)), f"{key} came as {numbers}")
            check([entry.delivery_id for entry in found] == wanted[key], f"{key} was overtaken")
        refused = sum(1 for entry in log if entry.status != 201)
        print(
            f"{ORDERED} over {len(accepted)} keys in {took:.0f} s ({refused} refusals; a worker "
            f"killed after {killed_at:.0f} s; {again} accepted twice): each key in sequence, no gap"
        )


def expiry() -> None:
    """Signals that live for two seconds, to an endpoint that is down for the first five."""
    with (
        running_standin(token=f"1:{secrets.token_urlsafe(24)}", chat_id="77") as told,
        stage() as here,
    ):
        telegram = {
            "OPS_TELEGRAM_BOT_TOKEN": told.token,
            "OPS_TELEGRAM_CHAT_ID": told.chat_id,
            "OPS_TELEGRAM_BASE_URL": told.base_url,
        }
        here.worker(role="ops", **telegram)
        for _ in range(2):
            here.worker()
        receiver = here.receiver(listening=False)
        here.endpoint("desk", receiver.url("ok"))
        producer = here.producer()
        began = time.monotonic()
        up_after = 0.0
        for number in pace(100, 4):
            if not up_after and time.monotonic() - began >= DOWN_SECONDS:
                receiver.listen()
                up_after = time.monotonic() - began
            signals = [signal("AAPL", number * 100 + n) for n in range(SHORT // 100)]
            producer.enqueue_many(signals, ttl=LIFE_SECONDS)
        found = here.wait(lambda now: not {"pending", "sending"} & now.keys(), 60)
        check(found.keys() == {"delivered", "expired"}, f"ended as {found}")
        late = [
            entry.first_byte_at - entry.expires_at
            for entry in receiver.log()
            if entry.expires_at is not None and entry.first_byte_at > entry.expires_at
        ]
        check(
            not late, f"{len(late)} first bytes after the expiry, by up to {max(late, default=0)} s"
        )
        least = min(
            entry.expires_at - entry.first_byte_at
            for entry in receiver.log()
            if entry.expires_at is not None
        )

        end = time.monotonic() + 60
        while _number(here, "SELECT count(*) FROM signalpost.alerts WHERE sent_at IS NULL"):
            check(time.monotonic() < end, "alerts are still unsent after a minute")
            time.sleep(0.2)
        print(f"up after {up_after:.1f} s; {SHORT} signals: {found}")
        print(f"the last first byte had {least:.2f} s of life left")
        print(f"{len(told.messages)} messages to the operator, of these the last: ")
        print(told.messages[-1].plain)


def rate() -> None:
    """Fifty a second, and no more, whatever four processes would like."""
    with stage() as here:
        receiver = here.receiver()
        here.endpoint("desk", receiver.url("ok"), rate_per_second=RATE)
        for _ in range(4):
            here.worker()
        producer = here.producer()
        producer.enqueue_many([signal("AAPL", number) for number in range(RATED)])
        for number in pace(100, 20):
            producer.enqueue(signal("AAPL", RATED + number))
        here.wait(lambda found: found.get("delivered") == RATED + 100, 90)
        arrived = sorted(entry.first_byte_at for entry in receiver.log())
        most = max(
            sum(1 for other in arrived[place : place + 2 * RATE] if other < moment + 1.0)
            for place, moment in enumerate(arrived)
        )
        took = arrived[-1] - arrived[0]
        print(f"{len(arrived)} in {took:.1f} s over 4 processes, at most {most} in any one second")
        check(most <= RATE * 1.1, "the limit does not bind")
        check(len(arrived) / took > RATE * 0.7, "the limit is not used")


def pause() -> None:
    """Everything is stopped in the middle of five hundred a second, and let go again."""
    with stage() as here:
        receiver = here.receiver()
        here.endpoint("desk", receiver.url("ok"))
        here.endpoint("floor", receiver.url("ok-2"), ordered=True)
        for _ in range(2):
            here.worker()
        producer = here.producer()
        made, paused_at, resumed_at = 0, 0.0, 0.0
        for number in pace(PAUSED_SECONDS * 50, 50):
            # Two endpoints, so this makes five hundred deliveries a second.
            keys = [f"K{(number * 5 + n) % PAUSED_KEYS}" for n in range(5)]
            signals = [signal(key, made + n) for n, key in enumerate(keys)]
            if number % 10:
                made += len(ids(producer.enqueue_many(signals)))
            else:
                made += len(ids([producer.enqueue(one) for one in signals]))
            if number == 200:
                here.command("pause", "--reason", "measured")
                paused_at = _moment(here, "SELECT paused_at FROM signalpost.pauses")
            if number == 400:
                resumed_at = time.time()
                here.command("resume", "--yes")
        here.wait(lambda found: found.get("delivered") == made, 120)
        log = receiver.log()
        after = [
            e.first_byte_at - paused_at for e in log if paused_at < e.first_byte_at < resumed_at
        ]
        print(
            f"{made} deliveries at {made / PAUSED_SECONDS:.0f} a second; after the pause "
            f"{len(after)} first bytes, the last {max(after, default=0.0) * 1000:.0f} ms after it"
        )
        check(max(after, default=0.0) <= 1.0, "a first byte later than a second after the pause")
        check(len({entry.delivery_id for entry in log}) == made, "not all arrived")
        busiest = _busiest(sorted(e.first_byte_at for e in log if e.first_byte_at > resumed_at))
        print(f"after the resume all arrived, at most {busiest} in its first second")
        places: dict[str, list[int]] = defaultdict(list)
        for entry in log:
            if entry.sequence is not None:
                places[json.loads(entry.body)["instrument"]].append(entry.sequence)
        for key, numbers in places.items():
            check(all(b == a + 1 for a, b in pairwise(numbers)), f"{key} came as {numbers}")


def _busiest(moments: list[float]) -> int:
    return sum(1 for moment in moments if moment < moments[0] + 1.0)


def _wait(here: Stage, done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not done():
        check(time.monotonic() < end, f"not done in {seconds:g} s: {here.count()}")
        time.sleep(0.1)


def _number(here: Stage, question: str) -> int:
    with here.engine.connect() as connection:
        return int(connection.execute(text(question)).scalar_one())


def _moment(here: Stage, question: str) -> float:
    with here.engine.connect() as connection:
        return float(connection.execute(text(question)).scalar_one().timestamp())


RUNS = {run.__name__: run for run in (isolation, order, expiry, rate, pause)}


def main(names: list[str]) -> int:
    """Run the named ones, or all; 1 where one failed, 2 where there is no such run."""
    if unknown := set(names) - RUNS.keys():
        print(f"no such run: {', '.join(sorted(unknown))}; there are {', '.join(RUNS)}")
        return 2
    failed = 0
    for name in names or RUNS:
        print(f"== {name}", flush=True)
        try:
            RUNS[name]()
        except Broken as broken:
            print(f"BROKEN: {broken}")
            failed = 1
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
