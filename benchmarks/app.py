"""Fifty visitors of the page at once, and every hostile file that the tests know.

python -m benchmarks.app [--users 50] [--seconds 60] > benchmarks/results/app.md

It serves the workspace (`CIFAR_ROOT`, or the checkout), in which two models are exported.
"""

import argparse
import asyncio
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import requests
import sklearn.datasets

from benchmarks.environment import describe
from benchmarks.visitor import VisitError, Visitor
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.choice import choose_model, exported_models
from tests.serving.hostile import READABLE, REFUSED

THINKING = (3.0, 7.0)
PHOTOGRAPHS = ("china.jpg", "flower.jpg")
"""of scikit-learn, 640×427 pixels"""
UPLOADER = "Photographs, up to 20 MB each"
SENTENCE = re.compile(r'role="status">(.*?)</p>')


@contextmanager
def serving() -> Iterator[tuple[str, psutil.Process]]:
    """`cifar app` in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cifar_pipeline", "app", "--host", "127.0.0.1"]
    with subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL) as process:
        address = f"http://127.0.0.1:{port}"
        try:
            while True:
                try:
                    requests.get(f"{address}/_stcore/health", timeout=5)
                    break
                except requests.ConnectionError:
                    time.sleep(0.1)
            yield address, psutil.Process(process.pid)
        finally:
            process.terminate()


def photographs() -> Iterator[tuple[str, bytes]]:
    """Photographs of which no two are the same file, so that no answer is remembered."""
    folder = Path(sklearn.datasets.__file__).parent / "images"
    contents = [(folder / name).read_bytes() for name in PHOTOGRAPHS]
    number = 0
    while True:
        number += 1
        which = number % len(contents)
        yield PHOTOGRAPHS[which], contents[which] + number.to_bytes(8, "big")


class Load:
    """What happened to all visitors."""

    def __init__(self, address: str, second: str) -> None:
        self.address, self.second = address, second
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.errors: list[str] = []
        self._photographs = photographs()

    async def visit(self, seed: int, end: float) -> None:
        """A visitor who does all that `steps` has, thinks in between, leaves and comes again."""
        chance = random.Random(seed)  # noqa: S311
        await asyncio.sleep(chance.uniform(0, THINKING[1]))
        try:
            while True:
                began = time.perf_counter()
                async with Visitor(self.address) as visitor:
                    for name, step in self.steps(visitor):
                        wanted, found = await step()
                        self.seconds[name].append(time.perf_counter() - began)
                        if not wanted(found.text):
                            self.errors.append(f"{name}: {found.text[-300:]}")
                        await asyncio.sleep(chance.uniform(*THINKING))
                        if time.monotonic() > end:
                            return
                        began = time.perf_counter()
        except (VisitError, OSError, requests.RequestException) as error:
            self.errors.append(f"{type(error).__name__}: {error}")

    def steps(self, visitor: Visitor):
        def verdicts(count):
            return lambda text: text.count('class="verdict"') == count

        def cards(text):
            return text.count("<details>") == 48

        async def opened():
            return (lambda text: "Something went wrong" not in text), await visitor.go()

        async def uploaded():
            photograph = next(self._photographs)
            return verdicts(1), await visitor.upload(UPLOADER, photograph)

        async def compared():
            return verdicts(2), await visitor.select("Compare with", self.second)

        async def browsed():
            return cards, await visitor.go("test")

        async def filtered():
            return cards, await visitor.select("Show", "mistakes")

        async def turned():
            return cards, await visitor.turn_to(2)

        yield "connect and open the view of photographs", opened
        yield "upload a photograph and read the answer", uploaded
        yield "have a second model answer it, too", compared
        yield "open the test split", browsed
        yield "show the mistakes alone", filtered
        yield "turn to the second page", turned


async def run(load: Load, users: int, seconds: float) -> None:
    async with Visitor(load.address) as first:  # what loads once is loaded
        await first.go()
        await first.upload(UPLOADER, next(photographs()))
        await first.select("Compare with", load.second)
        await first.go("test")
    end = time.monotonic() + seconds
    await asyncio.gather(*(load.visit(seed, end) for seed in range(users)))


async def attack(address: str, server: psutil.Process) -> list[tuple[str, float, float, str]]:
    """Name, seconds, MB that the server grew by, and what was said, for each hostile file."""
    async with Visitor(address) as first:
        await first.go()
        await first.upload(UPLOADER, next(photographs()))
    rows = []
    clear = Path(f"/proc/{server.pid}/clear_refs")
    for name, make in (REFUSED | READABLE).items():
        content = make()
        async with Visitor(address) as visitor:
            await visitor.go()
            clear.write_text("5")  # the largest size that it has had so far is forgotten
            before = server.memory_info().rss
            began = time.perf_counter()
            try:
                seen = await visitor.upload(UPLOADER, (name, content))
                said = SENTENCE.findall(seen.text)
                told = said[0] if said else "answered"
            except VisitError as error:
                told = f"{error}; the browser says so before it is sent"
            took = time.perf_counter() - began
            status = Path(f"/proc/{server.pid}/status").read_text()
            peak = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024
            rows.append((name, took, max(0, peak - before) / 1e6, told))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    home = Workspace.current()
    first = choose_model(home, None).name
    second = next(name for name in exported_models(home) if name != first)
    with serving() as (address, server):
        load, load_before = Load(address, second), os.getloadavg()[0]
        idle = server.memory_info().rss / 1e6
        began = time.monotonic(), sum(server.cpu_times()[:2])
        asyncio.run(run(load, arguments.users, arguments.seconds))
        wall, busy = time.monotonic() - began[0], sum(server.cpu_times()[:2]) - began[1]
        full = server.memory_info().rss / 1e6
    with serving() as (address, server):
        hostile = asyncio.run(attack(address, server))
    print(
        f"""# The page: many visitors, and hostile ones

