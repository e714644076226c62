"""How each kind of fault is done to the stage, and healed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import RedisError

from signalpost.demo.telegram_standin import BAD_GATEWAY
from tests.chaos.plan import CLOCK, ENDPOINTS, ROLLING
from tests.chaos.stage import Kept, Stage

Heal = Callable[[], object]


def nothing() -> None:
    """What happens at once needs no healing."""


def begin(kind: str, stage: Stage) -> Heal:
    """Do a fault; return what heals it."""
    family, _, rest = kind.partition("_")
    if family == "receiver":
        return _receiver(stage, rest)
    if family == "link":
        link, _, fault = rest.partition("_")
        return _link(stage, link, fault)
    return _KINDS[kind](stage)


def _receiver(stage: Stage, mode: str) -> Heal:
    endpoint = stage.chance.choice(ENDPOINTS)
    share = stage.chance.choice([0.3, 1.0])
    stage.receivers.order(endpoint=endpoint, mode=mode, share=share)
    return lambda: stage.receivers.order(endpoint=endpoint, mode="ok")


def _link(stage: Stage, link: str, fault: str) -> Heal:
    # The strategies are spared half the time, or little would be under way.
    names = [link, f"strategy_{link}"][: stage.chance.choice([1, 2])]
    if link == "receiver":
        names = [stage.chance.choice(ENDPOINTS)]
    # Slow: so long that what was claimed with some seconds to live has none when it is known, and
    # that requests are long under way without timing out.
    slow = 1.8 if link == "receiver" else 3.0
    seconds = slow if fault == "slow" else 0.05
    fault = "delay" if fault == "slow" else fault
    for name in names:
        stage.links.order(link=name, fault=fault, seconds=seconds)
    if fault == "reset":
        return nothing

    def heal() -> None:
        for name in names:
            stage.links.order(link=name, fault="none")

    return heal


def _kill_all(stage: Stage) -> Heal:
    for name in stage.workers:
        if "deliver" in name:
            _kill(stage.workers[name], signal.SIGKILL)
    return nothing


def _roll(stage: Stage) -> Heal:
    return stage.roll().join


def _clock_off(stage: Stage) -> Heal:
    """So far that receivers would refuse the signature: a request that goes out would show."""
    seconds = stage.chance.choice([-400.0, 400.0, 3600.0])
    (stage.folder / CLOCK).write_text(str(seconds))
    return (stage.folder / CLOCK).unlink


def _kill(kept: Kept, number: signal.Signals) -> Heal:
    with suppress(ProcessLookupError):
        os.kill(kept.program.pid, number)
    return nothing


def _freeze(pid: int) -> Heal:
    os.kill(pid, signal.SIGSTOP)

    def thaw() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    return thaw


def _freeze_redis(stage: Stage) -> Heal:
    assert stage.redis.process is not None
    return _freeze(stage.redis.process.pid)


def _redis_lost(stage: Stage, *, keep_data: bool) -> Heal:
    stage.lose_redis(keep_data=keep_data)
    return stage.redis.start


def _redis_does(*command: str) -> Callable[[Stage], Heal]:
    def act(stage: Stage) -> Heal:
        with suppress(RedisError), stage.redis_client() as client:
            client.execute_command(*command)
        return nothing

    return act


def _postgres(number: signal.Signals) -> Callable[[Stage], Heal]:
    def act(stage: Stage) -> Heal:
        stage.stop_postgres(number)
        return stage.postgres.start

    return act


def _read_only(stage: Stage) -> Heal:
    def turn(state: str) -> None:
        with stage.admin() as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {state}")
            connection.execute("SELECT pg_reload_conf()")

    turn("on")
    return lambda: turn("off")


def _telegram(stage: Stage) -> Heal:
    stage.telegram.standin.fail_until_healed(BAD_GATEWAY)
    return stage.telegram.standin.heal


def _strategy(stage: Stage) -> Heal:
    name = stage.chance.choice(sorted(stage.strategies))
    return _kill(stage.strategies[name], signal.SIGKILL)


def _strategy_in(link: str, fault: str) -> Callable[[Stage], Heal]:
    """Kill every strategy while it waits for the answer to what it has just sent.

    With a deaf database its COMMIT was carried out and it does not know; with a Redis that hears
    nothing it has committed and could not announce.
    """

    def act(stage: Stage) -> Heal:
        stage.links.order(link=link, fault=fault)
        time.sleep(0.4)
        for name in stage.strategies:
            _kill(stage.strategies[name], signal.SIGKILL)
        stage.links.order(link=link, fault="reset")
        return nothing

    return act


_KINDS: dict[str, Callable[[Stage], Heal]] = {
    "kill_deliver": lambda stage: _kill(stage.delivering(), signal.SIGKILL),
    "term_deliver": lambda stage: _kill(stage.delivering(), signal.SIGTERM),
    "kill_ops": lambda stage: _kill(stage.workers["ops"], signal.SIGKILL),
    "kill_every_deliver": _kill_all,
    ROLLING: _roll,
    "term_ops": lambda stage: _kill(stage.workers["ops"], signal.SIGTERM),
    "term_beat": lambda stage: _kill(stage.workers["beat"], signal.SIGTERM),
    "freeze_ops": lambda stage: _freeze(stage.workers["ops"].program.pid),
    "clock_off": _clock_off,
    "kill_beat": lambda stage: _kill(stage.workers["beat"], signal.SIGKILL),
    "freeze_deliver": lambda stage: _freeze(stage.delivering().program.pid),
    "freeze_redis": _freeze_redis,
    "kill_redis_keep_data": lambda stage: _redis_lost(stage, keep_data=True),
    "kill_redis_lose_data": lambda stage: _redis_lost(stage, keep_data=False),
    "redis_gone": lambda stage: _redis_lost(stage, keep_data=True),
    "redis_flushall": _redis_does("FLUSHALL"),
    "redis_client_kill": _redis_does("CLIENT", "KILL", "TYPE", "normal"),
    "redis_client_pause": _redis_does("CLIENT", "PAUSE", "3000", "ALL"),
    "postgres_fast": _postgres(signal.SIGINT),
    "postgres_immediate": _postgres(signal.SIGQUIT),
    "postgres_crash": _postgres(signal.SIGKILL),
    "postgres_read_only": _read_only,
    "telegram_down": _telegram,
    "kill_strategy": _strategy,
    "kill_strategy_unpublished": _strategy_in("strategy_redis", "hold"),
    "kill_strategy_in_commit": _strategy_in("strategy_postgres", "deaf"),
}
