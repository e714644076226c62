from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = (ROOT / "app", ROOT / "worker")
DOOR = "signalpost"

# The layers of docs/architecture.md, lowest first: a module imports from its own layer and those
# below. A name stands for the module, and for the package with all that is in it.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"signalpost.core", "signalpost.errors"}),
    frozenset(
        {
            "signalpost.broker",
            "signalpost.database",
            "signalpost.logs",
            "signalpost.models",
            "signalpost.moments",
            "signalpost.repository",
            "signalpost.secretbox",
            "signalpost.sender",
            "signalpost.settings",
            "signalpost.sessions",
            "signalpost.telegram",
            "signalpost.transport",
        }
    ),
    frozenset(
        {
            "signalpost.alerts",
            "signalpost.clock",
            "signalpost.direct",
            "signalpost.dispatch",
            "signalpost.embedded",
            "signalpost.engine",
            "signalpost.engine_thread",
            "signalpost.flight",
            "signalpost.gate",
            "signalpost.grouping",
            "signalpost.health",
            "signalpost.asking",
            "signalpost.holding",
            "signalpost.intake",
            "signalpost.leftovers",
            "signalpost.metrics",
            "signalpost.outbox",
            "signalpost.policies",
            "signalpost.producer",
            "signalpost.receiver",
            "signalpost.recording",
            "signalpost.reports",
            "signalpost.rounds",
            "signalpost.signer",
            "signalpost.sweeps",
            "signalpost.timers",
            "signalpost.upkeep",
            "signalpost.verifying",
            "signalpost.vigil",
            "signalpost.window",
        }
    ),
    frozenset(
        {
            "signalpost.cli",
            "signalpost.demo",
            "signalpost.doctor",
            "signalpost.supervisor",
            "signalpost_worker",
        }
    ),
    # The public door hands out names of every layer, and nothing of ours goes through it.
    frozenset({DOOR}),
)

# The core gets time, chance and the world as arguments.
IMPURE_MODULES = frozenset(
    {
        *("asyncio", "io", "multiprocessing", "os", "pathlib", "random", "secrets", "select"),
        *("shutil", "signal", "socket", "ssl", "subprocess", "sys", "tempfile", "threading"),
        *("time", "urllib.request"),
        *("aiohttp", "celery", "httpx", "kombu", "psycopg", "redis", "sqlalchemy", "telegram"),
    }
)
IMPURE_CALLS = frozenset(
    {"datetime.now", "datetime.utcnow", "datetime.today", "date.today", "open", "print", "input"}
    | {"uuid1", "uuid4", "uuid.uuid1", "uuid.uuid4"}
)

# What anyone above the core may name of SQLAlchemy, beside its exceptions: the handles that are
# passed on to the repository. Who may name more follows; "*" is everything.
SQL_HANDLES = frozenset(
    {"AsyncConnection", "AsyncEngine", "AsyncSession", "Connection", "Engine", "Session"}
    | {"async_scoped_session", "scoped_session"}
)
SQL_SPEAKERS: Mapping[str, frozenset[str]] = {
    "signalpost.models": frozenset({"*"}),
    "signalpost.repository": frozenset({"*"}),
    "signalpost.database": frozenset(
        {"URL", "async_sessionmaker", "create_async_engine", "create_engine", "event", "make_url"}
        | {"sessionmaker", "NullPool", "QueuePool", "AsyncAdaptedQueuePool"}
        # Migrating asks Alembic's own table, before the repository's tables are sure to be there.
        | {"text"}
    ),
    # How connections are used, not what they are asked.
    "signalpost.sessions": frozenset({"event", "text"}),
    # It hangs its publishing on the caller's own commit.
    "signalpost.producer": frozenset({"event"}),
}


