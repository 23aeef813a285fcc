"""What the doors cost: from a command to the first asset, an asset's overhead, and doing nothing.

python -m benchmarks.orchestration > benchmarks/results/orchestration.md

Everything runs in a copy of the checkout under `smoke`, with one recipe. Other work on the cores
stretches the time on the clock, so processor time stands beside it: that of every process of the
command's session.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import dagster as dg
import psutil

from benchmarks.environment import describe, spread
from tests.workspaces import DVC, JOB, Copy

MODEL = "cnn9"
CIFAR = (sys.executable, "-m", "cifar_pipeline")
NOTES = """\
Dagster's own are its import, in each of the two processes that load the definitions, the opening of
its instance with SQLAlchemy and Alembic, and a transaction for each event. DVC's own is most of
`dvc commit`, one an asset, and of `dvc status`. Ours is reading the settings and the code for the
plan, in each process that loads the definitions.

Between the run's start and the step's process, the server that steps are forked from imports the
definitions. It does so once a run: a later step begins within about a second. Between an asset's
body and what it made lie the asset's work, its checks and `dvc commit`.
"""
Measured = dict[str, float]
PARTS = ("run", "process", "asset", "made", "end")
"""Seconds on the clock from the command to the run's start, from there to the first step's process,
to the asset's body, to what it made, and to the command's end."""


class ProcessorTime:
    """Seconds that the processes of a session have used, seen every twentieth of a second."""

    def __init__(self, session: int) -> None:
        self._session, self._seen, self._ended = session, dict[int, float](), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            for process in psutil.process_iter():
                try:
                    if os.getsid(process.pid) == self._session:
                        used = process.cpu_times()
                        self._seen[process.pid] = used.user + used.system
                except (OSError, psutil.Error):
                    pass  # it has ended

    def end(self) -> float:
        self._ended.set()
        self._thread.join()
        return sum(self._seen.values())


def timed(copy: Copy, command: Sequence[str]) -> Measured:
    """Seconds on the clock and of the processor that a command takes."""
    begin = time.time()
    with subprocess.Popen(
        command,
        cwd=copy.root,
        env=copy.environment | {"PYTHONWARNINGS": "ignore:Function"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        processor = ProcessorTime(process.pid)
        if process.wait():
            raise RuntimeError(f"{' '.join(command)} failed")
        end = time.time()
    return {"begin": begin, "stop": end, "clock": end - begin, "cpu": processor.end()}


def events(copy: Copy) -> tuple[float, list[tuple[str, float, str]]]:
    """When the last run was made, and its events: kind, time and step."""
    with dg.DagsterInstance.from_config(str(copy.root / "dagster_home")) as instance:
        record = instance.get_run_records(limit=1)[0]
        found = [
            (entry.dagster_event.event_type_value, entry.timestamp, entry.step_key or "")
            for entry in instance.all_logs(record.dagster_run.run_id)
            if entry.dagster_event
        ]
    return record.create_timestamp.timestamp(), found


def parts_of(measured: Measured, copy: Copy) -> Measured:
    """The time on the clock by `PARTS`, for a command whose run has one step."""
    at: dict[str, float] = {}
    for kind, moment, _ in events(copy)[1]:
        at.setdefault(kind, moment)
    moments = [
        measured["begin"],
        at["PIPELINE_START"],
        at["STEP_WORKER_STARTED"],
        at["STEP_START"],
        at["STEP_SUCCESS"],
        measured["stop"],
    ]
    lengths = [after - before for before, after in pairwise(moments)]
    return measured | dict(zip(PARTS, lengths, strict=True))


def of_the_graph(copy: Copy) -> Measured:
    """`cifar run --force`: as a whole, to the first asset, and until a later one begins."""
    measured = timed(copy, [*CIFAR, "run", "--force"])
    _, found = events(copy)
    moments = {
        kind: {step: at for each, at, step in found if each == kind}
        for kind in ("STEP_WORKER_STARTING", "STEP_START")
    }
    starts = [at - moments["STEP_WORKER_STARTING"][s] for s, at in moments["STEP_START"].items()]
    first = min(moments["STEP_START"].values()) - measured["begin"]
    later = median(starts[1:])
    return measured | {"asset": first, "steps": len(starts), "fork": later}


def python(*lines: str) -> list[str]:
    return [sys.executable, "-c", "; ".join(lines)]


COMMANDS: dict[str, list[str]] = {
    "Python, an empty program (Python's own)": python("pass"),
    "`import dagster` (Dagster's own)": python("import dagster"),
    "`cifar plan`: reading settings and code, without Dagster": [*CIFAR, "plan"],
    "loading the code location": python("import cifar_pipeline.definitions"),
    "`import dvc.repo` (DVC's own)": [str(Path(DVC).parent / "python"), "-c", "import dvc.repo"],
    "`dvc commit -f splits`, unchanged": [DVC, "commit", "--force", "splits"],
    "`dvc status`, all up to date (DVC's own)": [DVC, "status"],
    "`dvc repro`, all up to date": [DVC, "repro"],
    "`cifar status`, all up to date": [*CIFAR, "status"],
    "`cifar run`, all up to date": [*CIFAR, "run"],
}
DOORS: dict[str, list[str]] = {
    "`dagster job execute -j splits_job`": [*JOB, "splits_job"],
    "`cifar materialize splits`, as `cifar run` does it": [*CIFAR, "materialize", "splits"],
    "`dvc repro -s -f splits`": [DVC, "repro", "--single-item", "--force", "splits"],
}


def cells(found: list[Measured], keys: Sequence[str]) -> str:
    return " | ".join(spread([each[key] for each in found]) for key in keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=3)
    arguments = parser.parse_args()
    n = arguments.n
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(Path(folder), models=[MODEL])
        graph = [of_the_graph(copy) for _ in range(n)]
        print("# The cost of orchestration\n")
        print("`python -m benchmarks.orchestration > benchmarks/results/orchestration.md`;")
        print(f"{describe()}.")
        print(
            f"The profile `smoke` with `{MODEL}`; median (range) of n = {n}. Other work shared the"
        )
        print(
            "cores and stretched the time on the clock; the processor time is the commands' own.\n"
        )
        print("| command | processor s | s on the clock |\n|---|---|---|")
        for what, command in COMMANDS.items():
            found = [timed(copy, command) for _ in range(n)]
            print(f"| {what} | {cells(found, ('cpu', 'clock'))} |", flush=True)
        print("\nOne asset, the splits, by each door; the parts are seconds on the clock.\n")
        print(
            "| door | processor s | in all | to the run's start | to the step's process "
            "| to the asset's body | to what it made | to the end |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for what, command in DOORS.items():
            found = [parts_of(timed(copy, command), copy) for _ in range(n)]
            print(f"| {what} | {cells(found, ('cpu', 'clock', *PARTS))} |", flush=True)
        print(f"\nThe whole graph, `cifar run --force`: {graph[0]['steps']:.0f} assets.\n")
        print(
            "| processor s | s on the clock | to the first asset's body "
            "| to a later asset's body, from when it is its turn |\n|---|---|---|---|"
        )
        print(f"| {cells(graph, ('cpu', 'clock', 'asset', 'fork'))} |")
        print(f"\n{NOTES}", end="")


if __name__ == "__main__":
    main()
