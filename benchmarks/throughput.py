"""Images a second of exported files, by batch size, beside Keras' `predict` on the same images.

It is the last part of benchmarks/serving.py.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.environment import spread
from cifar_pipeline.models.saved import load_model
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.exported import MODEL, QUANTISED, ExportedModel

ROUNDS = 5
BATCHES = (1, 8, 32, 64, 256)
IMAGES = 512
FEW = 64
"""Images at a batch of one, of which Keras answers a few dozen a second."""
KERAS = "Keras' `predict`"
Speed = tuple[float, float]
"""Images a second, and images a second of a core's time."""


def beside_keras(home: Workspace, name: str, images: np.ndarray) -> None:
    """Print a table of one model: each way in turn, round after round."""
    ways = _ways(home, name)
    images = images[:IMAGES]
    for ask in ways.values():  # whatever a first call prepares
        for batch in BATCHES:
            ask(images[:batch], batch)
    found: dict[tuple[str, int], list[Speed]] = {}
    for _ in range(ROUNDS):
        for batch in BATCHES:
            for what, ask in ways.items():
                asked = images[: FEW if batch == 1 else IMAGES]
                found.setdefault((what, batch), []).append(_speed(ask, asked, batch))
    print(f"\n### {name}\n")
    print("| batch | way | images/s | of Keras' | images/s of a core's time | of Keras' |")
    print("|---|---|---|---|---|---|")
    for (what, batch), speeds in sorted(found.items(), key=lambda item: item[0][1]):
        cells = []
        for column in range(2):
            values = [speed[column] for speed in speeds]
            keras = [speed[column] for speed in found[KERAS, batch]]
            ratios = [a / b for a, b in zip(values, keras, strict=True)]
            cells += [_whole(values), spread(ratios)]
        print(f"| {batch} | {what} | {' | '.join(cells)} |")
    best = {
        what: max(np.median([s[0] for s in found[what, batch]]) for batch in BATCHES)
        for what in ways
    }
    ratios = ", ".join(f"{what} {best[what] / best[KERAS]:.2f}" for what in list(ways)[1:])
    print(f"\nThe best batch of each, of Keras' best: {ratios}.")


def _ways(home: Workspace, name: str) -> dict[str, Callable[[np.ndarray, int], Any]]:
    model = load_model(home.model(name))

    def ask(path: Any) -> Callable[[np.ndarray, int], Any]:
        exported = ExportedModel(path)
        return lambda images, batch: list(exported.answers(images, batch))

    ways = {
        KERAS: lambda images, batch: model.predict(images, batch_size=batch, verbose=0),
        f"`{MODEL}`": ask(home.export(name) / MODEL),
    }
    if (home.export(name) / QUANTISED).is_file():
        ways[f"`{QUANTISED}`"] = ask(home.export(name) / QUANTISED)
    return ways


def _speed(ask: Callable[[np.ndarray, int], Any], images: np.ndarray, batch: int) -> Speed:
    wall, processor = time.perf_counter(), time.process_time()
    ask(images, batch)
    return (
        len(images) / (time.perf_counter() - wall),
        len(images) / (time.process_time() - processor),
    )


def _whole(values: list[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.0f} ({ordered[0]:.0f} to {ordered[-1]:.0f})"
