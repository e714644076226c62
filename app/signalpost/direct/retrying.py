"""Any function again after a failure that may pass, on the backoff of the outbox."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

import httpx
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
)

from signalpost.core.backoff import Backoff
from signalpost.errors import (
    BrokerUnavailable,
    ConfigurationError,
    DatabaseUnavailable,
    EndpointError,
    EnqueueTimeout,
    EnqueueUnknown,
    IdempotencyConflict,
    NetworkError,
    ReceiverError,
    RetryExhausted,
    SendTimeout,
    SignalError,
    SignalExpired,
    SignalpostError,
    SignalRejected,
)

__all__ = ["retry_async", "retryable", "with_retry"]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

RETRIES = 5
BACKOFF = Backoff()
"""5, 10, 20, 40, 80 s, plus up to a quarter of it by chance."""

PASSING: tuple[type[Exception], ...] = (
    ReceiverError,
    SendTimeout,
    NetworkError,
    DatabaseUnavailable,
    EnqueueTimeout,
    EnqueueUnknown,
    BrokerUnavailable,
    ConnectionError,
    TimeoutError,
    httpx.TimeoutException,
    httpx.NetworkError,
    httpx.RemoteProtocolError,
)
FINAL: tuple[type[Exception], ...] = (
    SignalRejected,
    SignalExpired,
    SignalError,
    IdempotencyConflict,
    ConfigurationError,
    EndpointError,
    RetryExhausted,
)
"""Never tried again, whatever is asked for: asking again changes nothing."""

RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]


def retryable(error: BaseException) -> bool:
    """Whether the same call may succeed later: a time-out, a lost connection, a busy receiver."""
    return isinstance(error, PASSING) and not isinstance(error, FINAL)


@overload
def with_retry(function: Callable[P, T], /) -> Callable[P, T]: ...


@overload
def with_retry(
    *,
    retries: int = RETRIES,
    backoff: Backoff = BACKOFF,
    retry_on: RetryOn = retryable,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], Any] | None = None,
) -> Callable[[Callable[P, T]], Callable[P, T]]: ...


def with_retry(
    function: Callable[P, Any] | None = None,
    /,
    *,
    retries: int = RETRIES,
    backoff: Backoff = BACKOFF,
    retry_on: RetryOn = retryable,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], Any] | None = None,
) -> Any:
    """A function that calls `function`, and again up to `retries` times while its error may pass.

    For a plain function or an async one, as a call or a decorator, with arguments or without. The
    wait before retry n (from 0) is `backoff.delay(n, chance())` seconds, or what the error's
    `retry_after_seconds` asks for if that is longer; it is passed to `sleep` (time.sleep, for an
    async function asyncio.sleep). `retry_on` are exception classes or a predicate; rejections and
    their like are never tried again.

    The function raises RetryExhausted when all attempts have failed, and any error that is not to
    be tried again as it is.
    """

    def wrap(wrapped: Callable[P, Any]) -> Callable[P, Any]:
        run = _Run(_name(wrapped), retries, backoff, retry_on, chance)
        if _is_async(wrapped):

            @wraps(wrapped)
            async def again_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                retrying = AsyncRetrying(sleep=sleep or asyncio.sleep, **run.rules())
                return await retrying(wrapped, *args, **kwargs)

            return again_async

        @wraps(wrapped)
        def again(*args: P.args, **kwargs: P.kwargs) -> Any:
            retrying = Retrying(sleep=sleep or time.sleep, **run.rules())
            return _no_awaitable(retrying(wrapped, *args, **kwargs))

        return again

    return wrap if function is None else wrap(function)


async def retry_async(
    function: Callable[..., Awaitable[T]],
    *args: Any,
    retries: int = RETRIES,
    backoff: Backoff = BACKOFF,
    retry_on: RetryOn = retryable,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
) -> T:
    """Await `function(*args)`, and again while its error may pass; see `with_retry`."""

    async def call() -> T:
        return await function(*args)

    run = _Run(_name(function), retries, backoff, retry_on, chance)
    return await AsyncRetrying(sleep=sleep, **run.rules())(call)


class _Run:
    """The rules of one function's retries, as tenacity takes them."""

    def __init__(
        self,
        name: str,
        retries: int,
        backoff: Backoff,
        retry_on: RetryOn,
        chance: Callable[[], float],
    ) -> None:
        if retries < 0:
            raise ConfigurationError("retries must be 0 or more")
        self._name = name
        self._retries = retries
        self._backoff = backoff
        self._retry_on = retry_on
        self._chance = chance

    def rules(self) -> dict[str, Any]:
        return {
            "stop": stop_after_attempt(self._retries + 1),
            "wait": self._wait,
            "retry": retry_if_exception(self._may_pass),
            "before_sleep": self._log,
            "retry_error_callback": self._give_up,
        }

    def _may_pass(self, error: BaseException) -> bool:
        if not isinstance(error, Exception) or isinstance(error, FINAL):
            return False
        if isinstance(self._retry_on, type | tuple):
            return isinstance(error, self._retry_on)
        return self._retry_on(error)

    def _wait(self, state: RetryCallState) -> float:
        own = self._backoff.delay(state.attempt_number - 1, self._chance())
        return max(own, getattr(_error(state), "retry_after_seconds", None) or 0.0)

    def _log(self, state: RetryCallState) -> None:
        # The class alone: a foreign error's text may hold anything.
        logger.info(
            "%s: attempt %s failed (%s), again in %.1f s",
            self._name,
            state.attempt_number,
            type(_error(state)).__name__,
            state.next_action.sleep if state.next_action else 0.0,
        )

    def _give_up(self, state: RetryCallState) -> NoReturn:
        error = _error(state)
        told = f"{type(error).__name__}: {error}" if isinstance(error, SignalpostError) else None
        raise RetryExhausted(
            f"gave up after {state.attempt_number} attempts; "
            f"the last error: {told or type(error).__name__}",
            attempts=state.attempt_number,
            last_error=error,
        ) from error


def _error(state: RetryCallState) -> BaseException | None:
    return None if state.outcome is None else state.outcome.exception()


def _is_async(function: Callable[..., Any]) -> bool:
    called = getattr(function, "__call__", None)  # noqa: B004 - an object may be called as async
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called)


def _no_awaitable(result: T) -> T:
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise TypeError(
            "with_retry cannot retry what a plain function returns to be awaited; "
            "use retry_async, or wrap an `async def`"
        )
    return result


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__qualname__", type(function).__name__))
