"""What trackers cost a training: the time of its hook in each epoch, and the wait at its end.

python -m benchmarks.tracking > benchmarks/results/tracking.md

The trackers are MLflow's own local store, Weights & Biases' offline files, and a server that
speaks MLflow's interface (tests/tracking/server.py), hangs, or is not there. Each epoch tells 20
figures and sends weights of 17 MB, about EfficientNet-B0's. Nothing is trained in between, which
would only make the hook's share smaller.
"""

import os
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environment import describe, spread
from cifar_pipeline.tracking.events import Begun, Ended, Model, Row
from cifar_pipeline.tracking.outbox import About, Outbox
from cifar_pipeline.tracking.session import Session
from tests.tracking.server import Server

ROUNDS, EPOCHS, EACH_S, WAIT_S = 5, 8, 0.5, 10.0
WEIGHTS = 17_000_000
FIGURES = {f"figure{number}": 0.5 for number in range(20)}


def main() -> None:
    working, hanging = Server(), Server()
    hanging.behaviour = "hangs"
    trackers: dict[str, dict[str, dict[str, Any]]] = {
        "none": {},
        "MLflow, local": {"mlflow": {"store": "local", "experiment": "e"}},
        "W&B, offline": {"wandb": {"mode": "offline", "project": "p", "entity": None}},
        "MLflow, a server": {"mlflow": {"store": working.address, "experiment": "e"}},
        "MLflow, hangs": {"mlflow": {"store": hanging.address, "experiment": "e"}},
        "MLflow, refuses": {"mlflow": {"store": "http://127.0.0.1:9", "experiment": "e"}},
    }
    results: dict[str, list[tuple[list[float], float, str]]] = {name: [] for name in trackers}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            for name, settings in trackers.items():
                results[name].append(measured(Path(folder), f"{number}-{name}", settings))
    releases = ", ".join(f"{name} {version(name)}" for name in ("mlflow-skinny", "wandb"))
    print(f"# What trackers cost\n\n`{__doc__.splitlines()[2]}`; {describe()}, {releases}.")
    print(
        f"n = {ROUNDS} interleaved rounds of {EPOCHS} epochs, {EACH_S} s apart; median (range). "
        f"The wait at the\nend is limited to {WAIT_S:.0f} s, and two more for a process to end.\n"
    )
    print("| tracker | hook, ms an epoch | wait at the end, s | has |\n|---|---|---|---|")
    for name, rounds in results.items():
        hooks = [1000 * seconds for each, _, _ in rounds for seconds in each]
        waits = [wait for _, wait, _ in rounds]
        delivered = ", ".join(sorted({has for _, _, has in rounds}))
        print(f"| {name} | {spread(hooks)} | {spread(waits)} | {delivered} |")


def measured(
    folder: Path, key: str, settings: dict[str, dict[str, Any]]
) -> tuple[list[float], float, str]:
    """Seconds of the hook in each epoch, those of the wait, and how many events the tracker has."""
    key = "".join(letter for letter in key.lower() if letter.isalnum())
    about = About(key, "model", "m", "smoke", settings)
    session = Session(Outbox.create(folder / "runs", about), WAIT_S, lambda line: None)
    session.add(Begun("m", FIGURES))
    hooks = []
    for epoch in range(1, EPOCHS + 1):
        time.sleep(EACH_S)
        name = f"best-{epoch:04}.weights.h5"
        (folder / name).write_bytes(os.urandom(WEIGHTS))
        began = time.perf_counter()
        session.add(Row(epoch, FIGURES))
        session.add(Model(f"epoch-{epoch:04}", (name,), {"epoch": epoch}), folder)
        hooks.append(time.perf_counter() - began)
        (folder / name).unlink()
    session.add(Ended("finished"))
    began = time.perf_counter()
    session.close()
    waited = time.perf_counter() - began
    total = len(session.outbox.events())
    has = [f"{total - waiting} of {total}" for waiting in session.outbox.waiting().values()]
    return hooks, waited, "".join(has) or "nothing"


if __name__ == "__main__":
    main()
