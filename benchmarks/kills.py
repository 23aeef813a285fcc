"""Kills at random moments: what the next command makes of them.

python -m benchmarks.kills --n 200 --work FOLDER > benchmarks/results/kills.md

A clone of the checkout trains the nine-layer CNN on generated images. In each round one of its
processes, or all of them, get a signal at a random moment; then nobody does anything until no run
is unfinished and no slot is held, and the command is typed again. The weights must be those of a
training that nobody disturbed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import dagster as dg
import numpy as np
import psutil

from benchmarks.environment import describe
from cifar_pipeline.artifacts import file_digest
from cifar_pipeline.defs.executors import POOL
from cifar_pipeline.defs.runs import UNFINISHED
from cifar_pipeline.graph.versioning import dvc_command
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import select_models, select_profile

MODEL = "cnn9"
EPOCHS = 30
WITHIN_S = 60
"""By then a killed run must be marked, its slot free and its processes gone."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)
VICTIMS = ("the command", "the run", "the step", "the group")


class Clone:
    """A clone of the checkout with data, and its three doors."""

    def __init__(self, root: Path) -> None:
        self.home = Workspace(root)
        if not root.exists():
            subprocess.run(("git", "clone", "--quiet", Workspace.current().root, root), check=True)
            select_profile(self.home.params, "smoke")
            select_models(self.home.params, [MODEL])
            recipe = root / "recipes" / f"{MODEL}.yaml"
            text = recipe.read_text(encoding="utf-8")
            start = text.index("\nsmoke:")
            longer = text[start:].replace("epochs: 6", f"epochs: {EPOCHS}", 1)
            recipe.write_text(text[:start] + longer, encoding="utf-8")
        self.doors = {
            "dagster": (
                *(sys.executable, "-m", "dagster", "job", "execute"),
                *("-m", "cifar_pipeline.definitions", "-j", f"model_{MODEL}_job"),
            ),
            "cifar": (sys.executable, "-m", "cifar_pipeline", "run", "--model", MODEL),
            "dvc": (dvc_command(), "repro", "--force", "--single-item", f"model@{MODEL}"),
        }
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CIFAR_")},
            "DAGSTER_HOME": str(self.home.dagster_home),
            "PYTHONPATH": str(root),
            "CIFAR_DVC": dvc_command(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }

    def start(self, door: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("wb") as output:
            return subprocess.Popen(
                self.doors[door],
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

    def forget_model(self) -> None:
        shutil.rmtree(self.home.model(MODEL), ignore_errors=True)
        shutil.rmtree(self.home.data / "checkpoints", ignore_errors=True)

    def weights(self) -> str:
        path = self.home.model(MODEL) / "model.keras"
        return file_digest(path, "sha256") if path.is_file() else "none"

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


def kill(clone: Clone, command: subprocess.Popen[bytes], victim: str, number: int) -> bool:
    """Send a signal; False if there is no such process at this moment."""
    below = [process for process in clone.processes() if process.pid != command.pid]
    if victim == "the group":
        os.killpg(command.pid, number)
        return True
    chosen: list[psutil.Process] = []
    for process in below:
        with suppress(psutil.Error):
            words = " ".join(process.cmdline())
            is_run = "materialize" in words or "job execute" in words
            is_step = "forkserver" in words and bool(process.children())
            if (victim == "the run" and is_run) or (victim == "the step" and is_step):
                chosen.append(process)
    if victim == "the command" or (victim == "the run" and not chosen):
        chosen = [psutil.Process(command.pid)]
    for process in chosen[-1:]:
        with suppress(psutil.Error):
            process.send_signal(number)
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    clone = Clone(arguments.work.resolve())
    draw, log = np.random.default_rng(arguments.seed), arguments.work.parent / "kills.log"
    started = time.monotonic()
    clone.start("cifar", log).wait()
    clone.forget_model()
    began = time.monotonic()
    clone.start("dagster", log).wait()
    undisturbed, longest = clone.weights(), time.monotonic() - began

    outcomes: dict[tuple[str, str, str], Counter[str]] = {}
    slowest = 0.0
    for round_ in range(arguments.n):
        door = list(clone.doors)[draw.integers(len(clone.doors))]
        victim = VICTIMS[draw.integers(len(VICTIMS))]
        number = SIGNALS[draw.integers(len(SIGNALS))]
        clone.forget_model()
        command = clone.start(door, log)
        time.sleep(draw.uniform(0.5, longest))
        counter = outcomes.setdefault((door, victim, number.name), Counter())
        if command.poll() is not None or not kill(clone, command, victim, number):
            counter["too late"] += 1
            command.wait()
            continue
        struck = time.monotonic()
        command.wait()
        while not (quiet := clone.is_quiet()) and time.monotonic() - struck < WITHIN_S:
            time.sleep(0.5)
        slowest = max(slowest, time.monotonic() - struck)
        try:
            ended = clone.start(door, log).wait(timeout=600)
        except subprocess.TimeoutExpired:
            ended = -1
        good = quiet and ended == 0 and clone.weights() == undisturbed
        counter["well" if good else "not well"] += 1
        print(round_, door, victim, number.name, quiet, ended, good, file=sys.stderr, flush=True)
        if not good:
            log.rename(log.with_name(f"kills-{round_}.log"))

    total = sum(outcomes.values(), Counter[str]())
    print("# Kills\n")
    print(f"`python -m benchmarks.kills --n {arguments.n} --seed {arguments.seed}`; {describe()}.")
    print(
        f"n = {total['well'] + total['not well']} kills in {(time.monotonic() - started) / 60:.0f} "
        f"min, and {total['too late']} signals that found nothing to kill. After a kill nothing"
    )
    print(
        f"was left within {slowest:.0f} s at most (limit {WITHIN_S} s). *Well* means: that, the "
        "same command typed again ended, and with the weights of an undisturbed training.\n"
    )
    print("| door | what was killed | signal | kills | well |\n|---|---|---|---|---|")
    for (door, victim, name), counter in sorted(outcomes.items()):
        if kills := counter["well"] + counter["not well"]:
            print(f"| {door} | {victim} | {name} | {kills} | {counter['well']} |")


if __name__ == "__main__":
    main()
