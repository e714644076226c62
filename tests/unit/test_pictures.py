"""The README's pictures are small, complete, and show nothing that is private."""

from __future__ import annotations

import re
import socket

import pytest

from docs import write_pictures
from docs.write_pictures import DEMO, FLOWER, MACHINE, STATUS, drawn, report_in, telling

PRIVATE = re.compile(
    r"whsec_|password|secret|/home/|/root|/Users/|/tmp/|\bprice|@font-face", re.IGNORECASE
)


@pytest.mark.parametrize("picture", [DEMO, STATUS])
def test_a_picture_shows_nothing_private(picture: object) -> None:
    """The committed pictures hold no secret, price or folder, and fetch nothing when shown."""
    content = picture.read_text(encoding="utf-8")  # type: ignore[attr-defined]  # a Path

    assert PRIVATE.findall(content) == []


def test_the_pictures_are_small_and_shown_by_the_readme() -> None:
    """A reader loads at most half a megabyte, and each picture stands in the README."""
    readme = (write_pictures.PICTURES.parents[1] / "README.md").read_text(encoding="utf-8")

    assert sum(file.stat().st_size for file in (DEMO, STATUS, FLOWER)) < 500_000
    for file in (DEMO, STATUS, FLOWER):
        assert f"(docs/pictures/{file.name})" in readme


def test_a_terminal_is_drawn_without_the_machine() -> None:
    """Neither the machine's name nor the place of its folder gets into a picture."""
    name = socket.gethostname()

    image = drawn(f"{name}:17 \x1b[32malive\x1b[0m (data folder /somewhere/of/mine)", "a b")

    assert f"{MACHINE}:17" in image
    assert "somewhere" not in image
    assert "@font-face" not in image


def test_the_demo_is_cut_to_its_report() -> None:
    """Only the report is drawn: what went on before it and what is said after it stay out."""
    heard = "set up\r\n\x1b[1mWhat signalpost recorded\x1b[0m\r\n310\r\nEverything stays up until"

    assert report_in(heard) == "\x1b[1mWhat signalpost recorded\x1b[0m\n310"


def test_the_screen_with_trouble_is_taken() -> None:
    """Of many screens the last one that shows an endpoint in trouble is drawn."""
    screens = ["desk http 503\x1b[K", "faraway\x1b[K", "no endpoint in trouble"]

    assert telling(screens) == "faraway"
    assert telling(screens[2:]) == screens[2]
