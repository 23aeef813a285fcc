"""Time and memory of the stages on tables of one, three and ten times CIFAR-100's size.

python -m benchmarks.growth --work FOLDER > benchmarks/results/growth.md

Images are smooth random fields, of which some test images are darker, shifted copies of training
images; the network is a nine-layer CNN of few filters and random weights. A stage runs in a process
of its own with two threads; no stage here starts processes. Seconds are measured after the
imports. FOLDER keeps tables and measurements, so that the command can be interrupted.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.environment import describe
from cifar_pipeline.artifacts import write_json
from cifar_pipeline.dataset.generated import class_names
from cifar_pipeline.dataset.splits import build_splits, read_splits, write_splits
from cifar_pipeline.dataset.table import COARSE, FINE, IMAGE_BYTES, ROW_GROUP, SCHEMA, read_labels
from cifar_pipeline.dataset.validation import check_splits, check_table
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.data import Source, SplitSettings
from tests.serving.cost import peak_megabytes

TRAIN, TEST = 50_000, 10_000
SIZES = (1.0, 3.0, 10.0)
PAIRED = (1.0, 3.0)
"""Of tables whose test images are all compared with all images."""
ARCHIVES = (0.4, 1.6)
"""Larger ones are refused: an archive may unpack to 512 MiB, and one member of it to 256 MiB."""
SPLITS = SplitSettings(validation_fraction=0.2, seed=123)
FEW, FEW_SIZES = "few.parquet", (1.0, 10.0)
"""A table of which no more images are test images than of CIFAR-100."""
THREADS = 2
COPIED = 500


def scenes(count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 32, 32, 3) uint8: as in a photograph, the finer the detail the less of it."""
    images = np.full((count, 32, 32, 3), 128, np.float32)
    for size in (3, 6, 12, 24):
        noise = rng.standard_normal((count, size, size, 3), np.float32) * np.float32(150 / size)
        for image, coarse in zip(images, noise, strict=True):
            np.add(image, cv2.resize(coarse, (32, 32)), out=image)
    return np.clip(images, 0, 255).astype(np.uint8)


def blocks(size: float, test: int) -> Iterator[pa.Table]:
    """A table of `SCHEMA`, a row group at a time. A twentieth of the test images are copies."""
    rng = np.random.default_rng(0)
    total = int((TRAIN + TEST) * size)
    train = total - test
    fine_names, coarse_names = class_names()
    copied = scenes(COPIED, np.random.default_rng(1))
    for first in range(0, total, ROW_GROUP):
        rows = np.arange(first, min(first + ROW_GROUP, total))
        images = scenes(len(rows), rng)
        if not first:
            images[:COPIED] = copied
        copies = np.flatnonzero((rows >= train) & (rows % 20 == 0))
        of = copied[rng.integers(COPIED, size=len(copies))]
        images[copies] = np.roll(of * 0.8, (1, -1), axis=(1, 2)).astype(np.uint8)
        fine = (rows % FINE).astype(np.uint8)
        coarse = fine % COARSE
        columns = [
            pa.array(rows.astype(np.int32)),
            pa.DictionaryArray.from_arrays((rows >= train).astype(np.int8), ["train", "test"]),
            pa.array([f"{row}.png" for row in rows]),
            pa.array(fine),
            pa.array(coarse),
            pa.DictionaryArray.from_arrays(fine.astype(np.int8), fine_names),
            pa.DictionaryArray.from_arrays(coarse.astype(np.int8), coarse_names),
            pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(IMAGE_BYTES), len(rows), [None, pa.py_buffer(images)]
            ),
        ]
        names = {"fine_names": json.dumps(fine_names), "coarse_names": json.dumps(coarse_names)}
        metadata = {"archive_sha256": "generated", **names}
        yield pa.table(columns, schema=SCHEMA.with_metadata(metadata))


