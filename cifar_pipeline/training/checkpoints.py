"""What a training that was killed goes on from: everything that the next epoch depends on, whole or not at all.

One folder an epoch, the last two kept, and the best weights that they name. A folder that was cut short, or that belongs
to another recipe or input, is passed over.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cifar_pipeline.artifacts import file_digest, replacing_file, replacing_folder, write_json
from cifar_pipeline.training.progress import EpochRecord, best_of

KEPT = 2
STATE, ABOUT = "state.npz", "checkpoint.json"


@dataclass(frozen=True)
class Checkpoint:
    """A training after an epoch."""

    history: list[EpochRecord]
    finished: bool
    """no epoch is left, or early stopping ended it"""
    best: Path
    """the weights that `best_of` its history names"""
    state: list[np.ndarray]
    """values of `state_variables`, in their order"""


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: theirs alone; created.
        identity: of recipe and inputs; checkpoints of another one are not used.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity

    def save(self, model: keras.Model, history: list[EpochRecord], *, finished: bool) -> None:
        """Write the checkpoint of the last epoch in `history`, whose best weights are saved already, and remove the oldest."""
        best = self.best_path(best_of(history).epoch)
        with replacing_folder(self._folder / f"epoch-{len(history):04}") as new:
            np.savez(new / STATE, *[keras.ops.convert_to_numpy(variable) for variable in state_variables(model)])
            about = {
                "identity": self._identity,
                "finished": finished,
                "history": [asdict(record) for record in history],
                "best": best.name,
                "sha256": {name: file_digest(path, "sha256") for name, path in (("best", best), ("state", new / STATE))},
            }
            write_json(new / ABOUT, about)
        self._prune()

    def save_best(self, model: keras.Model, epoch: int) -> None:
        """Write the weights that are the best so far; `save` refers to them."""
        with replacing_file(self.best_path(epoch)) as temporary:
            model.save_weights(temporary)

    def best_path(self, epoch: int) -> Path:
        return self._folder / f"best-{epoch:04}.weights.h5"

    def load(self) -> Checkpoint | None:
        """The latest checkpoint that is whole and of this identity."""
        for folder in self._epochs():
            try:
                about = json.loads((folder / ABOUT).read_text())
                best = self._folder / about["best"]
                digests = {"best": file_digest(best, "sha256"), "state": file_digest(folder / STATE, "sha256")}
            except (OSError, ValueError, KeyError):
                continue
            if about["identity"] == self._identity and about["sha256"] == digests:
                with np.load(folder / STATE) as arrays:
                    state = [arrays[f"arr_{index}"] for index in range(len(arrays))]
                return Checkpoint([EpochRecord(**row) for row in about["history"]], about["finished"], best, state)
        return None

    def remove(self) -> None:
        """Remove all of them: what they led to is saved."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _epochs(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*"), reverse=True)

    def _prune(self) -> None:
        folders = self._epochs()
        for folder in folders[KEPT:]:
            shutil.rmtree(folder)
        named = {json.loads((folder / ABOUT).read_text())["best"] for folder in folders[:KEPT]}
        for path in self._folder.glob("best-*"):
            if path.name not in named:
                path.unlink()


def state_variables(model: keras.Model) -> list[Any]:
    """Weights, BatchNorm statistics, dropout's random states; the optimiser's step, learning rate, moments and averages."""
    return [*model.variables, *model.optimizer.variables]


def restore(model: keras.Model, state: list[np.ndarray]) -> None:
    """Put a checkpoint's state into a compiled model of the same recipe."""
    for variable, value in zip(state_variables(model), state, strict=True):
        variable.assign(value)
