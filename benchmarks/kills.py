"""Kills at random moments: what the next command makes of them.

python -m benchmarks.kills --n 200 --work FOLDER > benchmarks/results/kills.md

A clone of the checkout trains the nine-layer CNN, and searches, on generated images. In each
series one command is typed again and again. All but the last time one of its processes, or its
whole group, gets a signal at a random moment; then nobody does anything until no run is unfinished,
no slot is held and no process is left. The last time nobody disturbs it, and it must end with what
an undisturbed command makes. Every series is kept in FOLDER, so that the campaign goes on from
there when it was itself interrupted.
"""

import argparse
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import psutil

from benchmarks.environment import describe
from cifar_pipeline.artifacts import file_digest
from cifar_pipeline.defs.executors import POOL
from cifar_pipeline.defs.runs import UNFINISHED
from cifar_pipeline.graph.versioning import dvc_command
from cifar_pipeline.paths import Workspace
from cifar_pipeline.provenance import code_revision
from cifar_pipeline.settings.editing import select_models, select_profile, select_searches

MODEL, SEARCH = "cnn9", "custom_search"
EPOCHS = 30
WITHIN_S = 60
"""By then a killed run must be marked, its slot free and its processes gone."""
KILLS_OF_A_SERIES = 4
"""At most. A command that ends before its kill ends the series."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
VICTIMS = ("the command", "the run", "the server of steps", "the step", "the group")
CLONE, SERIES = "clone", "series.jsonl"


@dataclass(frozen=True)
class Kill:
    """One kill, and what was left a while after it."""

    victim: str
    signal: str
    quiet_after_s: float | None
    """until no run, slot or process was left; None: not within `WITHIN_S`"""


@dataclass(frozen=True)
class Series:
    """The kills of one command, and what it made in the end."""

    made: str
    door: str
    revision: str
    kills: list[Kill]
    ended: int
    """the command's exit status"""
    equal: bool
    """whether it made what an undisturbed one makes"""

    @property
    def well(self) -> bool:
        quiet = all(kill.quiet_after_s is not None for kill in self.kills)
        return quiet and self.ended == 0 and self.equal


