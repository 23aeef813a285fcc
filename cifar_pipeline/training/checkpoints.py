"""What a killed training resumes from: everything that the next epoch depends on, whole or absent.

Each epoch has a folder, of which the last two are kept together with the best weights that they
name. A folder that was cut short, or that belongs to another recipe or input, is passed over and
removed.
"""

import json
import shutil
from collections.abc import Sequence
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
    state: list[np.ndarray]
    """values of the variables that it was saved with, in their order"""


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: holds nothing else; created if it is missing.
        identity: stands for the recipe, the inputs and whatever else must be the same. Checkpoints
            of another identity are not used.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity

    def save(self, state: Sequence[Any], history: list[EpochRecord], *, finished: bool) -> None:
        """Write the checkpoint of the last epoch in `history`, and remove the oldest one.

        The best weights must have been saved already.

        Args:
            state: Keras variables.
        """
        best = self.best_path(best_of(history).epoch)
        with replacing_folder(self._folder / f"epoch-{len(history):04}") as new:
            np.savez(new / STATE, *[keras.ops.convert_to_numpy(variable) for variable in state])
            about = {
                "identity": self._identity,
                "finished": finished,
                "history": [asdict(record) for record in history],
                "best": best.name,
                "sha256": {
                    name: file_digest(path, "sha256")
                    for name, path in (("best", best), ("state", new / STATE))
                },
            }
            write_json(new / ABOUT, about)
        kept = self._epochs()[:KEPT]
        self._keep(
            {folder.name for folder in kept}
            | {json.loads((folder / ABOUT).read_text())["best"] for folder in kept}
        )

    def save_best(self, model: keras.Model, epoch: int) -> None:
        """Write the weights that are the best so far; `save` refers to them."""
        with replacing_file(self.best_path(epoch)) as temporary:
            model.save_weights(temporary)

    def best_path(self, epoch: int) -> Path:
        return self._folder / f"best-{epoch:04}.weights.h5"

    def load(self, shapes: Sequence[tuple[int, ...]]) -> Checkpoint | None:
        """The latest checkpoint that is whole and has this identity and variables of these shapes.

        Later ones are removed.
        """
        for folder in self._epochs():
            if checkpoint := self._read(folder, shapes):
                return checkpoint
            shutil.rmtree(folder)
        self.remove()
        return None

    def remove(self) -> None:
        """Remove all of them."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self, folder: Path, shapes: Sequence[tuple[int, ...]]) -> Checkpoint | None:
        try:
            about = json.loads((folder / ABOUT).read_text())
            digests = {
                "best": file_digest(self._folder / about["best"], "sha256"),
                "state": file_digest(folder / STATE, "sha256"),
            }
            if about["identity"] != self._identity or about["sha256"] != digests:
                return None
            with np.load(folder / STATE) as arrays:
                state = [arrays[f"arr_{index}"] for index in range(len(arrays))]
            if [array.shape for array in state] != list(shapes):
                return None
            return Checkpoint(
                [EpochRecord(**row) for row in about["history"]], about["finished"], state
            )
        except (OSError, ValueError, KeyError, TypeError):  # cut short, or written by other code
            return None

    def _epochs(self) -> list[Path]:
        return sorted(self._folder.glob("epoch-*"), reverse=True)

    def _keep(self, names: set[str]) -> None:
        for path in self._folder.iterdir():  # with what a kill left half-written
            if path.name not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