`python -m benchmarks.app --users {arguments.users} --seconds {arguments.seconds:g}`; \
{describe()}, streamlit {version("streamlit")}, onnxruntime {version("onnxruntime")}.
The models {first} and {second}. The load average of the minute before was {load_before:.1f}.

## {arguments.users} visitors for {arguments.seconds:g} seconds

A visitor is a client of Streamlit's own messages (benchmarks/visitor.py) on the same machine: it
opens the WebSocket, uploads over HTTP and waits until the page's script has finished and all that
is shown has arrived. It draws nothing and fetches no scripts. Each visitor goes through the table
from top to bottom, thinks for {THINKING[0]:g} to {THINKING[1]:g} seconds after each line, leaves,
and comes again. No photograph is sent twice.
A line is an error if the answer is not what it should be, or takes more than 30 seconds.

{sum(map(len, load.seconds.values()))} actions, {len(load.errors)} errors.

| seconds until the answer is there | n | median | 95 of 100 | longest |
|---|---|---|---|---|"""
    )
    for name, values in load.seconds.items():
        numbers = np.array(values)
        print(
            f"| {name} | {len(values)} | {np.median(numbers):.2f} | "
            f"{np.quantile(numbers, 0.95):.2f} | {numbers.max():.2f} |"
        )
    for error in load.errors[:10]:
        print(f"\n    {error}")
    print(
        f"""
The server had {idle:.0f} MB when nobody had come, and {full:.0f} MB afterwards; it kept \
{busy / wall:.1f} cores busy.

## Hostile files

Each is sent by a visitor of its own, after a photograph that all is loaded for. Seconds are from
the first byte until the page has said it. Memory is what the server's process grew by at most, with
the file itself, which the server keeps while the page is open.

| file | seconds | MB | what is said |
|---|---|---|---|"""
    )
    for name, took, grown, told in hostile:
        print(f"| `{name}` | {took:.2f} | {grown:.0f} | {told} |")


if __name__ == "__main__":
    main()
