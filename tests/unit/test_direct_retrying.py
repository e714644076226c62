"""Retries around any function: what is tried again, when, how often, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial

import httpx
import pytest

from signalpost.core.backoff import Backoff
from signalpost.direct import (
    NetworkError,
    ReceiverError,
    RetryExhausted,
    SendTimeout,
    SignalExpired,
    SignalRejected,
    retry_async,
    retryable,
    with_retry,
)
from signalpost.errors import ConfigurationError, EnqueueUnknown, NoEndpoint, SignalError

WAITS = [5.0, 10.0, 20.0, 40.0, 80.0]


class Trials:
    """A function that fails with these errors in turn and then returns, and the waits between."""

    def __init__(self, *errors: BaseException) -> None:
        self.left = list(errors)
        self.calls: list[tuple[object, ...]] = []
        self.waits: list[float] = []

    def __call__(self, *args: object) -> str:
        self.calls.append(args)
        if self.left:
            raise self.left.pop(0)
        return "taken"

    async def awaited(self, *args: object) -> str:
        return self(*args)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.waits.append(seconds)


def never() -> float:
    return 0.0


def almost_one() -> float:
    return 0.999999


def test_it_waits_on_the_backoff_of_the_outbox() -> None:
    """Five retries come after 5, 10, 20, 40 and 80 seconds, and the arguments are the same."""
    trials = Trials(*[NetworkError()] * 5)
    again = with_retry(chance=never, sleep=trials.sleep)(trials)
    assert again("a", "b") == "taken"
    assert trials.waits == WAITS
    assert trials.calls == [("a", "b")] * 6


def test_jitter_lies_on_top_of_the_cap() -> None:
    """Chance lengthens each wait by up to a quarter, the capped ones too."""
    trials = Trials(*[NetworkError()] * 7)
    backoff = Backoff(base_seconds=50, cap_seconds=120)
    with_retry(retries=7, backoff=backoff, chance=almost_one, sleep=trials.sleep)(trials)()
    assert trials.waits == pytest.approx([62.5, 125.0, *[150.0] * 5], rel=1e-4)


async def test_async_functions_are_awaited_again() -> None:
    """An async function, its partial and a decorated one are retried like any other."""
    for make in (lambda one: one.awaited, lambda one: partial(one.awaited)):
        trials = Trials(SendTimeout(), TimeoutError())
        again = with_retry(chance=never, sleep=trials.sleep_async)(make(trials))
        assert await again("a") == "taken"
        assert trials.waits == WAITS[:2]
        assert trials.calls == [("a",)] * 3


async def test_retry_async_takes_any_awaitable_call() -> None:
    """`retry_async` passes its arguments on, and takes a lambda that returns a coroutine."""
    trials = Trials(ReceiverError(), ReceiverError())
    rules = partial(retry_async, chance=never, sleep=trials.sleep_async)
    assert await rules(trials.awaited, "a") == "taken"
    trials.left = [ReceiverError()]
    assert await rules(lambda: trials.awaited("b")) == "taken"
    assert trials.waits == [*WAITS[:2], WAITS[0]]


@pytest.mark.parametrize("retries", [0, 2])
async def test_exhaustion_carries_attempts_and_the_last_error(retries: int) -> None:
    """After the last attempt RetryExhausted says how often, and with what the last one failed."""
    errors = [NetworkError(f"number {i}", maybe_received=i == retries) for i in range(9)]
    trials, plain = Trials(*errors), Trials(*errors)
    calls = partial(retry_async, retries=retries, chance=never, sleep=trials.sleep_async)
    with pytest.raises(RetryExhausted, match=f"number {retries}") as caught:
        await calls(trials.awaited)
    with pytest.raises(RetryExhausted) as caught_too:
        with_retry(retries=retries, chance=never, sleep=plain.sleep)(plain)()
    for exhausted, tried in ((caught.value, trials), (caught_too.value, plain)):
        assert exhausted.attempts == retries + 1 == len(tried.calls)
        assert exhausted.last_error is errors[retries] is exhausted.__cause__
        assert exhausted.maybe_received
        assert tried.waits == WAITS[:retries]


def test_a_foreign_error_is_told_by_its_class_alone() -> None:
    """The text of an error that is not ours may hold anything, so it stays in `last_error`."""
    trials = Trials(*[ConnectionError("https://alice:wonderland@desk.example")] * 2)
    with pytest.raises(RetryExhausted, match="ConnectionError") as caught:
        with_retry(retries=1, sleep=trials.sleep)(trials)()
    assert "wonderland" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        SignalRejected(),
        SignalExpired(),
        SignalError("side: must be buy or sell"),
        NoEndpoint(),
        ConfigurationError(),
        ValueError("a bug"),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        httpx.UnsupportedProtocol("ftp"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_asking_again_cannot_change_is_raised_at_once(error: BaseException) -> None:
    """A rejection, a broken rule, a bug or an interruption comes out as it is, after one call."""
    trials = Trials(error)
    with pytest.raises(type(error)) as caught:
        with_retry(sleep=trials.sleep)(trials)()
    assert caught.value is error
    trials.left = [error]
    with pytest.raises(type(error)):
        await retry_async(trials.awaited, sleep=trials.sleep_async)
    assert (len(trials.calls), trials.waits) == (2, [])


@pytest.mark.parametrize(
    "error",
    [EnqueueUnknown(), ConnectionResetError(), httpx.ReadTimeout("slow"), httpx.ConnectError("no")],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass_is_retryable(error: Exception) -> None:
    """Time-outs and lost connections, ours, Python's and httpx's, may pass."""
    assert retryable(error)


@pytest.mark.parametrize("retry_on", [LookupError, (OSError, KeyError), lambda _: True])
def test_the_caller_may_choose_what_is_tried_again(
    retry_on: type[Exception] | Callable[[Exception], bool],
) -> None:
    """Classes or a predicate widen what is retried, but never to a rejection."""
    trials = Trials(KeyError("x"), SignalRejected())
    with pytest.raises(SignalRejected):
        with_retry(retry_on=retry_on, sleep=trials.sleep)(trials)()
    assert len(trials.calls) == 2


def test_a_receiver_that_asks_for_time_gets_it() -> None:
    """A Retry-After is waited for where it is longer than the own backoff, and shortens nothing."""
    trials = Trials(
        ReceiverError(retry_after_seconds=30), ReceiverError(retry_after_seconds=1), ReceiverError()
    )
    with_retry(chance=never, sleep=trials.sleep)(trials)()
    assert trials.waits == [30.0, 10.0, 20.0]


def test_a_decorated_function_keeps_its_name() -> None:
    """Used bare, the decorator leaves name and docstring as they were; each call starts anew."""

    @with_retry
    def decide() -> int:
        """Decide."""
        return 7

    assert (decide.__name__, decide.__doc__, decide(), decide()) == ("decide", "Decide.", 7, 7)


async def test_a_plain_function_that_returns_an_awaitable_is_not_trusted_silently() -> None:
    """What would look retried and is not is an error that names the remedy."""

    def plain() -> Coroutine[None, None, str]:
        return Trials().awaited()

    with pytest.raises(TypeError, match="retry_async"):
        _ = with_retry(plain)()


def test_retries_are_counted_from_zero_up() -> None:
    """Less than no retry is a mistake in the set-up."""
    with pytest.raises(ConfigurationError, match="retries"):
        with_retry(retries=-1)(never)
