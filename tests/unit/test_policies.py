"""The policy that holds for a claim, whatever stands in its endpoint's row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from signalpost.policies import policy_of
from signalpost.settings import load_settings
from tests.unit.test_metrics import CLAIM

SETTINGS = load_settings({"DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:9/none"})


def test_a_schedule_takes_the_place_of_retries_and_delay() -> None:
    """As many retries as it has waits, and each after its own."""
    policy = policy_of(replace(CLAIM, retry_schedule_seconds=[0.5, 3.0]), SETTINGS)

    assert policy.max_retries == 2
    assert [policy.backoff.delay(number, 0) for number in range(2)] == [0.5, 3.0]


@pytest.mark.parametrize("schedule", [[[1.0, 2.0]], [1e300], [1.0, None], []], ids=str)
def test_a_schedule_that_is_none_leaves_the_settings_policy(schedule: list[Any]) -> None:
    """What somebody wrote by hand raises nothing, or it would hold up others' claims."""
    own = replace(CLAIM, retry_schedule_seconds=schedule)
    assert policy_of(own, SETTINGS) == policy_of(CLAIM, SETTINGS)
