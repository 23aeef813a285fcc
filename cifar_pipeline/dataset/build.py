"""From the archive to the table, checking everything that the archive holds."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cifar_pipeline.artifacts import file_digest, replacing_file
from cifar_pipeline.dataset.packed import md5, read_members
from cifar_pipeline.dataset.pickles import read_pickle
from cifar_pipeline.dataset.table import (
    COARSE,
    FINE,
    IMAGE_BYTES,
    ROW_GROUP,
    SCHEMA,
    SHAPE,
    save_table,
)
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.data import UPSTREAM_MEMBERS, UPSTREAM_SHA256

REPAIR = (
    "Unset CIFAR_ARCHIVE and CIFAR_ARCHIVE_SHA256, or set them to a copy of upstream's "
    "cifar-100-python.tar.gz, and materialize `archive` again"
)


def read_archive(archive: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The content of `meta`, `train` and `test`, unpickled, and the md5 of each.

    Raises: PipelineError for an archive that is missing, cannot be read, or holds other pickles.
    """
    content: dict[str, dict[str, Any]] = {}
    checksums: dict[str, str] = {}
    try:
        for name, pickled in read_members(archive):
            checksums[name] = md5(pickled)
            content[name] = read_pickle(pickled, name)
    except FileNotFoundError:
        raise PipelineError(
            f"{archive} is missing; materialize the asset `archive` first"
        ) from None
    except OSError as error:
        raise PipelineError(
            f"{archive} cannot be read ({error.strerror or error}); make it readable"
        ) from None
    except PipelineError as error:
        raise PipelineError(f"{archive}: {error}. {REPAIR}.") from None
    return content, checksums


def build_table(archive: Path) -> pa.Table:
    """Read `archive` into a table of SCHEMA, training rows first, in the archive's order.

    Raises: PipelineError as `read_archive` does, and for shapes, counts or labels that cannot be
        CIFAR-100's.
    """
    with ThreadPoolExecutor(1) as pool:  # hashing takes a sixth of the time; use another core
        digest = pool.submit(file_digest, archive, "sha256")
        content, checksums = read_archive(archive)
    try:
        return _table(content, _identity(digest.result(), checksums))
    except PipelineError as error:
        raise PipelineError(f"{archive}: {error}. {REPAIR}.") from None


def _identity(sha256: str, checksums: dict[str, str]) -> str:
    """The archive's checksum: upstream's when it holds upstream's files, however they are packed.

    Tables of such copies are then equal, and published lists of test images fit them.
    """
    return UPSTREAM_SHA256 if checksums == UPSTREAM_MEMBERS else sha256


def _table(content: dict[str, dict[str, Any]], archive_sha256: str) -> pa.Table:
    fine_names = _names(content["meta"], "fine_label_names", FINE)
    coarse_names = _names(content["meta"], "coarse_label_names", COARSE)
    data = {name: _data(content[name], name) for name in ("train", "test")}
    sizes = {name: len(rows) for name, rows in data.items()}
    images = np.empty((sum(sizes.values()), *SHAPE), np.uint8)
    columns: dict[str, list[np.ndarray]] = {"fine_labels": [], "coarse_labels": []}
    files: list[str] = []
    for name, rows in (("train", slice(0, sizes["train"])), ("test", slice(sizes["train"], None))):
        images[rows] = data.pop(name).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for key, classes in (("fine_labels", FINE), ("coarse_labels", COARSE)):
            columns[key].append(_labels(content[name], name, key, classes, sizes[name]))
        files += _file_names(content[name], name, sizes[name])
        del content[name]["data"]
    fine, coarse = (np.concatenate(columns[key]) for key in ("fine_labels", "coarse_labels"))
    split = np.repeat(np.array([0, 1], np.int8), [sizes["train"], sizes["test"]])
    arrays = [
        pa.array(np.arange(len(images), dtype=np.int32)),
        pa.DictionaryArray.from_arrays(split, ["train", "test"]),
        pa.array(files),
        pa.array(fine),
        pa.array(coarse),
        pa.DictionaryArray.from_arrays(fine.astype(np.int8), fine_names),
        pa.DictionaryArray.from_arrays(coarse.astype(np.int8), coarse_names),
        pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(IMAGE_BYTES), len(images), [None, pa.py_buffer(images)]
        ),
    ]
    metadata = {
        "shape": "32,32,3",
        "layout": "height,width,channel; uint8; RGB",
        "archive_sha256": archive_sha256,
        "fine_names": json.dumps(fine_names),
        "coarse_names": json.dumps(coarse_names),
    }
    return pa.table(arrays, schema=SCHEMA.with_metadata(metadata))


def write_table(table: pa.Table, target: Path) -> None:
    """Write Parquet in row groups of `ROW_GROUP`; the same table gives the same bytes."""
    with replacing_file(target) as temporary:
        # Pixels barely compress (3 %), and no reader has a use for dictionaries or statistics of
        # them.
        dictionaries = [
            name for name in table.column_names if name not in ("image", "row_id", "file_name")
        ]
        save_table(
            table,
            temporary,
            row_group_size=ROW_GROUP,
            use_dictionary=dictionaries,
            write_statistics=["row_id"],
        )


def _data(member: dict[str, Any], name: str) -> np.ndarray:
    """(N, 3072) uint8: a row an image, its planes one after the other."""
    data = member.get("data")
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != IMAGE_BYTES:
        found = data.shape if isinstance(data, np.ndarray) else type(data).__name__
        raise PipelineError(f"{name}: 'data' is {found}, expected (N, {IMAGE_BYTES}) uint8")
    if not len(data):
        raise PipelineError(f"{name}: 'data' holds no images")
    return data


def _names(meta: dict[str, Any], key: str, count: int) -> list[str]:
    names = meta.get(key)
    if (
        not isinstance(names, list)
        or not all(isinstance(name, str) and name.strip() for name in names)
        or len(set(names)) != count
        or len(names) != count
    ):
        raise PipelineError(f"meta: '{key}' is not a list of {count} different names")
    return names


def _labels(member: dict[str, Any], name: str, key: str, classes: int, rows: int) -> np.ndarray:
    labels = member.get(key)
    if not isinstance(labels, list) or len(labels) != rows:
        raise PipelineError(f"{name}: '{key}' is not a list of {rows} labels")
    if wrong := [label for label in labels if type(label) is not int or not 0 <= label < classes]:
        raise PipelineError(
            f"{name}: '{key}' holds {wrong[0]!r}, expected whole numbers from 0 to {classes - 1}"
        )
    return np.array(labels, np.uint8)


def _file_names(member: dict[str, Any], name: str, rows: int) -> list[str]:
    files = member.get("filenames")
    texts = isinstance(files, list) and all(isinstance(file, str) for file in files)
    if not isinstance(files, list) or len(files) != rows or not texts:
        raise PipelineError(f"{name}: 'filenames' is not a list of {rows} names")
    return files
