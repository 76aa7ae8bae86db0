"""The page of `earlybird views` in a real browser, over a real stage and Kafka.

With EARLYBIRD_PICTURES naming a folder, what the browser shows is kept there as views.png.
"""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("faust", reason="NO EXTRA: pip install -e '.[views]'")

from earlybird.stream.adapters.kafka_sink import KafkaSink
from earlybird.stream.demo.items import demo_feed, rebased
from earlybird.stream.ports import Outgoing
from views_desk import Desk

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

PATIENCE_S = 150.0
ROWS = "[...document.querySelectorAll('#board tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"


class Browser:
    """Headless Chromium, spoken to by its DevTools protocol."""

    def __init__(self, program: str, home: Path, url: str) -> None:
        options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            "--window-size=1100,640",
        ]
        log = home.parent / "browser.log"
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [program, *options, f"--user-data-dir={home}", url], stdout=self._log, stderr=self._log
        )
        said = home / "DevToolsActivePort"
        deadline = time.monotonic() + PATIENCE_S
        while not (said.exists() and said.read_text()):
            assert self._process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)
        self._port = said.read_text().split()[0]

    async def talk(self, about: Callable[[Callable[..., Awaitable[Any]]], Awaitable[None]]) -> None:
        """Call `about` with a function that sends a method and returns its result."""
        from aiohttp import ClientSession

        async with ClientSession() as session:
            pages: list[dict[str, Any]] = []
            while not pages:
                async with session.get(f"http://127.0.0.1:{self._port}/json") as response:
                    pages = [page for page in await response.json() if page["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:

                async def call(method: str, **parameters: Any) -> Any:
                    await socket.send_json({"id": 1, "method": method, "params": parameters})
                    while True:
                        answer = await socket.receive_json()
                        if answer.get("id") == 1:
                            assert "error" not in answer, answer
                            return answer["result"]

                await about(call)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Callable[[str], Browser]]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("NO BROWSER: make deploy-tools")
    started: list[Browser] = []

    def start(url: str) -> Browser:
        started.append(Browser(program, tmp_path / "browser", url))
        return started[-1]

    yield start
    for each in started:
        each.close()


def test_a_browser_shows_the_board_and_says_when_it_is_old(
    browser: Callable[[str], Browser], new_kafka: Callable[..., Any], start_stage: Callable[..., Any], until: Any
) -> None:
    """The page shows every symbol of the demo, each window, and a note once the server is gone."""
    kafka = new_kafka()
    where = {"EARLYBIRD_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers}

    def said(*words: str) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "earlybird.stream.cli", *words]
        return subprocess.run(command, env=os.environ | where, capture_output=True, check=True)

    said("topics", "create", "--views", "--partitions", "1")
    stage = start_stage(kafka.bootstrap_servers)
    views = start_stage(kafka.bootstrap_servers, ("-m", "earlybird.stream.cli", "views"))
    sink = KafkaSink(kafka.bootstrap_servers)
    for record in rebased(demo_feed(), time.time_ns() // 1000, 10.0):
        sink.send(Outgoing(record.topic, record.key, record.value))
    while sink.unacknowledged():
        sink.receipts(50)
    sink.close()
    until(lambda: json.loads(said("audit", "--json").stdout)["waiting"] == 0, "an outcome of every record")
    windows = Desk(kafka.bootstrap_servers, str, start_stage).oracle()
    expected = {symbol: windows.summary(symbol, "15m").n for symbol in windows.symbols()}
    url = views.wait_for("views.started", PATIENCE_S)["url"]

    async def look(call: Callable[..., Awaitable[Any]]) -> None:
        async def value(expression: str) -> Any:
            return (await call("Runtime.evaluate", expression=expression, returnByValue=True))["result"].get("value")

        async def shown(expression: str, wanted: Callable[[Any], object] = bool) -> Any:
            deadline = time.monotonic() + PATIENCE_S
            while not wanted(found := await value(expression)):
                assert time.monotonic() < deadline, (expression, await value("document.body.innerText"))
                await asyncio.sleep(0.1)
            return found

        rows = await shown(ROWS, lambda rows: {row[0]: int(row[1]) for row in rows} == expected)
        counts = [int(row[1]) for row in rows]
        assert counts == sorted(counts, reverse=True) and {len(row) for row in rows} == {11}
        assert all(-1 <= float(row[2]) <= 1 for row in rows)
        await shown("[...document.querySelectorAll('polyline')].some(line => line.getAttribute('points'))")
        if folder := os.environ.get("EARLYBIRD_PICTURES"):
            shot = await call("Page.captureScreenshot", format="png")
            (Path(folder) / "views.png").write_bytes(base64.b64decode(shot["data"]))
        await value("[...document.querySelectorAll('nav button')].find(each => each.textContent === '1h').click()")
        await shown("document.getElementById('note').textContent.includes('in the last 1h')")
        assert await value("document.querySelector('[aria-pressed=true]').textContent") == "1h"
        assert views.end() == 0
        assert await shown(
            "document.getElementById('note').className === 'bad' && document.getElementById('note').textContent"
        )
        assert await value("document.getElementById('board').className") == "stale"

    asyncio.run(browser(url).talk(look))
    assert stage.end() == 0
