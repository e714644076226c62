from __future__ import annotations

from uuid import UUID

import pytest

from signalpost.core.signing import secret_bytes, standard_webhooks_secret
from tests.integration.cli.operators import LINE, Operator

OWN = "an entirely different secret"


def test_set_changes_what_is_named_and_shows_it(operator: Operator, endpoint: str) -> None:
    """The old and the new value of each change are told; `default` takes the settings' again."""
    changed = operator.run("endpoint", "set", "desk", "--timeout", "7s", "--max-retries", "2")
    back = operator.run("endpoint", "set", "desk", "--max-retries", "default")
    again = operator.run("endpoint", "set", "desk", "--timeout", "7s")

    assert changed.exit_code == 0, changed.stderr
    assert "timeout  30 s (settings) -> 7 s" in changed.stdout
    assert "retries  5 (settings) -> 2" in changed.stdout
    assert "retries  2 -> 5 (settings)" in back.stdout
    assert again.stdout == "endpoint desk is so already; nothing to change\n"
    [view] = operator.json("endpoint", "list")
    assert (view["timeout_seconds"], view["max_retries"]) == (7, None)
    assert endpoint not in changed.output


def test_a_retry_schedule_and_a_delay_that_doubles_end_each_other(operator: Operator) -> None:
    """Whichever is given last holds, and `none` takes the schedule away."""
    desk = ("endpoint", "set", "desk")
    operator.run("endpoint", "add", "desk", "http://127.0.0.1:9/", "--retry-schedule", "250ms,1s,5")
    added = operator.json("endpoint", "show", "desk")
    told = operator.run("endpoint", "show", "desk").stdout
    doubled = operator.json(*desk, "--max-retries", "2", "--retry-delay", "1s")
    listed = operator.json(*desk, "--retry-schedule", "2s")
    settings = operator.json(*desk, "--retry-schedule", "none")

    names = ("retry_schedule_seconds", "max_retries", "retry_delay_seconds")
    seen = [[view[name] for name in names] for view in (added, doubled, listed, settings)]
    assert seen == [
        [[0.25, 1, 5], None, None],
        [None, 2, 1],
        [[2], None, None],
        [None, None, None],
    ]
    assert "0.25, 1, 5 s" in told


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        ([], (2, "name at least one thing to change")),
        (["--timeout", "soon"], (2, "write a span of time")),
        (["--max-retries", "many"], (2, "write a whole number, or default")),
        (["--retry-schedule", "1s,soon"], (2, "write spans of time with commas between")),
        (["--retry-schedule", "1s", "--max-retries", "2"], (1, "a retry schedule says how many")),
        (["--ttl", "10s"], (1, "longer than a signal's life")),
        (["--url", "http://10.0.0.1/"], (1, "OUTBOUND_ALLOW_NETWORKS must hold it")),
    ],
)
def test_a_bad_set_is_one_line(
    bystander: Operator, words: list[str], ending: tuple[int, str]
) -> None:
    """What cannot be set is told in the last line, and nothing has changed."""
    before = bystander.json("endpoint", "list")
    result = bystander.run("endpoint", "set", "desk", *words)

    assert (result.exit_code, result.stderr.count("\n") <= 2) == (ending[0], True)
    assert ending[1] in result.stderr.splitlines()[-1]
    assert bystander.json("endpoint", "list") == before


def test_remove_says_what_waits_and_wants_a_yes(operator: Operator, endpoint: str) -> None:
    """With a delivery on its way nothing is removed without --yes; both times that is told."""
    operator.run("send", operator.file(LINE))
    held = operator.run("endpoint", "remove", "desk")
    removed = operator.run("endpoint", "remove", "desk", "--yes", "--reason", "closed")

    assert held.exit_code == 1
    assert "1 deliveries wait for it and 0 are under way" in held.stderr
    assert removed.exit_code == 0
    assert "they keep being delivered until their end" in removed.stdout
    assert operator.json("endpoint", "list") == []
    assert endpoint not in held.output + removed.output


def test_remove_tells_of_dead_letters(operator: Operator, dead_letter: UUID) -> None:
    """Dead letters hold nothing up, but they can be replayed no more, and that is said."""
    removed = operator.run("endpoint", "remove", "desk")
    replayed = operator.run("replay", str(dead_letter), "--even-unknown")

    assert removed.exit_code == 0
    assert "its 1 dead letters can be replayed no more" in removed.stderr
    assert replayed.exit_code == 1


