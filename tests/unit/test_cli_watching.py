from __future__ import annotations

import os
import signal

import pytest

from signalpost.cli.watching import watch


class _Interrupted:
    """Is interrupted while it is finalized, where Python drops what is raised."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_is_not_lost_in_a_finalizer() -> None:
    """A Ctrl-C that falls into an object's finalizer ends the watching all the same."""
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        assert looks < 3, "the Ctrl-C was lost"
        _Interrupted()

    watch(look, lambda _: None, seconds=0.2)

    assert looks == 1


def test_a_watch_leaves_ctrl_c_as_it_was() -> None:
    """Whoever handled Ctrl-C before the watching handles it after."""
    former = signal.getsignal(signal.SIGINT)

    def look() -> None:
        raise KeyboardInterrupt

    watch(look, lambda _: None, seconds=0.2)

    assert signal.getsignal(signal.SIGINT) is former
