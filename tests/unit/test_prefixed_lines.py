"""What a person sees of many processes on one terminal."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pytest

from signalpost.supervisor import PrefixedLines


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, *texts: str, environ: Mapping[str, str] | None = None) -> str:
    with PrefixedLines(stream, environ=environ or {}, width=6) as lines:
        for text in texts:
            lines.write("beat", text)
    return stream.getvalue()


def test_plain_where_there_is_no_terminal() -> None:
    """In a file or a pipe a line is the padded name, a bar and the text, without any colour."""
    assert shown(io.StringIO(), "hello") == "beat   | hello\n"


def test_coloured_on_a_terminal() -> None:
    """On a terminal the name is coloured, and the text is left in the terminal's own colour."""
    assert shown(Screen(), "hello") == "\x1b[36mbeat   |\x1b[0m hello\n"


def test_no_color_is_heeded() -> None:
    """NO_COLOR with any value means no colour; empty means as if it were not there."""
    assert shown(Screen(), "hello", environ={"NO_COLOR": "1"}) == "beat   | hello\n"
    assert "\x1b[" in shown(Screen(), "hello", environ={"NO_COLOR": ""})


def test_each_name_has_its_colour() -> None:
    """Two processes differ in colour, and one keeps its own."""
    screen = Screen()
    with PrefixedLines(screen, environ={}, width=1) as lines:
        for name in "aba":
            lines.write(name, "x")

    first, second, third = screen.getvalue().splitlines()
    assert first == third
    assert first[:5] != second[:5]


@pytest.mark.parametrize(
    "hostile", ["\x1b[2J", "\x1b]0;title\x07", "\x1bc", "\x07", "\x9b", "\r", "\x1b[1A", "\x1b(B"]
)
def test_the_screen_cannot_be_rewritten(hostile: str) -> None:
    """A child's output may colour its line, but not move the cursor, ring or rename the window."""
    assert shown(Screen(), f"a{hostile}b").endswith(" ab\n")
    assert shown(io.StringIO(), f"ab{hostile}") == "beat   | ab\n"


def test_a_childs_colour_ends_with_its_line() -> None:
    """A colour that a child forgot to end does not run into the next line; a file gets none."""
    assert shown(Screen(), "\x1b[31mred").endswith(" \x1b[31mred\x1b[0m\n")
    assert shown(io.StringIO(), "\x1b[31mred") == "beat   | red\n"
