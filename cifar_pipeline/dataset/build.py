"""From the archive to the table: reading it within bounds, and checking what it holds."""

import gzip
import tarfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.artifacts import file_digest, replacing_file
from cifar_pipeline.dataset.pickles import read_pickle
from cifar_pipeline.dataset.table import COARSE, FINE, IMAGE_BYTES, SCHEMA, SHAPE
from cifar_pipeline.errors import PipelineError

MEMBERS = ("meta", "train", "test")


MEMBER_LIMIT = 256 << 20  # bytes; upstream's largest member has 155 MB


ARCHIVE_LIMIT = 512 << 20  # bytes, unpacked


class _Bounded:
    """A reader that refuses to unpack more than ARCHIVE_LIMIT bytes: a small gzip file can hold a disk full."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self.file, self.left = file, ARCHIVE_LIMIT

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise PipelineError(
                f"the archive unpacks to more than {ARCHIVE_LIMIT:,} bytes, CIFAR-100 needs 187 million"
            )
        return content


def read_archive(archive: Path) -> dict[str, dict[str, Any]]:
    """The pickled content of `meta`, `train` and `test`; nothing is unpacked onto the disk.

    Raises: PipelineError for an archive that is damaged, too large, incomplete, or has members outside its folder.
    """
    content: dict[str, dict[str, Any]] = {}
    try:
        with (
            gzip.open(archive) as file,
            tarfile.open(fileobj=_Bounded(file), mode="r|", bufsize=1 << 20) as tar,  # type: ignore[call-overload]
        ):
            for member in tar:
                path = PurePosixPath(member.name)
                if (
                    path.is_absolute()
                    or ".." in path.parts
                    or not (member.isfile() or member.isdir())
                ):
                    raise PipelineError(
                        f"the member '{member.name}' is a link or points outside the archive's folder"
                    )
                if member.size > MEMBER_LIMIT:
                    raise PipelineError(
                        f"the member '{member.name}' has {member.size:,} bytes, at most {MEMBER_LIMIT:,} are read"
                    )
                if path.parent == PurePosixPath("cifar-100-python") and path.name in MEMBERS:
                    extracted = tar.extractfile(member)
                    content[path.name] = read_pickle(
                        extracted.read() if extracted else b"", path.name
                    )
    except FileNotFoundError:
        raise PipelineError(
            f"{archive} is missing; materialize the asset `archive` first"
        ) from None
    except PipelineError as error:
        raise PipelineError(f"{archive}: {error}") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise PipelineError(
            f"{archive} is damaged ({error}); delete it and materialize `archive` again"
        ) from None
    if missing := [name for name in MEMBERS if name not in content]:
        raise PipelineError(
            f"{archive} has no member {missing} in cifar-100-python/; fetch it again"
        )
    return content


def build_table(archive: Path) -> pa.Table:
    """Read `archive` into a table of SCHEMA, train rows first, in upstream's order.

    Raises: PipelineError as `read_archive` does, and for shapes, counts or labels that cannot be CIFAR-100.
    """
    with ThreadPoolExecutor(
        1
    ) as pool:  # hashing takes a sixth of the whole time, and another core is free
        digest = pool.submit(file_digest, archive, "sha256")
        content = read_archive(archive)
    fine_names = _names(content["meta"], "fine_label_names", FINE)
    coarse_names = _names(content["meta"], "coarse_label_names", COARSE)
    sizes = {name: len(content[name].get("data", ())) for name in ("train", "test")}
    images = np.empty((sum(sizes.values()), *SHAPE), np.uint8)
    columns: dict[str, list[np.ndarray]] = {"fine_labels": [], "coarse_labels": []}
    files: list[str] = []
    for name, rows in (("train", slice(0, sizes["train"])), ("test", slice(sizes["train"], None))):
        member = content.pop(name)
        data = member.get("data")
        if (
            not isinstance(data, np.ndarray)
            or data.shape != (sizes[name], IMAGE_BYTES)
            or not sizes[name]
        ):
            raise PipelineError(
                f"{name}: 'data' is {getattr(data, 'shape', type(data).__name__)}, expected (N, {IMAGE_BYTES}) uint8"
            )
        images[rows] = data.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for key, classes in (("fine_labels", FINE), ("coarse_labels", COARSE)):
            columns[key].append(_labels(member, name, key, classes, sizes[name]))
        files += _file_names(member, name, sizes[name])
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
        "archive_sha256": digest.result(),
        "fine_names": ",".join(fine_names),
        "coarse_names": ",".join(coarse_names),
    }
    return pa.table(arrays, schema=SCHEMA.with_metadata(metadata))


def write_table(table: pa.Table, target: Path) -> None:
    """Write Parquet with row groups of 10,000; the same table gives the same bytes."""
    with replacing_file(target) as temporary:
        # Pixels barely compress (3 %), and neither dictionaries nor statistics of them are of use to a reader.
        dictionaries = [
            name for name in table.column_names if name not in ("image", "row_id", "file_name")
        ]
        pq.write_table(
            table,
            temporary,
            row_group_size=10_000,
            use_dictionary=dictionaries,
            write_statistics=["row_id"],
        )


def _names(meta: dict[str, Any], key: str, count: int) -> list[str]:
    names = meta.get(key)
    if (
        not isinstance(names, list)
        or len(set(names)) != count
        or not all(isinstance(name, str) for name in names)
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
    if not isinstance(files, list) or len(files) != rows:
        raise PipelineError(f"{name}: 'filenames' is not a list of {rows} names")
    return files