@dataclass(frozen=True)
class Module:
    """One source file: its dotted name, whether it is a package's own file, and its syntax tree."""

    name: str
    is_package: bool
    tree: ast.Module

    def imports(self) -> Iterator[tuple[int, str]]:
        """Yields (line, dotted name) for everything imported, in functions and for types too."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node)
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)

    def _base(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - node.level + self.is_package]
        return ".".join([*kept, *filter(None, [node.module])])


def read_modules() -> dict[str, Module]:
    modules = {}
    for root in SOURCE_ROOTS:
        for path in sorted(root.rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            is_package = parts[-1] == "__init__"
            name = ".".join(parts[:-1] if is_package else parts)
            modules[name] = Module(name, is_package, ast.parse(path.read_text()))
    return modules


MODULES = read_modules()


def within(name: str, owner: str) -> bool:
    return name == owner or (owner != DOOR and name.startswith(f"{owner}."))


def layer_of(name: str) -> int | None:
    return next(
        (i for i, layer in enumerate(LAYERS) if any(within(name, owner) for owner in layer)), None
    )


def our_module(dotted: str, names: Mapping[str, object]) -> str | None:
    """Returns the module of ours that an imported dotted name lies in, or None."""
    while dotted:
        if dotted in names:
            return dotted
        dotted = dotted.rpartition(".")[0]
    return None


def our_imports(module: Module, names: Mapping[str, object]) -> Iterator[tuple[int, str, str]]:
    """Yields (line, dotted name as imported, module of ours that it lies in)."""
    for line, dotted in module.imports():
        target = our_module(dotted, names)
        if target is not None and target != module.name:
            yield line, dotted, target


def direction_complaints(module: Module, names: Mapping[str, object]) -> Iterator[str]:
    own = layer_of(module.name)
    if own is None:
        yield f"{module.name} has no layer yet: give it one in LAYERS"
        return
    for line, dotted, target in our_imports(module, names):
        other = layer_of(target)
        if target == DOOR:
            yield f"{module.name}:{line} imports {dotted} by the public door; name its module"
        elif other is not None and other > own:
            yield f"{module.name}:{line} imports {dotted}, which lies above it"
        elif within(target, "signalpost_worker") and not within(module.name, "signalpost_worker"):
            yield f"{module.name}:{line} imports {dotted}; nothing imports the worker"


def purity_complaints(module: Module) -> Iterator[str]:
    for line, dotted in module.imports():
        if any(within(dotted, impure) for impure in IMPURE_MODULES):
            yield f"{module.name}:{line} imports {dotted}; the core is pure"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in IMPURE_CALLS:
            yield f"{module.name}:{node.lineno} calls {ast.unparse(node.func)}; the core is pure"


def sql_complaints(module: Module) -> Iterator[str]:
    allowed = next(
        (names for owner, names in SQL_SPEAKERS.items() if within(module.name, owner)), frozenset()
    )
    if "*" in allowed:
        return
    for line, dotted in module.imports():
        package, _, name = dotted.rpartition(".")
        if dotted.partition(".")[0] != "sqlalchemy" or package == "sqlalchemy.exc":
            continue
        if dotted != "sqlalchemy.exc" and name not in allowed | SQL_HANDLES:
            yield f"{module.name}:{line} imports {dotted}; only the repository speaks SQL"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and node.attr == "exec_driver_sql":
            yield f"{module.name}:{node.lineno} runs raw SQL; only the repository speaks SQL"


def sample(name: str, source: str) -> Module:
    return Module(name, is_package=False, tree=ast.parse(source))


def test_imports_run_one_way() -> None:
    """A module imports only from its own layer and those below, and nothing imports the worker."""
    found = [line for module in MODULES.values() for line in direction_complaints(module, MODULES)]
    assert not found, "\n".join(found)


def test_no_module_needs_itself() -> None:
    """The imports among our modules, those inside functions included, form no cycle."""
    graph = {
        module.name: {target for _, _, target in our_imports(module, MODULES)}
        for module in MODULES.values()
        if module.name != DOOR
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        pytest.fail(" -> ".join(cycle.args[1]))


def test_the_core_is_pure() -> None:
    """The core reads no clock, chance, environment or I/O: it has no means to."""
    core = [module for module in MODULES.values() if within(module.name, "signalpost.core")]
    assert core, "no core was found: the check looks in the wrong place"
    found = [line for module in core for line in purity_complaints(module)]
    assert not found, "\n".join(found)


def test_only_the_repository_speaks_sql() -> None:
    """Queries live in the repository and the models; others hold engines and sessions at most."""
    found = [line for module in MODULES.values() for line in sql_complaints(module)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("signalpost.core.signing", "from signalpost import settings"),
        ("signalpost.core.signing", "from signalpost.settings import Settings"),
        ("signalpost.errors", "from .settings import Settings"),
        ("signalpost.core.signing", "from ..settings import Settings"),
        ("signalpost.sender", "import signalpost.cli"),
        ("signalpost.sender", "def late():\n    from signalpost.cli import main"),
        ("signalpost.cli", "import signalpost_worker.tasks"),
        ("signalpost.cli", "from signalpost import Producer"),
        ("signalpost.oddments", ""),
    ],
)
def test_a_wrong_direction_is_noticed(name: str, source: str) -> None:
    """An import upwards is reported, be it relative, inside a function or of the public door."""
    names = dict.fromkeys(
        [DOOR, "signalpost.settings", "signalpost.cli", "signalpost_worker.tasks", name]
    )
    assert len(list(direction_complaints(sample(name, source), names))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from os import environ",
        "from datetime import datetime\nx = datetime.now(UTC)",
        "import uuid\nx = uuid.uuid4()",
        "import httpx",
        "open('x')",
    ],
)
def test_an_impure_core_is_noticed(source: str) -> None:
    """A clock, chance, the environment, a file or the network in the core is reported."""
    assert len(list(purity_complaints(sample("signalpost.core.sample", source)))) == 1


@pytest.mark.parametrize(
    ("name", "source", "breaches"),
    [
        ("signalpost.dispatch", "from sqlalchemy import select", 1),
        ("signalpost.dispatch", "import sqlalchemy as sa", 1),
        ("signalpost.dispatch", "connection.exec_driver_sql('SELECT 1')", 1),
        ("signalpost.producer", "from sqlalchemy import text", 1),
        ("signalpost.producer", "from sqlalchemy.orm import Session", 0),
        ("signalpost.dispatch", "from sqlalchemy.exc import OperationalError", 0),
        ("signalpost.repository.claims", "from sqlalchemy import select, text", 0),
    ],
)
def test_sql_outside_the_repository_is_noticed(name: str, source: str, breaches: int) -> None:
    """A query's building blocks are reported outside the repository, errors and sessions not."""
    assert len(list(sql_complaints(sample(name, source)))) == breaches