def write_blocks(path: Path, size: float, test: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = blocks(size, test)
    first = next(content)
    with pq.ParquetWriter(path, first.schema, write_page_checksum=True) as writer:
        for block in chain([first], content):
            writer.write_table(block)


def prepare(home: Workspace, size: float) -> None:
    """Write the table of a size, its splits, a model, and what a report reads besides."""
    from cifar_pipeline.models.saved import weights_digest  # noqa: PLC0415
    from tests.reports.artefacts import write_model  # noqa: PLC0415  # Keras, and only here
    from tests.serving.networks import save_model  # noqa: PLC0415

    write_blocks(home.table, size, int(TEST * size))
    write_splits(build_splits(read_labels(home.table), SPLITS), home.splits)
    with pq.ParquetFile(home.table) as file:
        model = save_model(home.model("random"), file.read_row_group(0))
    write_model(home.model("described"), model_sha256=weights_digest(model))
    labels = read_labels(home.table)
    test = np.flatnonzero(np.asarray(labels["upstream_split"].to_pandas() == "test"))
    home.test_subsets.mkdir()
    membership = pa.table({"row_id": pa.array(test, pa.int32()), "no_duplicates": test >= 0})
    pq.write_table(
        membership.replace_schema_metadata({"archive_sha256": "generated"}),
        home.test_subsets / "subsets.parquet",
    )
    none = dict.fromkeys(
        (
            "near_duplicates_of_a_training_image",
            "identical_to_a_training_image",
            "near_duplicates_of_an_earlier_test_image",
            "least_similarity",
        ),
        0,
    )
    write_json(home.test_subsets / "summary.json", none)


def source_of(size: float) -> Source:
    per_class = {"train_per_class": int(TRAIN * size) // FINE, "test_per_class": int(TEST * size)}
    per_class["test_per_class"] //= FINE
    return Source(kind="generated", **per_class)


def archive(home: Workspace, size: float) -> Callable[[], object]:
    from cifar_pipeline.dataset.archive import obtain_archive  # noqa: PLC0415

    return lambda: obtain_archive(source_of(size), home.archive)


def table(home: Workspace, size: float) -> Callable[[], object]:
    from cifar_pipeline.dataset.build import build_table, write_table  # noqa: PLC0415

    def work() -> None:
        write_table(build_table(home.archive), home.table)
        check_table(home.table, source_of(size))

    return work


def checks(home: Workspace, size: float) -> Callable[[], object]:
    return lambda: check_table(home.table, source_of(size))


def splits(home: Workspace, size: float) -> Callable[[], object]:
    import sklearn.model_selection  # noqa: F401, PLC0415

    def work() -> None:
        write_splits(build_splits(read_labels(home.table), SPLITS), home.splits)
        check_splits(home.table, read_splits(home.splits), SPLITS)

    return work


def predictions(home: Workspace, size: float) -> Callable[[], object]:
    from cifar_pipeline.evaluation.predictions import (  # noqa: PLC0415
        predict_test,
        write_predictions,
    )

    def work() -> None:
        predicted = predict_test(home.model("random"), home.table, home.splits)
        write_predictions(predicted, home.predictions("random"))

    return work


def report(home: Workspace, size: float) -> Callable[[], object]:
    from cifar_pipeline.reports.report import Inputs, write_report  # noqa: PLC0415

    inputs = Inputs(
        home.predictions("random"), home.model("described"), home.table, home.test_subsets
    )
    return lambda: write_report("random", inputs, home.report("random"))


def near_duplicates(home: Workspace, size: float) -> Callable[[], object]:
    from cifar_pipeline.reports.subsets import write_subsets  # noqa: PLC0415

    return lambda: write_subsets(home.table, {}, home.root, home.data / "subsets")


def of_few(home: Workspace, size: float) -> Callable[[], object]:
    """The same for the table `FEW`."""
    from cifar_pipeline.reports.subsets import write_subsets  # noqa: PLC0415

    table = home.table.with_name(FEW)
    return lambda: write_subsets(table, {}, home.root, home.data / "subsets")


STAGES = {
    "the table's checks": checks,
    "splits": splits,
    "predictions": predictions,
    "report": report,
    "archive": archive,
    "table": table,
    "test_subsets": near_duplicates,
    "test_subsets, 10,000 test images": of_few,
}
GROWING = {"splits": TRAIN + TEST, "report": TEST}
"""Stages whose memory grows with the table, and with how many images of size 1."""
FROM_THE_ARCHIVE = ("archive", "table")
NOTES = """\
The memory of what reads the table is that of one row group (`ROW_GROUP` in `dataset/table.py`,
10,000 images), of the answers for as many images (`AT_ONCE` in `evaluation/predictions.py`), and
of as many test images with what they are compared with (`TEST_IMAGES` and `TEST_BATCH` in
`evaluation/duplicates.py`). What still grows with the table is small: {splits:.0f} bytes an image
in `splits`, of labels and checksums, and {report:.1f} KB a test image in a report, probabilities.
`archive` and `table` hold the archive's content, which may have 512 MiB; a larger one is refused.

Only `test_subsets` takes more than linear time. It compares every test image with every image, so
that its time is linear in the table for as many test images, and grows with the square where both
grow. n log n would take an index of nearest neighbours, which misses some pairs; the exact search
is kept because the accuracy without near-duplicates rests on it.
"""


def run_stage(name: str, home: Workspace, size: float) -> dict[str, float]:
    """Do the work of a stage in this process."""
    work = STAGES[name](home, size)
    cpu, wall = time.process_time(), time.monotonic()
    work()
    return {
        "cpu": time.process_time() - cpu,
        "wall": time.monotonic() - wall,
        "peak": peak_megabytes(),
    }


def measured(work: Path, name: str, size: float, n: int) -> list[dict[str, float]]:
    """Measurements of a stage on a size, from FOLDER or made now in processes of their own."""
    record = work / f"{name.replace(' ', '_')}_{size:g}.json"
    found = json.loads(record.read_text()) if record.exists() else []
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"), str(THREADS)
    )
    while len(found) < n:
        command = [sys.executable, "-m", "benchmarks.growth", "--work", str(work)]
        done = subprocess.run(
            [*command, "--stage", name, "--size", str(size)],
            stdout=subprocess.PIPE,
            env=os.environ | threads,
            text=True,
            check=True,
        )
        found.append(json.loads(done.stdout.splitlines()[-1]))
        record.write_text(json.dumps(found))
    return found


def sizes_of(stage: str) -> tuple[float, ...]:
    if stage in FROM_THE_ARCHIVE:
        return ARCHIVES
    return {"test_subsets": PAIRED, "test_subsets, 10,000 test images": FEW_SIZES}.get(stage, SIZES)


def home_of(work: Path, size: float, *, archive: bool) -> Workspace:
    return Workspace(work / f"{'archive' if archive else 'table'}_{size:g}")


def table_rows(results: dict[str, dict[float, list[dict[str, float]]]]) -> Iterator[str]:
    """A row of the page for each stage and size."""
    for name, sizes in results.items():
        middle = {
            size: {key: median(each[key] for each in found) for key in ("cpu", "wall", "peak")}
            for size, found in sizes.items()
        }
        first = next(iter(middle))
        exponent = np.polyfit(
            np.log(list(middle)), np.log([found["cpu"] for found in middle.values()]), 1
        )[0]
        for size, found in middle.items():
            wall = [each["wall"] for each in sizes[size]]
            ratio = found["cpu"] / middle[first]["cpu"] / (size / first)
            yield (
                f"| {name} | {size:g} | {len(wall)} | {found['cpu']:.1f} "
                f"| {found['wall']:.1f} ({min(wall):.1f} to {max(wall):.1f}) | {ratio:.2f} "
                f"| {exponent:.2f} | {found['peak']:.0f} |"
            )


def slope(sizes: dict[float, list[dict[str, float]]], images: int) -> float:
    """Bytes of peak memory by which a stage grows with each of `images` a size."""
    first, last = min(sizes), max(sizes)
    peaks = [median(each["peak"] for each in sizes[size]) for size in (first, last)]
    return (peaks[1] - peaks[0]) * 2**20 / (images * (last - first))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("-n", type=int, default=2)
    parser.add_argument("--stage", help="do this stage in this process")
    parser.add_argument("--size", type=float, default=1.0)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    if arguments.stage:
        home = home_of(work, arguments.size, archive=arguments.stage in FROM_THE_ARCHIVE)
        print(json.dumps(run_stage(arguments.stage, home, arguments.size)))
        return
    for size in SIZES:
        home = home_of(work, size, archive=False)
        if not (home.test_subsets / "summary.json").exists():
            prepare(home, size)
        if size in FEW_SIZES and not home.table.with_name(FEW).exists():
            write_blocks(home.table.with_name(FEW), size, TEST)
    results = {
        name: {
            size: measured(work, name, size, 1 if name.startswith("test") else arguments.n)
            for size in sizes_of(name)
        }
        for name in STAGES
    }
    print("# Growth\n\n`python -m benchmarks.growth --work FOLDER`;")
    print(f"{describe()}; {THREADS} threads, on cores that other work shared.\n")
    print("Sizes are multiples of CIFAR-100's 60,000 images. Seconds are medians of n, with the")
    print("range of the time on the clock; the ratio is of processor time per image, to the")
    print("smallest size; the exponent is fitted to processor time.\n")
    print(
        "| stage | size | n | processor s | s on the clock | ratio per image | exponent "
        "| peak MB |\n|---|---|---|---|---|---|---|---|"
    )
    for row in table_rows(results):
        print(row)
    of_splits, of_report = (slope(results[name], per) for name, per in GROWING.items())
    print(f"\n{NOTES.format(splits=of_splits, report=of_report / 1000)}", end="")


if __name__ == "__main__":
    main()