def test_a_rotation_begins_shows_and_ends(operator: Operator, endpoint: str) -> None:
    """The new secret is shown once; list and show tell of both until --finish."""
    begun = operator.run("endpoint", "rotate-secret", "desk", "--grace", "2d")
    shown = operator.run("endpoint", "show", "desk")
    listed = operator.run("endpoint", "list")
    revealed = operator.json("endpoint", "show", "desk", "--reveal-secret")
    finished = operator.run("endpoint", "rotate-secret", "desk", "--finish")
    after = operator.json("endpoint", "show", "desk")

    assert begun.exit_code == 0, begun.stderr
    secret = begun.stdout.partition("for the receiver: ")[2].strip()
    assert revealed["secret"] == secret != endpoint
    assert revealed["previous_secret_until"] is not None
    for told in (begun, shown):
        assert "version 2; version 1 signs as well until" in told.stdout
    assert "(for 2 d)" in begun.stdout
    assert "1 and 2" in listed.stdout
    assert finished.stdout == "endpoint desk: version 2\n"
    assert (after["secret_version"], after["previous_secret_until"]) == (2, None)
    for told in (shown, listed, finished):
        assert secret not in told.output
        assert endpoint not in told.output


def test_a_rotation_takes_a_secret_of_ones_own(operator: Operator, endpoint: str) -> None:
    """A given secret is taken from stdin, never shown, and holds at once without a window."""
    result = operator.run(
        "endpoint", "rotate-secret", "desk", "--secret-stdin", "--grace", "0", given=f"{OWN}\n"
    )
    revealed = operator.json("endpoint", "show", "desk", "--reveal-secret")

    assert result.stdout == "endpoint desk: version 2\n"
    assert revealed["secret"] == standard_webhooks_secret(secret_bytes(OWN))
    assert revealed["previous_secret_until"] is None
    assert OWN not in result.output
    assert endpoint not in result.output


def test_a_rotation_of_the_settings_endpoint_says_what_must_follow(operator: Operator) -> None:
    """The endpoint `default` takes its secret from the settings, which must follow the rotation."""
    operator.run("endpoint", "add", "default", "http://127.0.0.1:9/in")
    result = operator.run(
        "endpoint",
        "rotate-secret",
        "default",
        OUTBOUND_SERVER_URL="http://127.0.0.1:9/in",
        HMAC_PRODUCER_SECRET="correct horse battery staple",
    )

    assert result.exit_code == 0, result.stderr
    assert "set HMAC_PRODUCER_SECRET to the new one" in result.stderr


@pytest.mark.parametrize(
    ("words", "given", "ending"),
    [
        (["--finish"], None, (1, "is not being replaced")),
        (["--finish", "--grace", "1d"], None, (2, "takes neither")),
        (["--grace", "soon"], None, (2, "write a span of time")),
        (["--grace", "1000d"], None, (1, "from 0 to 90 days")),
        (["--secret-stdin"], "short", (1, "at least 16 bytes")),
        (["--secret-stdin"], "whsec_!", (1, "base64")),
    ],
)
def test_a_bad_rotation_is_one_line(
    bystander: Operator, words: list[str], given: str | None, ending: tuple[int, str]
) -> None:
    """What cannot work is told in the last line, and the secret is the one before."""
    result = bystander.run("endpoint", "rotate-secret", "desk", *words, given=given)

    assert result.exit_code == ending[0]
    assert ending[1] in result.stderr.splitlines()[-1]
    assert bystander.json("endpoint", "show", "desk")["secret_version"] == 1


