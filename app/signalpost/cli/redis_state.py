"""How Redis is: up or down, and how much waits in its queues."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RedisState", "redis_state"]

_PATIENCE_SECONDS = 2


@dataclass(frozen=True, slots=True)
class RedisState:
    """`state` is `up`, `not set`, or `down` with the kind of trouble; `queues` is empty then.

    `queues` holds the messages that wait, by queue, and as `unacknowledged` those that a worker has
    taken and not finished, timers included.
    """

    state: str
    queues: dict[str, int]


def redis_state(url: str | None) -> RedisState:
    """Ask Redis; never shows the URL, which may hold a password, and never raises for trouble."""
    if url is None:
        return RedisState("not set", {})
    import redis

    from signalpost.broker import ALERTS_QUEUE, DELIVER_QUEUE, DRAIN_QUEUE, UPKEEP_QUEUE

    names = (DELIVER_QUEUE, DRAIN_QUEUE, ALERTS_QUEUE, UPKEEP_QUEUE)
    try:
        client = redis.Redis.from_url(
            url, socket_timeout=_PATIENCE_SECONDS, socket_connect_timeout=_PATIENCE_SECONDS
        )
    except ValueError:
        return RedisState("down (REDIS_URL has an option that Redis does not know)", {})
    try:
        with client.pipeline(transaction=False) as asked:
            for name in names:
                asked.llen(name)
            asked.hlen("unacked")
            numbers = asked.execute()
    except redis.exceptions.AuthenticationError:
        return RedisState("down (it refuses the password)", {})
    except (redis.exceptions.RedisError, OSError) as error:
        return RedisState(f"down ({type(error).__name__})", {})
    finally:
        client.close()
    return RedisState("up", dict(zip((*names, "unacknowledged"), numbers, strict=True)))
