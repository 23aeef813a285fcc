"""Headless Chromium, driven through its DevTools protocol (https://chromedevtools.github.io).

Streamlit brings the WebSocket client that this needs; a library of browser automation would bring a
browser of its own.
"""

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from websockets.sync.client import connect

FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync hide-scrollbars remote-debugging-port=0 "
    "use-fake-ui-for-media-stream use-fake-device-for-media-stream"
)
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowDown": 40}


class Tab:
    """One page in the browser."""

    def __init__(self, address: str) -> None:
        self._socket = connect(address, max_size=None, open_timeout=30)
        self._numbers = itertools.count()
        self.problems: list[str] = []
        """errors that the page's scripts threw"""
        self.asked: set[str] = set()
        """addresses that the page fetched"""
        for domain in ("Page", "Runtime", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters):
        """The answer to a command of the protocol."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(message["params"]["exceptionDetails"])[:400])
            if message.get("method") == "Network.requestWillBeSent":
                self.asked.add(message["params"]["request"]["url"])
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]

    def evaluate(self, script: str):
        """The value of an expression of JavaScript."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def show(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """The size of the window in CSS pixels, and whether the system is light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def go(self, address: str) -> None:
        self.call("Page.navigate", url=address)

    def wait(self, condition: str, seconds: float = 40) -> None:
        """Until an expression is true, and the page has come to rest."""
        still = (
            "document.querySelector('[data-testid=stApp]') && document.querySelector("
            "'[data-testid=stApp]').getAttribute('data-test-script-state') == 'notRunning'"
        )
        script = f"Boolean(({still}) && ({condition}))"
        end = time.monotonic() + seconds
        while not self.evaluate(script):
            assert time.monotonic() < end, f"{condition}: never true in\n{self.text()[:2000]}"
            time.sleep(0.1)

    def text(self) -> str:
        return self.evaluate("document.body.innerText")

    def says(self, words: str) -> None:
        """Wait until the page says something."""
        self.wait(f"document.body.innerText.includes({json.dumps(words)})")

    def upload(self, *files: Path) -> None:
        """Give files to the uploader as if the visitor had chosen them."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        found = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")
        self.call(
            "DOM.setFileInputFiles", nodeId=found["nodeId"], files=[str(file) for file in files]
        )

    def click(self, words: str) -> None:
        """Wait for the button with these words, and click it."""
        button = (
            "[...document.querySelectorAll('button')]"
            f".find(button => !button.disabled && button.innerText == {json.dumps(words)})"
        )
        self.wait(button)
        self.evaluate(f"{button}.click()")

    def choose(self, label: str, option: str) -> None:
        """Choose from a list by typing, as one does without a mouse."""
        field = f"document.querySelector('input[aria-label*=\"{label}\"]')"
        self.wait(field)
        self.evaluate(f"{field}.focus()")
        self.call("Input.insertText", text=option)
        self.press("Enter")

    def press(self, key: str, *, times: int = 1) -> None:
        for _ in range(times):
            for kind in ("rawKeyDown", "char", "keyUp"):
                if kind == "char" and key not in ("Enter", " "):
                    continue
                self.call(
                    "Input.dispatchKeyEvent",
                    type=kind,
                    key=key,
                    code="Space" if key == " " else key,
                    windowsVirtualKeyCode=KEYS[key],
                    text="\r" if key == "Enter" else key,
                )

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG file of the page, whole or what the window shows of it."""
        if whole:
            height = self.evaluate(
                "Math.max(...[...document.querySelectorAll('[data-testid=stMain]')]"
                ".map(e => e.scrollHeight), innerHeight)"
            )
            width = self.evaluate("innerWidth")
            self.call(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            time.sleep(0.5)
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextmanager
def chromium(profile: Path) -> Iterator[Tab]:
    """A browser with one empty page, ended afterwards."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    assert program, "Chromium is not on the PATH: `apt-get install chromium`, or `-m 'not browser'`"
    command = [program, *(f"--{flag}" for flag in FLAGS.split()), f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        [*command, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        ready = profile / "DevToolsActivePort"
        end = time.monotonic() + 60
        while not (ready.is_file() and "\n" in ready.read_text()):
            assert time.monotonic() < end, "Chromium did not start"
            time.sleep(0.1)
        port = ready.read_text().split()[0]
        new = Request(f"http://127.0.0.1:{port}/json/new?about:blank", method="PUT")
        with urlopen(new) as answer:
            yield Tab(json.load(answer)["webSocketDebuggerUrl"])
    finally:
        process.terminate()
        process.wait(30)
