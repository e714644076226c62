"""Where the servers' programs are found, for an account that may not look into every folder."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from signalpost.embedded.programs import account_for, within_reach
from signalpost.errors import EmbeddedError


@pytest.fixture
def environment() -> Iterator[Path]:
    """An installed package with a program, readable by everyone like the folders above it."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "site" / "package"
        (package / "bin").mkdir(parents=True)
        (package / "bin" / "server").write_text("program")
        (package / "bin" / "server").chmod(0o755)
        (package / "link").symlink_to("bin/server")
        Path(folder).chmod(0o755)
        yield package


def reached(package: Path, copy: Path) -> Path:
    return within_reach([package, package.with_name("none")], [package / "bin" / "server"], copy)


def test_an_open_environment_is_used_as_it_is(environment: Path, tmp_path: Path) -> None:
    """Programs that every account reaches are not copied."""
    copy = tmp_path / "cache" / "package-1"

    assert reached(environment, copy) == environment.parent
    assert not copy.exists()


@pytest.mark.parametrize("closed", [".", "..", "bin/server"])
def test_a_closed_environment_is_copied(environment: Path, tmp_path: Path, closed: str) -> None:
    """Programs in a folder closed to others, or unreadable, are copied, and the copy is open."""
    (environment / closed).chmod(0o700)
    copy = tmp_path / "cache" / "package-1"

    assert reached(environment, copy) == copy

    program = copy / "package" / "bin" / "server"
    assert program.read_text() == "program"
    assert (copy / "package" / "link").is_symlink()
    assert stat.S_IMODE(program.stat().st_mode) & 0o005 == 0o005
    assert all(folder.stat().st_mode & stat.S_IXOTH for folder in (copy, *program.parents[:3]))
    assert stat.S_IMODE((environment / closed).stat().st_mode) == 0o700
    assert list(copy.parent.iterdir()) == [copy]


def test_a_copy_is_made_once(environment: Path, tmp_path: Path) -> None:
    """The copy of one version is made once and used again."""
    environment.chmod(0o700)
    copy = tmp_path / "cache" / "package-1"
    reached(environment, copy)
    (environment / "bin" / "server").write_text("changed")

    assert reached(environment, copy) == copy
    assert (copy / "package" / "bin" / "server").read_text() == "program"


def test_a_copy_that_cannot_be_made_is_told(environment: Path, tmp_path: Path) -> None:
    """Where no copy can be made, one line says why and what to do."""
    environment.chmod(0o700)
    (tmp_path / "cache").write_text("in the way")

    with pytest.raises(EmbeddedError, match="run signalpost as an ordinary user"):
        reached(environment, tmp_path / "cache" / "package-1")


def test_our_own_folder_is_served_as_we_are_or_as_nobody(tmp_path: Path) -> None:
    """An ordinary user's servers run as that user; root's run as somebody who is not root."""
    account = account_for(tmp_path)

    if os.geteuid() == 0:
        assert account is not None
        assert account.uid != 0
    else:
        assert account is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_users_folder_stays_that_users(tmp_path: Path) -> None:
    """Root starts the servers of a folder that belongs to a user as that user."""
    os.chown(tmp_path, 4321, 1234)

    account = account_for(tmp_path)

    assert account is not None
    assert (account.uid, account.gid) == (4321, 1234)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use every folder")
def test_another_accounts_folder_is_refused() -> None:
    """A folder that belongs to another account is refused in a line that names it."""
    with pytest.raises(EmbeddedError, match="belongs to another account"):
        account_for(Path("/"))
