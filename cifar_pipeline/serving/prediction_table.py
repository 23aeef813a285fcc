"""Predictions on photographs as Parquet files."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.checks import Check
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.files import find_photographs
from cifar_pipeline.serving.predictor import COLUMNS, Predictor, Source, with_progress

TYPES = {
    "width": pa.int32(),
    "height": pa.int32(),
    "rank": pa.int16(),
    "probability": pa.float32(),
    "none_of_these": pa.bool_(),
}
SCHEMA = pa.schema([(name, TYPES.get(name, pa.string())) for name in COLUMNS])
"""A row for each image and class, as `Predictor.rows` has them."""
GUESS = ("class", "superclass", "probability")
TOP = pa.list_(pa.struct([(key, SCHEMA.field(key).type) for key in ("rank", *GUESS)]))
FOLDER_SCHEMA = pa.schema(
    [SCHEMA.field(name) for name in COLUMNS if name != "rank"] + [pa.field("top", TOP)]
)
"""A row for each image and model: the likeliest class, and all that were asked for in `top`."""
WRITTEN_AT_ONCE = 1_000


@contextmanager
def writing_rows(
    path: Path, schema: pa.Schema
) -> Iterator[Callable[[Iterable[dict[str, Any]]], None]]:
    """Yield what appends rows to a table, which replaces the file `path` when the block succeeds.

    Raises: OSError at once where no file can be written.
    """
    waiting: list[dict[str, Any]] = []
    with (
        replacing_file(path) as new,
        pq.ParquetWriter(new, schema, write_page_checksum=True) as writer,
    ):

        def append(rows: Iterable[dict[str, Any]]) -> None:
            waiting.extend(rows)
            if len(waiting) >= WRITTEN_AT_ONCE:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting.clear()

        yield append
        writer.write_table(pa.Table.from_pylist(waiting, schema))


def predict_folder(
    folder: Path, models: Sequence[Path], path: Path
) -> tuple[list[Check], dict[str, Any]]:
    """Ask exported models what is on the photographs in a folder, and write a row for each pair.

    Args:
        folder: searched with its subfolders; files are called by their paths in it.
        path: the table, replaced as a whole.

    Returns: a check that every file could be read, and key figures.

    Raises: PipelineError when there is no photograph, no such folder, or no model.
    """
    if not folder.is_dir():
        raise PipelineError(f"there is no folder {folder}; put photographs there")
    if not models:
        raise PipelineError("no model has been exported yet; `cifar export NAME` exports one")
    found = find_photographs([str(folder)])
    if not found.sources:
        raise PipelineError(f"{folder} holds no photograph; put some there")
    sources = [_called_in(folder, source) for source in found.sources]
    failed: dict[str, str] = {}
    rows = unlike = 0
    start = time.monotonic()
    with writing_rows(path, FOLDER_SCHEMA) as append:
        for model in models:
            for row in _rows(Predictor(ExportedModel(model)), sources):
                rows, unlike = rows + 1, unlike + (row["none_of_these"] is True)
                if row["error"]:
                    failed[row["file"]] = row["error"]
                append([row])
    figures = {
        "dagster/row_count": rows,
        "photographs": len(sources),
        "models": len(models),
        "none_of_these": unlike,
        "left_out": found.left_out,
        "images_per_s": round(rows / (time.monotonic() - start), 1),
    }
    return [_readable(failed, len(sources))], figures


def _called_in(folder: Path, source: Source) -> Source:
    return replace(source, name=source.name.removeprefix(f"{folder}/"))


def _rows(predictor: Predictor, sources: Sequence[Source]) -> Iterator[dict[str, Any]]:
    for prediction in with_progress(predictor.predict(sources), len(sources)):
        document = predictor.document(prediction)
        best = document["top"][0] if document["top"] else {}
        yield document | {key: best.get(key) for key in GUESS}


def _readable(failed: dict[str, str], n: int) -> Check:
    some = "; ".join(f"{name}: {error}" for name, error in list(failed.items())[:3])
    return Check(
        "photographs_readable",
        not failed,
        {"photographs": n, "unreadable": len(failed)},
        found=f"{len(failed)} of {n:,} files that cannot be read ({some})" if failed else "",
        limit="none" if failed else "",
        repair="Their rows have the reason in `error`; repair or remove the files.",
    )
