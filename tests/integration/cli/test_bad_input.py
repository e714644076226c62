"""Every kind of bad input through the real command line: one line, and nothing is written."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from signalpost.demo.telegram_standin import running_standin
from signalpost.embedded.folder import DataFolder
from signalpost.secretbox import SecretBox
from tests.databases import cloned
from tests.integration.cli.operators import LINE, Operator, Result

PRIVATE = "correct-horse"
"""Stands in whatever is secret or private here; no line may show it."""
TOKEN, CHAT = f"123456:{PRIVATE}", "4711"
PUBLIC = "https://desk.example/in"

WORKER = ("worker", "--role", "deliver")


@dataclass(frozen=True)
class Bad:
    """One thing that is wrong, and what the one line must say of it.

    Words in braces are the places of `places`. `process`: a program of its own, since a good start
    would replace this one.
    """

    words: tuple[str, ...]
    cause: str
    remedy: str
    more: Mapping[str, str] = field(default_factory=dict)
    given: str | bytes | None = None
    code: int = 1
    process: bool = False


def line(**changes: Any) -> str:
    return json.dumps({**LINE, "reason": PRIVATE, **changes}) + "\n"


def sent(cause: str, remedy: str, **changes: Any) -> Bad:
    return Bad(("send", "-"), cause, remedy, given=line(**changes))


def with_settings(cause: str, remedy: str, **more: str) -> Bad:
    return Bad(("status",), cause, remedy, more=more)


NUMBER = "such as 1.0850"
ZONE = "such as 2026-01-31T09:30:00Z"
SHORT, LONGER = "at least 16 bytes", "take a longer one"
MALFORMED, ANEW = "padded base64", "copy it anew"
AWAY, SEE = "cannot be reached", "see whether it is up"
UNMIGRATED, MIGRATE = "no tables in schema", "run `signalpost migrate`"
NEWER, INSTALL = "newer than this release", "install the newer signalpost"
LOST, ADD_KEY = "cannot be decrypted", "add the key"
NO_KEYS, SET_KEYS = "SECRET_KEYS is not set", "set it to the keys"
REFUSED, CORRECT = "refuses the password", "correct"
NETWORKS = "OUTBOUND_ALLOW_NETWORKS"

TABLE: dict[str, Bad] = {
    # Signals.
    "NaN": Bad(("send", "-"), "NaN and infinity", NUMBER, given=line().replace("101.5", "NaN", 1)),
    "NaN as text": sent("entry_price: must be a number", NUMBER, entry_price="NaN"),
    "infinity": Bad(
        ("send", "-"), "NaN and infinity", NUMBER, given=line().replace("101.5", "Infinity", 1)
    ),
    "price of the wrong kind": sent("entry_price: must be", NUMBER, entry_price=True),
    "price as a list": sent("entry_price: must be", NUMBER, entry_price=[PRIVATE]),
    "price as words": sent("entry_price: must be", NUMBER, entry_price=PRIVATE),
    "naive timestamp": sent("timestamp: must be", ZONE, timestamp="2026-01-31T09:30:00"),
    "no timestamp": sent("timestamp: must be", "RFC 3339", timestamp=None),
    "body over the limit": sent(
        "at most 65536 are allowed", "raise OUTBOUND_MAX_BODY_SIZE", payload={"x": PRIVATE * 9999}
    ),
    "no signal at all": Bad(
        ("send", "-"), "must be an object", "the fields of a signal", given=f'["{PRIVATE}"]\n'
    ),
    "an endpoint that is not there": Bad(
        ("send", "-", "--endpoint", "nobody"), "no endpoint named", "endpoint list", given=line()
    ),
    "no life": Bad(("send", "-", "--ttl", "0"), "--ttl", "more than nothing", given=line(), code=2),
    # Secrets.
    "short secret": Bad(
        ("endpoint", "add", "x", PUBLIC, "--secret-stdin"), SHORT, LONGER, given="horse\n"
    ),
    "short new secret": Bad(
        ("endpoint", "rotate-secret", "desk", "--secret-stdin"), SHORT, LONGER, given="horse\n"
    ),
    "short secret of a receiver": Bad(
        ("receiver", "--port", "0", "--secret-stdin"), SHORT, LONGER, given="horse\n"
    ),
    "short secret in the settings": with_settings(
        "HMAC_PRODUCER_SECRET cannot be used", LONGER, HMAC_PRODUCER_SECRET="horse"
    ),
    "malformed whsec_": Bad(
        ("endpoint", "add", "x", PUBLIC, "--secret-stdin"),
        MALFORMED,
        ANEW,
        given=f"whsec_{PRIVATE}!\n",
    ),
    "malformed whsec_ in the settings": with_settings(
        MALFORMED, ANEW, HMAC_PRODUCER_SECRET=f"whsec_{PRIVATE}!"
    ),
    "secret that is no text": Bad(
        ("endpoint", "add", "x", PUBLIC, "--secret-stdin"),
        "not text in UTF-8",
        "write it anew",
        given=b"\xff" * 20,
    ),
    # The database.
    "unreachable": Bad(("status",), AWAY, SEE, more={"DATABASE_URL": "{nobody}"}),
    "unreachable to migrate": Bad(("migrate",), AWAY, SEE, more={"DATABASE_URL": "{nobody}"}),
    "unreachable to send": Bad(
        ("send", "-"),
        AWAY,
        "check DATABASE_URL",
        more={"DATABASE_URL": "{nobody}"},
        given=line(),
    ),
    "unreachable to add": Bad(
        ("endpoint", "add", "x", PUBLIC), AWAY, SEE, more={"DATABASE_URL": "{nobody}"}
    ),
    "unknown host": Bad(
        ("status",),
        "the host of DATABASE_URL is unknown",
        "correct the URL",
        more={"DATABASE_URL": f"postgresql://u:{PRIVATE}@nowhere.invalid/x"},
    ),
    "wrong password": Bad(
        ("status",), REFUSED, "correct DATABASE_URL", more={"DATABASE_URL": "{another_password}"}
    ),
    "wrong password of a worker": Bad(
        WORKER,
        REFUSED,
        "correct DATABASE_URL",
        more={"DATABASE_URL": "{another_password}"},
        process=True,
    ),
    "no such database": Bad(
        ("status",), "no such database", "create it", more={"DATABASE_URL": "{no_database}"}
    ),
    "another kind of database": with_settings(
        "DATABASE_URL must be", "postgresql://", DATABASE_URL=f"mysql://u:{PRIVATE}@h/x"
    ),
    "unmigrated": Bad(("status",), UNMIGRATED, MIGRATE, more={"DATABASE_URL": "{bare}"}),
    "unmigrated to send": Bad(
        ("send", "-"), UNMIGRATED, MIGRATE, more={"DATABASE_URL": "{bare}"}, given=line()
    ),
    "unmigrated to add": Bad(
        ("endpoint", "add", "x", PUBLIC), UNMIGRATED, MIGRATE, more={"DATABASE_URL": "{bare}"}
    ),
    "unmigrated to work": Bad(
        WORKER, UNMIGRATED, MIGRATE, more={"DATABASE_URL": "{bare}"}, process=True
    ),
    "newer schema": Bad(("status",), NEWER, INSTALL, more={"DATABASE_URL": "{newer}"}),
    "newer schema to migrate": Bad(("migrate",), NEWER, INSTALL, more={"DATABASE_URL": "{newer}"}),
    "newer schema to send": Bad(
        ("send", "-"), NEWER, INSTALL, more={"DATABASE_URL": "{newer}"}, given=line()
    ),
    "newer schema to work": Bad(
        WORKER, NEWER, INSTALL, more={"DATABASE_URL": "{newer}"}, process=True
    ),
    "older schema to work": Bad(
        WORKER, "this release needs", MIGRATE, more={"DATABASE_URL": "{older}"}, process=True
    ),
    # Redis.
    "wrong Redis password": Bad(
        WORKER,
        "Redis refuses the password",
        "correct it in REDIS_URL",
        more={"REDIS_URL": "{another_redis}"},
        process=True,
    ),
    "wrong Redis password of ops": Bad(
        ("worker", "--role", "ops"),
        "Redis refuses the password",
        "correct it in REDIS_URL",
        more={"REDIS_URL": "{another_redis}"},
        process=True,
    ),
    "no Redis": Bad(WORKER, "no Redis", "set REDIS_URL", more={"REDIS_URL": ""}, process=True),
    "another kind of Redis": with_settings(
        "REDIS_URL must be", "redis://", REDIS_URL=f"http://:{PRIVATE}@h"
    ),
    # Telegram.
    "malformed token": with_settings(
        "OPS_TELEGRAM_BOT_TOKEN must be",
        "@BotFather",
        OPS_TELEGRAM_BOT_TOKEN=PRIVATE,
        OPS_TELEGRAM_CHAT_ID=CHAT,
    ),
    "malformed chat": with_settings(
        "OPS_TELEGRAM_CHAT_ID must be",
        "such as -100",
        OPS_TELEGRAM_BOT_TOKEN=TOKEN,
        OPS_TELEGRAM_CHAT_ID="the desk",
    ),
    "token without chat": with_settings(
        "belong together", "set both or none", OPS_TELEGRAM_BOT_TOKEN=TOKEN
    ),
    # Ports.
    "used port": Bad(
        ("receiver", "--port", "{port}"), "cannot be used", "choose another by --port"
    ),
    "used port of Flower": Bad(
        ("up", "--data", "{new_folder}", "--flower-port", "{port}"),
        "is in use",
        "choose another by --flower-port",
    ),
    "used port of a single Flower": Bad(
        ("worker", "--role", "flower"),
        "cannot listen on port",
        "set FLOWER_PORT to another",
        more={"FLOWER_PORT": "{port}", "FLOWER_BASIC_AUTH": f"u:{PRIVATE}"},
        process=True,
    ),
    "used port of the metrics": Bad(
        WORKER,
        "metrics cannot be served on port",
        "choose another METRICS_PORT",
        more={"METRICS_PORT": "{port}"},
        process=True,
    ),
    # Data folders.
    "data folder of another version": Bad(
        ("up", "--data", "{old_folder}"), "made by PostgreSQL 9", "dump it with the old version"
    ),
    "data folder without its credentials": Bad(
        ("up", "--data", "{bereft_folder}"), "credentials.json is missing", "restore it"
    ),
    "data folder without a stack": Bad(
        ("status", "--data", "{new_folder}"), "no stack runs", "signalpost up --data"
    ),
    "damaged data folder": Bad(
        ("status", "--data", "{damaged_folder}"), "is damaged", "signalpost up --data"
    ),
    # SECRET_KEYS.
    "no keys": Bad(("endpoint", "add", "x", PUBLIC), NO_KEYS, SET_KEYS, more={"SECRET_KEYS": ""}),
    "no keys to work": Bad(WORKER, NO_KEYS, SET_KEYS, more={"SECRET_KEYS": ""}, process=True),
    "malformed keys": with_settings("SECRET_KEYS must be keys", "URL-safe", SECRET_KEYS=PRIVATE),
    "lost keys to show": Bad(
        ("endpoint", "show", "desk", "--reveal-secret"),
        LOST,
        ADD_KEY,
        more={"SECRET_KEYS": "{other_keys}"},
    ),
    "lost keys to rotate": Bad(
        ("endpoint", "rotate-secret", "desk"), LOST, ADD_KEY, more={"SECRET_KEYS": "{other_keys}"}
    ),
    "lost keys to test": Bad(
        ("endpoint", "test", "desk"), LOST, ADD_KEY, more={"SECRET_KEYS": "{other_keys}"}
    ),
    "lost keys of a receiver": Bad(
        ("receiver", "--endpoint", "desk", "--port", "0"),
        LOST,
        ADD_KEY,
        more={"SECRET_KEYS": "{other_keys}"},
    ),
    # Endpoints' URLs.
    "private address": Bad(("endpoint", "add", "x", "https://10.0.0.1/"), "private", NETWORKS),
    "private address to change to": Bad(
        ("endpoint", "set", "desk", "--url", "https://10.0.0.1/"), "private", NETWORKS
    ),
    "address in disguise": Bad(
        ("endpoint", "add", "x", "https://2130706433/"), "no name", "complete address"
    ),
    "plain http": Bad(
        ("endpoint", "add", "x", "http://desk.example/"),
        "must be https://",
        NETWORKS,
        more={"OUTBOUND_ALLOW_NETWORKS": ""},
    ),
    "another scheme": Bad(
        ("endpoint", "add", "x", "ftp://desk.example/"), "cannot be used", "https://example.com"
    ),
    "password in the URL": Bad(
        ("endpoint", "add", "x", f"https://u:{PRIVATE}@desk.example/"), "must hold no", "password"
    ),
    "private address in the settings": Bad(
        WORKER,
        "OUTBOUND_SERVER_URL: the URL's host 10.0.0.1 is a private address",
        NETWORKS,
        more={"OUTBOUND_SERVER_URL": "https://10.0.0.1/", "HMAC_PRODUCER_SECRET": PRIVATE * 2},
        process=True,
    ),
    # Options.
    "span of nothing": Bad(
        ("endpoint", "set", "desk", "--ttl", "soon"), "'--ttl'", "such as 30", code=2
    ),
    "unknown command": Bad(("stat",), "No such command", "Did you mean 'status'?", code=2),
    "port in words": Bad(("up", "--flower-port", "x"), "is no whole number", "--help", code=2),
    "share in words": Bad(("receiver", "--fail-rate", "x"), "is no number", "--help", code=2),
    "pause of no instrument": Bad(
        ("pause", "--instrument", "eur*"), "'eur*' fits no instrument", "capital letters", code=2
    ),
    "pause of no producer": Bad(
        ("pause", "--producer", "momentum 1"), "'--producer'", "must be 1 to 64 letters", code=2
    ),
    "resume of no instrument": Bad(
        ("resume", "--instrument", "aapl"), "'aapl' fits no instrument", "capital letters", code=2
    ),
    "secret's file that is not there": Bad(
        ("endpoint", "add", "x", PUBLIC, "--secret-file", "nofile"),
        "secret's file nofile cannot be read",
        "No such file",
    ),
    "life of nothing in the settings": with_settings(
        "SIGNAL_TTL_SECONDS must be above 0", "above 0", SIGNAL_TTL_SECONDS="0"
    ),
    "wrong number in the settings": with_settings(
        "MAX_RETRIES must be", "a whole number", MAX_RETRIES=PRIVATE
    ),
}


@pytest.fixture(scope="module")
def places(
    bystander: Operator,
    postgres_server: str,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, str]]:
    """What is wrong or taken: databases, ports, folders, keys."""
    folder = tmp_path_factory.mktemp("places")
    good = bystander.environment["DATABASE_URL"]
    head, _, tail = good.partition("@")
    redis = bystander.environment["REDIS_URL"].rpartition("@")[2]
    with (
        cloned(postgres_server, "template1") as bare,
        cloned(postgres_server, migrated_template) as newer,
        cloned(postgres_server, migrated_template) as older,
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket() as closed,
    ):
        closed.bind(("127.0.0.1", 0))
        for url, revision in ((newer, "9999"), (older, "0007")):
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute(
                    "UPDATE signalpost.alembic_version SET version_num = %s", [revision]
                )
        yield {
            "bare": bare,
            "newer": newer,
            "older": older,
            "nobody": f"postgresql://u:{PRIVATE}@127.0.0.1:{closed.getsockname()[1]}/x",
            "another_password": f"{head.rpartition(':')[0]}:{PRIVATE}@{tail}",
            "no_database": f"{good.rpartition('/')[0]}/nowhere",
            "another_redis": f"redis://:{PRIVATE}@{redis}",
            "other_keys": SecretBox.new_key(),
            "port": str(taken.getsockname()[1]),
            "new_folder": str(folder / "new"),
            "old_folder": str(old_folder(folder / "old", credentials=True)),
            "bereft_folder": str(old_folder(folder / "bereft", credentials=False)),
            "damaged_folder": str(damaged_folder(folder / "damaged")),
        }


def old_folder(path: Path, *, credentials: bool) -> Path:
    """A data folder whose database an older PostgreSQL made."""
    place = DataFolder(path)
    place.postgres.mkdir(parents=True)
    place.logs.mkdir()
    place.lock_file.touch(mode=0o600)
    if credentials:
        place.credentials()
    (place.postgres / "PG_VERSION").write_text("9\n")
    return path


def damaged_folder(path: Path) -> Path:
    path.mkdir()
    DataFolder(path).stack_file.write_text("{")
    return path


@pytest.mark.parametrize("name", TABLE)
def test_bad_input_is_one_line_and_writes_nothing(
    bystander: Operator, places: dict[str, str], name: str
) -> None:
    """Standard error has one line, with cause and remedy and no secret; nothing is written."""
    bad = TABLE[name]
    environment = {key: value.format(**places) for key, value in bad.more.items()}
    if bad.words[0] == "up":
        environment |= {"DATABASE_URL": "", "REDIS_URL": "", "SECRET_KEYS": ""}
    before = written(bystander, places)
    result = run(bystander, bad, [word.format(**places) for word in bad.words], environment)

    assert result.exit_code == bad.code, result.output
    [told] = error_lines(result)
    assert told.startswith(("signalpost: ", "line 1: ")), told
    assert bad.cause in told
    assert bad.remedy in told
    assert PRIVATE not in result.output
    for secret in (bystander.keys, places["other_keys"]):
        assert secret not in result.output
    assert "Traceback" not in result.output
    assert written(bystander, places) == before


def run(operator: Operator, bad: Bad, words: list[str], environment: dict[str, str]) -> Result:
    if not bad.process:
        return operator.run(*words, given=bad.given, **environment)
    with operator.program(*words, **environment) as program:
        code = program.wait(30)
    return Result(code, "", program.output)


def error_lines(result: Result) -> list[str]:
    """Standard error, but for the remark which database is used."""
    return [text for text in result.stderr.splitlines() if not text.startswith("database: ")]


def written(operator: Operator, places: Mapping[str, str]) -> dict[str, object]:
    """All that a command could have written: rows, tables, files."""
    found: dict[str, object] = {
        name: contents(url)
        for name, url in (
            ("outbox", operator.environment["DATABASE_URL"]),
            ("bare", places["bare"]),
            ("newer", places["newer"]),
            ("older", places["older"]),
        )
    }
    for name in ("new_folder", "old_folder", "bereft_folder", "damaged_folder"):
        folder = Path(places[name])
        # A log may tell of the try; nothing else may.
        found[name] = sorted(
            (str(path), path.read_bytes() if path.is_file() and path.suffix != ".log" else b"")
            for path in folder.rglob("*")
            if path.suffix != ".log" and path.name != "lock"
        )
    return found


def contents(url: str) -> dict[str, str | None]:
    """A digest of each of our tables."""
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'signalpost' ORDER BY 1"
    with psycopg.connect(url) as connection:
        return {
            name: connection.execute(
                psycopg.sql.SQL(
                    "SELECT md5(string_agg(t::text, '' ORDER BY t::text)) FROM signalpost.{} t"
                ).format(psycopg.sql.Identifier(name))
            ).fetchone()[0]  # type: ignore[index]  # an aggregate always has a row
            for (name,) in connection.execute(tables).fetchall()
        }


@pytest.mark.parametrize(
    ("token", "chat", "cause", "remedy"),
    [
        (f"654321:{PRIVATE}", CHAT, "refuses the bot's token", "correct OPS_TELEGRAM_BOT_TOKEN"),
        (TOKEN, "1", "does not know the chat", "correct OPS_TELEGRAM_CHAT_ID"),
    ],
)
def test_a_wrong_token_or_chat_is_one_line_of_the_doctor(
    bystander: Operator, token: str, chat: str, cause: str, remedy: str
) -> None:
    """What only Telegram knows is asked by the doctor: a failure in one line, exit code 1."""
    with running_standin(token=TOKEN, chat_id=CHAT) as standin:
        result = bystander.run(
            "doctor",
            OPS_TELEGRAM_BOT_TOKEN=token,
            OPS_TELEGRAM_CHAT_ID=chat,
            OPS_TELEGRAM_BASE_URL=standin.base_url,
        )

    assert result.exit_code == 1
    [told] = [text for text in result.stdout.splitlines() if text.startswith("failure  telegram")]
    assert cause in told
    assert remedy in told
    assert PRIVATE not in result.output
    assert standin.messages == []


@pytest.mark.parametrize(
    ("token", "chat", "cause", "remedy"),
    [
        (f"654321:{PRIVATE}", CHAT, "refuses the bot's token", "correct OPS_TELEGRAM_BOT_TOKEN"),
        (TOKEN, "1", "chat not found", "check OPS_TELEGRAM_CHAT_ID"),
    ],
)
def test_a_wrong_token_or_chat_is_one_line_of_a_test_alert(
    bystander: Operator, token: str, chat: str, cause: str, remedy: str
) -> None:
    """An alert that is sent to try it ends in one line with the cause, exit code 1, no token."""
    with running_standin(token=TOKEN, chat_id=CHAT) as standin:
        result = bystander.run(
            *("alerts", "test"),
            OPS_TELEGRAM_BOT_TOKEN=token,
            OPS_TELEGRAM_CHAT_ID=chat,
            OPS_TELEGRAM_BASE_URL=standin.base_url,
        )

    assert result.exit_code == 1
    [told] = error_lines(result)
    assert cause in told.lower()
    assert remedy in told
    assert PRIVATE not in result.output
    assert standin.messages == []


def test_a_good_signal_is_stored_though_redis_refuses_the_password(
    operator: Operator, endpoint: str
) -> None:
    """Redis only makes it sooner: the signal is safe, and the line says what to correct."""
    place = operator.environment["REDIS_URL"].rpartition("@")[2]
    result = operator.run("send", "-", given=line(), REDIS_URL=f"redis://:{PRIVATE}@{place}")

    assert result.exit_code == 0
    assert "1 signals, 1 deliveries" in result.stdout
    assert "Redis refuses the password; correct it in REDIS_URL" in result.stderr
    assert PRIVATE not in result.output
    assert endpoint not in result.output
