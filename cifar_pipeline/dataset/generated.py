"""A generated stand-in for CIFAR-100: 100 learnable classes in 20 superclasses.

It serves the `smoke` profile, tests and CI. No step ever uses it in place of a failed download.
"""

import io
import json
import pickle
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq

from cifar_pipeline.dataset.packed import write_archive
from cifar_pipeline.dataset.table import COARSE, FINE, SHAPE

FINE_PER_COARSE = FINE // COARSE
SIZE = SHAPE[0]
AT_ONCE = 1000
"""Images that are computed at a time, in 8 bytes a value."""

# The pickler that is written in Python: the one in C cannot be told how to write bytes.
_PythonPickler: Any = pickle._Pickler  # type: ignore[attr-defined]


class _Legacy(_PythonPickler):
    """Writes protocol 2 as Python 2 and numpy 1 did.

    The code that reads these pickles is then the code that reads upstream's.
    """

    dispatch = _PythonPickler.dispatch.copy()

    def save_bytes(self, value: bytes) -> None:
        short = len(value) < 256
        size = len(value).to_bytes(1 if short else 4, "little")
        self.write((pickle.SHORT_BINSTRING if short else pickle.BINSTRING) + size + value)
        self.memoize(value)

    dispatch[bytes] = save_bytes

    def reducer_override(self, value: Any) -> Any:
        match value:
            case np.ndarray():
                state = (1, value.shape, value.dtype, False, value.tobytes())
                return _reconstruct, (np.ndarray, (0,), b"b"), state
            case np.dtype():
                return (
                    np.dtype,
                    (value.str[1:].encode(), 0, 1),
                    (3, b"|", None, None, None, -1, -1, 0),
                )
        return NotImplemented

    def save_global(self, value: Any, name: str | None = None) -> None:
        names = {
            _reconstruct: b"numpy.core.multiarray\n_reconstruct\n",
            np.ndarray: b"numpy\nndarray\n",
            np.dtype: b"numpy\ndtype\n",
        }
        self.write(pickle.GLOBAL + names[value])
        self.memoize(value)

    dispatch[type] = save_global
    dispatch[type(lambda: None)] = save_global


def _reconstruct() -> None:
    """Stands for numpy's function of that name while a pickle is written."""


def legacy_pickle(value: Any) -> bytes:
    """`value` (dicts, lists, bytes, ints, uint8 arrays) as a Python 2 protocol-2 pickle."""
    buffer = io.BytesIO()
    _Legacy(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def class_names() -> tuple[list[str], list[str]]:
    """(100 fine names, 20 coarse names).

    Fine class `f` belongs to coarse class `f % 20`, so that the hierarchy is not trivial.
    """
    fine = [f"generated_{label:02d}" for label in range(FINE)]
    return fine, [f"generated_group_{label:02d}" for label in range(COARSE)]


def is_generated(table: Path) -> bool:
    """Whether the images of a table are from here: the classes then have our names.

    The table says so itself, because the active profile may ask for another source than the one it
    was made from.
    """
    names = (pq.read_schema(table).metadata or {}).get(b"fine_names", b"")
    return cast(bool, names.decode() == json.dumps(class_names()[0]))


def images(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 32, 32, 3) uint8 images of stripes.

    Their two colours tell the superclass, and their direction the class within it.
    """
    angle = np.pi * (labels // COARSE) / FINE_PER_COARSE + rng.normal(0, 0.05, len(labels))
    phase = rng.uniform(0, 2 * np.pi, len(labels))
    found = np.empty((len(labels), *SHAPE), np.uint8)
    for start in range(0, len(labels), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        pixels = _stripes(labels[part] % COARSE, angle[part], phase[part])
        found[part] = (pixels + rng.normal(0, 0.03, pixels.shape)).clip(0, 1) * 255
    return found


def _stripes(coarse: np.ndarray, angle: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """(N, 32, 32, 3) from 0 to 1"""
    grid = np.linspace(-1, 1, SIZE)
    wave = np.cos(angle)[:, None, None] * grid[:, None] + np.sin(angle)[:, None, None] * grid
    stripes = (0.5 + 0.5 * np.sin(9 * wave + phase[:, None, None]))[..., None]
    light, dark = (
        _colour(coarse // 4, 5)[:, None, None],
        0.5 * _colour(coarse % 4, 4)[:, None, None],
    )
    return cast(np.ndarray, stripes * light + (1 - stripes) * dark)


def _colour(index: np.ndarray, count: int) -> np.ndarray:
    """(N, 3) colours between 0 and 1, each one of `count` evenly spaced hues."""
    hue = 2 * np.pi * index[:, None] / count + np.array([0, 2 * np.pi / 3, 4 * np.pi / 3])
    return cast(np.ndarray, 0.5 + 0.45 * np.cos(hue))


def members(train_per_class: int, test_per_class: int, seed: int) -> dict[str, dict[bytes, Any]]:
    """The content of the archive's members `train`, `test` and `meta`, before pickling."""
    rng = np.random.default_rng(seed)
    fine_names, coarse_names = class_names()
    content: dict[str, dict[bytes, Any]] = {
        "meta": {
            b"fine_label_names": [name.encode() for name in fine_names],
            b"coarse_label_names": [name.encode() for name in coarse_names],
        }
    }
    for split, per_class in (("train", train_per_class), ("test", test_per_class)):
        fine = rng.permutation(np.repeat(np.arange(FINE), per_class))
        content[split] = {
            b"filenames": [
                f"{fine_names[label]}_s_{row:06d}.png".encode() for row, label in enumerate(fine)
            ],
            b"batch_label": b"generated " + split.encode(),
            b"fine_labels": [int(label) for label in fine],
            b"coarse_labels": [int(label) % COARSE for label in fine],
            b"data": images(fine, rng).transpose(0, 3, 1, 2).reshape(len(fine), -1),
        }
    return content


def generate_archive(target: Path, *, train_per_class: int, test_per_class: int, seed: int) -> None:
    """Write a generated archive to `target`; the same arguments give the same bytes."""
    content = members(train_per_class, test_per_class, seed)
    write_archive(target, {name: legacy_pickle(member) for name, member in content.items()})
