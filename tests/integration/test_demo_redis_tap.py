"""The demo's tap on Redis: what was said is heard, what is left is read."""

from __future__ import annotations

import redis

from signalpost.demo.redis_tap import RedisTap, left_in_redis
from tests.processes import wait_for


def test_a_value_that_is_gone_again_was_heard(redis_url: str) -> None:
    """A message that was pushed and taken at once is in what the tap heard."""
    with RedisTap(redis_url) as tap, redis.Redis.from_url(redis_url) as client:
        wait_for(lambda: client.ping() and b"PING" in tap.content(), 10, "the tap")
        client.lpush("queue", "83.2174")
        client.rpop("queue")
        client.publish("events", "worker-online")

        wait_for(lambda: b"worker-online" in tap.content(), 10, "the published event")
        assert b"83.2174" in tap.content()


def test_every_kind_of_key_is_read(redis_url: str) -> None:
    """Names, members and values of strings, lists, sets, sorted sets and hashes are all read."""
    with redis.Redis.from_url(redis_url) as client:
        client.set("a string", "one")
        client.lpush("a list", "two", "three")
        client.sadd("a set", "four")
        client.zadd("a sorted set", {"five": 1})
        client.hset("a hash", "six", "seven")
        client.xadd("a stream", {"eight": "nine"})

    left = left_in_redis(redis_url)

    assert left["a string"] == b"a string\none"
    assert left["a list"] == b"a list\nthree\ntwo"
    assert left["a set"] == b"a set\nfour"
    assert left["a sorted set"] == b"a sorted set\nfive"
    assert left["a hash"] == b"a hash\nsix\nseven"
    assert b"not read" in left["a stream"]
