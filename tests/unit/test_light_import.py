"""What a strategy process loads before its first signal: little, and nothing of the workers'."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# All that may come from other projects: the models, and the database's library.
LIGHT = frozenset(
    {"annotated_types", "greenlet", "idna", "pydantic", "pydantic_core", "sqlalchemy"}
    | {"typing_extensions", "typing_inspection"}
)
OURS = "signalpost"

LOADED = """
import sys
before = set(sys.modules)
{code}
import json
print(json.dumps(sorted(set(sys.modules) - before - {{"json"}})))
"""


def loaded(code: str) -> set[str]:
    """The modules that a fresh process loads for `code`."""
    argv = [sys.executable, "-W", "error", "-c", LOADED.format(code=code)]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stderr
    return set(json.loads(told.stdout))


def others(modules: set[str]) -> set[str]:
    """The packages among them that are neither Python's nor ours; generated helpers left out."""
    tops = {name.partition(".")[0] for name in modules}
    helpers = {top for top in tops if top.startswith(("_", "cython_"))}
    return tops - set(sys.stdlib_module_names) - helpers - {OURS}


def test_the_door_alone_loads_nothing() -> None:
    """`import signalpost` loads the door and no other package; names come when asked for."""
    modules = loaded("import signalpost")
    assert others(modules) == set()
    assert {name for name in modules if name.startswith(OURS)} == {OURS}


@pytest.mark.parametrize(
    "code",
    [
        "from signalpost import Producer, Signal",
        "from signalpost import Producer; Producer('postgresql://h/d', producer_id='p')",
    ],
    ids=["imported", "made"],
)
def test_a_producer_loads_models_and_database_only(code: str) -> None:
    """No Celery, Redis, HTTP, Telegram, migrations or encryption: not even a driver is loaded."""
    modules = loaded(code)
    assert others(modules) <= LIGHT
    ours = {name.split(".")[1] for name in modules if name.startswith(f"{OURS}.")}
    assert ours <= {"broker", "core", "database", "errors", "models"} | {
        "producer",
        "repository",
        "settings",
        "sessions",
        "statements",
    }


def test_verifying_loads_less_still() -> None:
    """A server that only verifies loads neither models nor the database's library."""
    assert others(loaded("from signalpost import verify, Profile")) <= {"idna"}


def test_a_worker_that_delivers_loads_no_telegram() -> None:
    """Only a process that sends alerts pays for the Telegram library."""
    assert "telegram" not in others(loaded("import signalpost_worker.assembly"))


def test_retrying_and_telling_do_not_load_the_workers() -> None:
    """The direct pieces load an HTTP library, as they must, and still no Celery and no Telegram."""
    assert not others(loaded("import signalpost.direct")) & {
        "alembic",
        "celery",
        "kombu",
        "redis",
        "telegram",
    }


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_a_role_does_not_load_flower(role: str) -> None:
    """Celery's own group of commands would load it, and a web server, in each worker."""
    code = f"import signalpost_worker.__main__ as m; assert m.main.get_command(None, {role!r})"
    assert {"celery", "click"} <= (tops := {name.partition(".")[0] for name in loaded(code)})
    assert not tops & {"flower", "tornado"}
