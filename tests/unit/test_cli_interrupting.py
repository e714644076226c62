from __future__ import annotations

import pytest

from signalpost.cli.interrupting import interrupted


def cleaning_up_fails() -> None:
    try:
        try:
            raise KeyboardInterrupt
        finally:
            raise AssertionError("cleaning up")
    except AssertionError as first:
        raise RuntimeError("and again") from first


def test_what_a_library_makes_of_an_interrupt_is_one() -> None:
    """An error that was raised while Ctrl-C was being handled stands for it, however deep."""
    with pytest.raises(RuntimeError) as raised:
        cleaning_up_fails()
    assert interrupted(raised.value)
    assert interrupted(KeyboardInterrupt())
    assert not interrupted(RuntimeError("of its own"))
