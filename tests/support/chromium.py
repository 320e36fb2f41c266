"""A headless Chromium that opens a page at a width and tells what it sees, over its debugging protocol."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--disable-component-update",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
)
PATIENCE = 60  # seconds, for a machine that is busy
# Questions to a page: what of it lies outside the window, and whether it scrolls sideways.
OVERFLOW = """[...document.querySelectorAll("main *")].filter(part => {
  const box = part.getBoundingClientRect();
  return !part.closest(".scroll") && box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(part => part.outerHTML.slice(0, 120))"""
SCROLLS = "document.documentElement.scrollWidth > innerWidth"


@dataclass(frozen=True)
class Sight:
    """Complaints of the browser, the addresses it asked for, the answers of the scripts."""

    complaints: list
    requests: list
    answers: list
    picture: bytes


@contextmanager
def chromium():
    """The address of the debugging protocol of a browser of its own, which ends with the block."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed: apt-get install chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            port_file = Path(profile) / "DevToolsActivePort"
            deadline = time.monotonic() + PATIENCE
            while not (port_file.exists() and port_file.read_text().count("\n")):
                assert process.poll() is None, f"chromium ended with {process.returncode}"
                assert time.monotonic() < deadline, "chromium does not start"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port_file.read_text().splitlines()[0]}"
        finally:
            process.terminate()
            process.wait(PATIENCE)


def look(address, page, width, scripts=(), *, dark=False, picture=False):
    """Open the file `page` at a width in CSS pixels, and evaluate the scripts in it."""
    return asyncio.run(
        asyncio.wait_for(_look(address, page.resolve().as_uri(), width, scripts, dark, picture), PATIENCE)
    )


async def _look(address, url, width, scripts, dark, picture):
    async with aiohttp.ClientSession() as session:
        async with session.put(f"{address}/json/new?about:blank") as response:
            target = await response.json(content_type=None)
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            tab = _Tab(socket)
            for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
                await tab.ask(f"{domain}.enable")
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
            await tab.ask("Emulation.setDeviceMetricsOverride", **metrics)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            await tab.ask("Emulation.setEmulatedMedia", features=[scheme])
            await tab.ask("Page.navigate", url=url)
            await tab.until("Page.loadEventFired")
            answers = [await tab.evaluate(script) for script in scripts]
            shot = b""
            if picture:
                found = await tab.ask("Page.captureScreenshot", captureBeyondViewport=True)
                shot = base64.b64decode(found["data"])
            await tab.ask("Runtime.evaluate", expression="0")  # what was reported before has arrived
        async with session.get(f"{address}/json/close/{target['id']}"):
            return Sight(tab.complaints, tab.requests, answers, shot)


class _Tab:
    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._seen = []
        self.complaints = []
        self.requests = []

    async def ask(self, method, **parameters):
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = await self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]

    async def evaluate(self, script):
        found = await self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    async def until(self, event):
        while event not in self._seen:
            await self._receive()

    async def _receive(self):
        message = json.loads((await self._socket.receive()).data)
        method, parameters = message.get("method", ""), message.get("params", {})
        self._seen.append(method)
        if method == "Runtime.exceptionThrown":
            self.complaints.append(parameters["exceptionDetails"]["text"])
        elif method == "Runtime.consoleAPICalled":
            self.complaints.append(str(parameters["args"]))
        elif method == "Log.entryAdded":
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Audits.issueAdded":
            self.complaints.append(parameters["issue"]["code"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        return message