def test_every_part_of_the_policy_can_be_set_and_seen(operator: Operator, endpoint: str) -> None:
    """Filters, limits, order and headers are told, listed and audited; a header's value is not."""
    words = ["--instrument", "EUR*", "--instrument", "XAU*", "--side", "buy", "--action", "open"]
    words += ["--producer", "momentum-1", "--min-confidence", "0.70", "--max-in-flight", "4"]
    words += ["--rate", "50", "--ordered", "--on-dead", "block", "--header", f"X-Api-Key: {OWN}"]
    changed = operator.run("endpoint", "set", "desk", *words)
    other = operator.run("endpoint", "set", "desk", "--header", "x-api-key: another one")
    [view] = operator.json("endpoint", "list")
    shown = operator.run("endpoint", "show", "desk")
    revealed = operator.json("endpoint", "show", "desk", "--reveal-secret")

    assert changed.exit_code == 0, changed.stderr
    assert "takes          everything -> EUR* XAU*, buy, open, from momentum-1" in changed.stdout
    assert "order          not kept -> kept, a dead one: block" in changed.stdout
    assert (view["max_in_flight"], view["rate_per_second"]) == (4, 50)
    assert (view["min_confidence"], view["headers"]) == ("0.70", ["x-api-key"])
    assert "extra headers  x-api-key" in shown.stdout
    assert revealed["header_values"] == {"x-api-key": "another one"}
    assert not {OWN, "another one"} & set((changed.output + other.output + shown.output).split("'"))
    assert OWN not in changed.output + other.output + shown.output


def test_limits_filters_and_headers_are_taken_away_again(operator: Operator, endpoint: str) -> None:
    """`none`, `all`, --unordered and --drop-header bring back what holds without a policy."""
    file = operator.folder / "headers"
    file.write_text("X-Api-Key: one\nX-Desk: two\n")
    before = operator.json("endpoint", "list")
    words = ["--instrument", "EUR*", "--max-in-flight", "4", "--rate", "0.5", "--ordered"]
    operator.run("endpoint", "set", "desk", *words, "--headers-file", str(file))
    words = ["--instrument", "all", "--max-in-flight", "none", "--rate", "none", "--unordered"]
    operator.run("endpoint", "set", "desk", *words, *2 * ["--drop-header", "x-desk"])
    assert operator.json("endpoint", "list")[0]["headers"] == ["X-Api-Key"]
    operator.run("endpoint", "set", "desk", "--drop-header", "X-Api-Key")

    assert operator.json("endpoint", "list") == before


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        (["--instrument", "eur*"], (1, "globs")),
        (["--instrument", "all", "--instrument", "EUR*"], (2, "goes with no other")),
        (["--producer", "a b"], (1, "each producer of a filter")),
        (["--min-confidence", "1.1"], (1, "the min confidence must be from 0 to 1")),
        (["--min-confidence", "NaN"], (2, "write a number, or none")),
        (["--max-in-flight", "0"], (1, "the max in flight must be from 1 to")),
        (["--max-in-flight", "1.5"], (2, "write a whole number, or none")),
        (["--rate", "0"], (1, "the rate must be from")),
        (["--rate", "inf"], (1, "the rate must be from")),
        (["--header", "no colon"], (2, "write a header as")),
        (["--header", "X-Signature: forged"], (1, "sets itself")),
        (["--header", "X-Key: a\r\nX-Other: b"], (1, "on one line")),
        (["--drop-header", "X-Key"], (1, "there is no extra header X-Key")),
        (["--headers-file", "nothing-here"], (1, "nothing-here")),
    ],
)
def test_a_bad_policy_is_one_line(
    bystander: Operator, words: list[str], ending: tuple[int, str]
) -> None:
    """What cannot be a policy is told in one line, by `set` and by `add`."""
    before = bystander.json("endpoint", "list")
    results = [bystander.run("endpoint", "set", "desk", *words)]
    if words[0] != "--drop-header":
        results.append(bystander.run("endpoint", "add", "new", "http://127.0.0.1:9/in", *words))

    for result in results:
        assert (result.exit_code, result.stderr.count("\n") <= 2) == (ending[0], True)
        assert ending[1] in result.stderr.splitlines()[-1]
    assert bystander.json("endpoint", "list") == before


def test_an_endpoint_is_paused_and_resumed(operator: Operator, endpoint: str) -> None:
    """`endpoint pause` and `endpoint resume` are the kill switch for one, with its reason."""
    operator.run("send", operator.file(LINE))
    paused = operator.run("endpoint", "pause", "desk", "--reason", "moving")
    asked = operator.run("endpoint", "resume", "desk")
    resumed = operator.run("endpoint", "resume", "desk", "--yes")

    assert paused.stdout == "paused: endpoint desk\n1 deliveries wait for the resume\n"
    assert (asked.exit_code, "--yes sends them" in asked.stderr) == (1, True)
    assert resumed.stdout == "resumed: endpoint desk; 1 deliveries go out now\n"
