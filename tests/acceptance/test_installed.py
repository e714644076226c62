"""The built wheel, in an environment of its own outside the repository, beside a package `app`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from signalpost import verify
from signalpost.secretbox import SecretBox
from tests.databases import cloned
from tests.processes import Program, clean_environment
from tests.receivers import receiver

ROOT = Path(__file__).parents[2]

STRATEGY = '''
"""A strategy's own package, by the name that signalpost's source folder has too."""

from signalpost import Producer, Signal

import app

levels = {"entry_price": "189.50", "stop_loss": "184.00", "take_profit": "199.00"}
why = {"confidence": "0.82", "reason": "RSI 31", "timestamp": "2026-03-02T21:00:00Z"}

if __name__ == "__main__":
    with Producer(producer_id="momentum-1") as producer:
        enqueued = producer.enqueue(Signal(instrument="AAPL", side="buy", **levels, **why))
    print(app.WHOSE, enqueued.signal_id, enqueued.announced)
'''

WHENCE = """
import json, signalpost, signalpost_worker
from importlib.metadata import distribution
from signalpost.database import migrations_folder
found = distribution("signalpost")
print(json.dumps({
    "library": signalpost.__file__,
    "worker": signalpost_worker.__file__,
    "migrations": str(migrations_folder()),
    "metadata": str(found.locate_file("signalpost")),
}))
"""


def run(*argv: str | Path, **environ: str) -> str:
    """What a program writes to stdout; it must end well."""
    ended = subprocess.run(
        [str(part) for part in argv],
        env={**clean_environment(), "PYTHONPATH": "", **environ},
        cwd=Path(argv[0]).parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as a release would be built."""
    return built(ROOT, tmp_path_factory.mktemp("wheel"))


def built(source: Path, folder: Path) -> Path:
    """The wheel made of these sources, in this folder."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=source,
        env=clean_environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    [wheel] = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def programs(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a new environment that has the wheel and a package `app`.

    The dependencies are those of the tests' own environment, whose folder is named by a line in a
    .pth file: such a line adds the folder, but not what its own .pth files add (site's rule), and
    so not this repository, which is installed there as editable.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    at = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=at))
    ours = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(ours)) + "\n")
    (packages / "app").mkdir()
    (packages / "app" / "__init__.py").write_text('WHOSE = "mine"\n')
    (packages / "app" / "strategy.py").write_text(STRATEGY)
    programs = folder / "bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "-q", "install")
    run(*pip, "--no-deps", "--no-index", "--no-compile", wheel)
    return programs


def test_the_wheel_holds_our_packages_and_nothing_else(wheel: Path) -> None:
    """It brings the two packages with the migrations and the types' mark, and no package `app`."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "signalpost",
        "signalpost_worker",
    }
    assert "signalpost/py.typed" in names
    scripts = {path.name for path in (ROOT / "migrations" / "versions").glob("*.py")}
    assert {f"signalpost/migrations/versions/{name}" for name in scripts} <= set(names)


def test_the_image_is_built_of_files_that_suffice(wheel: Path, tmp_path: Path) -> None:
    """What .dockerignore lets into an image makes the same wheel, but for the demo's strategy."""
    context = tmp_path / "context"
    context.mkdir()
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line.startswith("!"):
            kept = ROOT / line[1:]
            copy = shutil.copytree if kept.is_dir() else shutil.copy
            copy(kept, context / kept.name)
    held = [set(zipfile.ZipFile(one).namelist()) for one in (built(context, tmp_path), wheel)]
    assert held[1] - held[0] == {
        name for name in held[1] if name.startswith("signalpost/demo/strategy/")
    }


def test_what_runs_there_is_the_wheel(programs: Path) -> None:
    """Library, worker and migrations come from the new environment, not from the repository."""
    whence = json.loads(run(programs / "python", "-c", WHENCE))
    assert {Path(path).is_relative_to(programs.parent) for path in whence.values()} == {True}
    assert not programs.is_relative_to(ROOT)


async def test_an_installed_stack_delivers(
    programs: Path, postgres_server: str, redis_url: str
) -> None:
    """Migrate, add an endpoint, enqueue by the API, run a worker: the signal arrives, signed."""
    with cloned(postgres_server, "template1") as database_url:
        environ = {
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "OUTBOUND_ALLOW_NETWORKS": "127.0.0.0/8",
            "SECRET_KEYS": SecretBox.new_key(),
        }

        async def command(*arguments: str) -> str:
            return await asyncio.to_thread(run, programs / arguments[0], *arguments[1:], **environ)

        async with receiver() as there:
            await command("signalpost", "migrate")
            added = await command("signalpost", "endpoint", "add", "desk", there.url)
            secret = re.findall(r"whsec_[A-Za-z0-9+/=]+", added)[0]
            worker = [str(programs / "signalpost"), "worker"]
            program = Program(worker, env={**environ, "PYTHONPATH": ""}, cwd=programs)
            try:
                enqueued = await command("python", "-m", "app.strategy")
                await there.wait_for(1, seconds=30)
                await asyncio.to_thread(program.wait_for_line, "delivered")
            finally:
                code = await asyncio.to_thread(program.end)
            listed = json.loads(await command("signalpost", "deliveries", "list", "--json"))
        whose, signal_id, announced = enqueued.split()
        assert (whose, announced) == ("mine", "True")
        [seen] = there.seen
        verified = verify(
            method="POST", headers=seen.headers, body=seen.body, url=there.url, secrets=[secret]
        )
        assert verified.producer_id == "momentum-1"
        assert json.loads(seen.body)["id"] == signal_id
        assert "delivered" in json.dumps(listed)
        assert code == 0
