"""One page of a local server as a picture, by a headless Chromium and its DevTools protocol.

Nothing is installed for it: aiohttp, which is here anyway, speaks to the browser. Password and
page never stand in its arguments, where everybody on the machine could read them.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

__all__ = ["Shot", "find_chromium", "photograph"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless",
    "--no-sandbox",  # the one page that it opens is our own; without it, root could not start it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
START_SECONDS = 30.0
LOOK_SECONDS = 0.2


def find_chromium() -> str | None:
    """The browser's program: the one that CHROMIUM names, else the first that is installed."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass(frozen=True, slots=True)
class Shot:
    """A page of a server on this machine, and what its picture is to show.

    Attributes:
        login: user and password (HTTP Basic).
        ready: an expression of JavaScript that is true once the page shows what it should.
        words: words of the page, and what the picture shows in their place.
        size: of the window, in CSS pixels.
    """

    url: str
    login: tuple[str, str] = field(repr=False)
    ready: str
    words: dict[str, str]
    size: tuple[int, int]


def photograph(chromium: str, shot: Shot, *, seconds: float = 30.0) -> bytes:
    """The page as PNG, once it is ready; `chromium` is the browser's program.

    Raises:
        TimeoutError: the browser did not start, or the page was not ready in `seconds`.
    """
    with _running(chromium) as port:
        return asyncio.run(_photograph(port, shot, seconds))


async def _photograph(port: int, shot: Shot, seconds: float) -> bytes:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(await _first_page(session, port), max_msg_size=0) as socket,
    ):
        page = _Page(socket)
        token = base64.b64encode(":".join(shot.login).encode()).decode()
        await page.ask("Network.enable")
        await page.ask("Network.setExtraHTTPHeaders", headers={"Authorization": f"Basic {token}"})
        width, height = shot.size
        await page.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        await page.ask("Page.navigate", url=shot.url)
        ready = f"document.readyState == 'complete' && ({shot.ready})"
        deadline = time.monotonic() + seconds
        while not await page.value(ready):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page was not ready within {seconds:g} s")
        await page.value(_REPLACE % json.dumps(shot.words))
        picture = await page.ask("Page.captureScreenshot", format="png")
        return base64.b64decode(picture["data"])


_REPLACE = """
(words => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode())
    for (const [word, shown] of Object.entries(words))
      walker.currentNode.data = walker.currentNode.data.replaceAll(word, shown);
})(%s)
"""


class _Page:
    """Asks one page of the browser, one question at a time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def ask(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=START_SECONDS)
            if answer.get("id") == number:
                return dict(answer["result"])

    async def value(self, expression: str) -> object:
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")


@contextmanager
def _running(chromium: str) -> Iterator[int]:
    """The port on which a browser of its own answers; it is ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            [chromium, *FLAGS, f"--user-data-dir={profile}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _port(browser, Path(profile) / "DevToolsActivePort")
        finally:
            browser.terminate()
            browser.wait()


def _port(browser: subprocess.Popen[bytes], file: Path) -> int:
    deadline = time.monotonic() + START_SECONDS
    while not (file.exists() and file.read_text().strip()):
        if browser.poll() is not None or time.monotonic() > deadline:
            raise TimeoutError(f"the browser did not start (exit code {browser.returncode})")
        time.sleep(LOOK_SECONDS)
    return int(file.read_text().splitlines()[0])


async def _first_page(session: aiohttp.ClientSession, port: int) -> str:
    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = await answer.json()
    return str(next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page"))
