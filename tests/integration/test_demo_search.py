"""The demo's search reads every place that a run writes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from signalpost.demo.privacy import Needles
from signalpost.demo.searching import Searched, search_everything

SECRET = "correct horse battery staple"
BODY = b'{"entry_price":83.2174,"reason":"a private reason"}'
CLEAN = {
    "log": b"all is well",
    "heard": b'"PING"',
    "left": b"an id",
    "task": b'{"args": "an id"}',
    "alert": b"Dead letter: AAPL buy",
}


def _search(folder: Path, places: dict[str, bytes]) -> Searched:
    deep = folder / "logs" / "deep"
    deep.mkdir(parents=True)
    (deep / "worker.log").write_bytes(places["log"])
    return search_everything(
        Needles({"secret": SECRET}, [BODY]),
        logs=folder / "logs",
        redis_heard=places["heard"],
        redis_left={"a key": places["left"]},
        tasks=[places["task"]],
        alerts=[places["alert"].decode()],
    )


def test_a_clean_run_has_no_findings_and_says_what_was_searched(tmp_path: Path) -> None:
    """Where nothing private is, nothing is found, and the amounts searched are told."""
    assert _search(tmp_path, CLEAN) == Searched(
        log_bytes=11, redis_bytes=6, redis_keys=1, tasks=1, alerts=1, findings=()
    )


@pytest.mark.parametrize("place", sorted(CLEAN))
@pytest.mark.parametrize("private", [b" 83.2174", b" a private reason", SECRET.encode()])
def test_every_place_is_searched(tmp_path: Path, place: str, private: bytes) -> None:
    """A price, a reason or a secret is found in each of the places where it might be."""
    found = _search(tmp_path, {**CLEAN, place: CLEAN[place] + private}).findings

    assert len(found) == 1