class Clone:
    """A clone of the checkout with data, and its three doors."""

    def __init__(self, root: Path) -> None:
        self.home = Workspace(root)
        if not root.exists():
            subprocess.run(("git", "clone", "--quiet", Workspace.current().root, root), check=True)
            select_profile(self.home.params, "smoke")
            select_models(self.home.params, [MODEL])
            select_searches(self.home.params, [SEARCH])
            recipe = root / "recipes" / f"{MODEL}.yaml"
            text = recipe.read_text(encoding="utf-8")
            start = text.index("\nsmoke:")
            longer = text[start:].replace("epochs: 6", f"epochs: {EPOCHS}", 1)
            recipe.write_text(text[:start] + longer, encoding="utf-8")
        python = (sys.executable, "-m")
        job = (*python, "dagster", "job", "execute", "-m", "cifar_pipeline.definitions")
        cifar = (*python, "cifar_pipeline")
        repro = (dvc_command(), "repro", "--force", "--single-item")
        self.commands: dict[tuple[str, str], tuple[str, ...]] = {
            ("model", "dagster"): (*job, "-j", f"model_{MODEL}_job"),
            ("model", "cifar"): (*cifar, "run", "--model", MODEL, "--only"),
            ("model", "dvc"): (*repro, f"model@{MODEL}"),
            ("search", "dagster"): (*job, "-j", f"search_{SEARCH}_job"),
            ("search", "cifar"): (*cifar, "search", SEARCH),
            ("search", "dvc"): (*repro, f"search@{SEARCH}"),
        }
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CIFAR_")},
            "DAGSTER_HOME": str(self.home.dagster_home),
            "PYTHONPATH": str(root),
            "CIFAR_DVC": dvc_command(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self, made: str, door: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                self.commands[made, door],
                cwd=self.home.root,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def processes(self) -> list[psutil.Process]:
        """All that belong to a run of this clone, watchers left out."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                home = process.environ().get("DAGSTER_HOME")
                if home == str(self.home.dagster_home) and "watcher" not in str(process.cmdline()):
                    found.append(process)
        return found

    def forget(self, made: str) -> None:
        """Remove what the command makes, and what it would go on from."""
        place = self.home.model(MODEL) if made == "model" else self.home.search(SEARCH)
        shutil.rmtree(place, ignore_errors=True)
        shutil.rmtree(self.home.data / "checkpoints", ignore_errors=True)

    def made(self, made: str) -> str:
        """What the command made: the digest of the weights; the trials and the winner."""
        if made == "model":
            path = self.home.model(MODEL) / "model.keras"
            return file_digest(path, "sha256") if path.is_file() else "none"
        folder = self.home.search(SEARCH)
        if not (folder / "winner.yaml").is_file():
            return "none"
        trials = pd.read_csv(folder / "trials.csv").drop(columns="seconds")
        return trials.to_csv() + (folder / "winner.yaml").read_text(encoding="utf-8")

    def is_quiet(self) -> bool:
        """No process is left, no run unfinished, no slot held and nobody waits for one."""
        if self.processes():
            return False
        with dg.DagsterInstance.from_config(str(self.home.dagster_home)) as instance:
            pool = instance.event_log_storage.get_concurrency_info(POOL)
            return not (
                instance.get_runs(dg.RunsFilter(statuses=list(UNFINISHED)))
                or pool.claimed_slots
                or pool.pending_steps
            )

    def seconds_until_quiet(self) -> float | None:
        """None: not within `WITHIN_S`."""
        began = time.monotonic()
        while not self.is_quiet():
            if time.monotonic() - began > WITHIN_S:
                return None
            time.sleep(0.5)
        return time.monotonic() - began


def kill(clone: Clone, command: subprocess.Popen[bytes], victim: str, number: int) -> bool:
    """Send a signal; False if there is no such process at this moment."""
    if victim == "the group":
        os.killpg(command.pid, number)
        return True
    kinds = {process: _kind(process, command.pid) for process in clone.processes()}
    chosen = [process for process, kind in kinds.items() if kind == victim]
    if not chosen and victim == "the run":  # `dagster job execute` is its own run
        chosen = [psutil.Process(command.pid)]
    for process in chosen[-1:]:
        with suppress(psutil.Error):
            process.send_signal(number)
            return True
    return False


def _kind(process: psutil.Process, command: int) -> str:
    with suppress(psutil.Error):
        words, parent = " ".join(process.cmdline()), process.parent()
        if process.pid == command:
            return "the command"
        if "forkserver" in words:
            of_server = parent is not None and "forkserver" in " ".join(parent.cmdline())
            return "the step" if of_server else "the server of steps"
        if "materialize" in words or "job execute" in words:
            return "the run"
    return "another"


def run_series(
    clone: Clone, number: int, seed: int, undisturbed: dict[str, tuple[str, float]], log: Path
) -> Series:
    """The series of a number, whose moments, victims and signals its seed decides."""
    draw = np.random.default_rng([seed, number])
    made, door = list(clone.commands)[draw.integers(len(clone.commands))]
    expected, longest = undisturbed[made]
    clone.forget(made)
    kills: list[Kill] = []
    while True:
        command = clone.start(made, door, log)
        if len(kills) == KILLS_OF_A_SERIES:
            break
        victim, signal_ = VICTIMS[draw.integers(len(VICTIMS))], SIGNALS[draw.integers(len(SIGNALS))]
        end = time.monotonic() + draw.uniform(0.5, longest)
        while time.monotonic() < end and command.poll() is None:
            time.sleep(0.1)
        if command.poll() is not None or not kill(clone, command, victim, signal_):
            break
        command.wait()
        kills.append(Kill(victim, signal_.name, clone.seconds_until_quiet()))
    try:
        ended = command.wait(timeout=900)
    except subprocess.TimeoutExpired:
        ended = -1
    return Series(made, door, code_revision(), kills, ended, clone.made(made) == expected)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    kept, log = work / SERIES, work / "last.log"
    found = [_read(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    if _count(found) < arguments.n:
        clone = Clone(work / CLONE)
        undisturbed = {}
        clone.start("model", "cifar", log).wait()
        for made in ("model", "search"):
            clone.forget(made)
            began = time.monotonic()
            clone.start(made, "dagster", log).wait()
            undisturbed[made] = clone.made(made), time.monotonic() - began
        while _count(found) < arguments.n:
            found.append(run_series(clone, len(found), arguments.seed, undisturbed, log))
            line = json.dumps(dataclasses.asdict(found[-1]))
            with kept.open("a") as file:
                file.write(f"{line}\n")
            print(line, file=sys.stderr, flush=True)
            if not found[-1].well:
                shutil.copy(log, work / f"series-{len(found) - 1}.log")
    _print_page(found, arguments.n, arguments.seed)


def _read(line: str) -> Series:
    content = json.loads(line)
    return Series(**{**content, "kills": [Kill(**kill) for kill in content["kills"]]})


def _count(series: list[Series]) -> int:
    return sum(len(one.kills) for one in series)


def _print_page(found: list[Series], n: int, seed: int) -> None:
    seconds = [kill.quiet_after_s or WITHIN_S for one in found for kill in one.kills]
    print(f"# Kills\n\n`python -m benchmarks.kills --n {n} --seed {seed}`; {describe()}.")
    print(f"Code: {', '.join(sorted({one.revision[:12] for one in found}))}.\n")
    print(
        f"n = {len(seconds)} kills in {len(found)} series of at most {KILLS_OF_A_SERIES}. After a "
        f"kill nothing was left within {np.median(seconds):.1f} s (median; at most "
        f"{max(seconds):.1f} s, limit {WITHIN_S} s).\n*Well* means: that, after every kill of the "
        "series,\nand the command typed again ended with the weights, or the trials and the "
        "winner, of an\nundisturbed one.\n"
    )
    print(
        "| what is made | door | series | kills | series that ended well |\n|---|---|---|---|---|"
    )
    for made, door in sorted({(one.made, one.door) for one in found}):
        own = [one for one in found if (one.made, one.door) == (made, door)]
        well = sum(one.well for one in own)
        print(f"| {made} | {door} | {len(own)} | {_count(own)} | {well} |")
    print("\n| what was killed | signal | kills | nothing left in time |\n|---|---|---|---|")
    kills = [kill for one in found for kill in one.kills]
    counts = Counter((kill.victim, kill.signal) for kill in kills)
    for (victim, name), count in sorted(counts.items()):
        quiet = sum(
            kill.quiet_after_s is not None
            for kill in kills
            if (kill.victim, kill.signal) == (victim, name)
        )
        print(f"| {victim} | {name} | {count} | {quiet} |")


if __name__ == "__main__":
    main()
