"""Which column holds the images best, and whether the table meets its targets.

python -m benchmarks.table_formats ARCHIVE [-n 5] > benchmarks/results/table_formats.md
"""

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks.environment import describe, spread
from cifar_pipeline.dataset.build import write_table
from cifar_pipeline.dataset.table import IMAGE_BYTES, pixels, read_table

WHOLE = """
import resource, sys, time
from pathlib import Path
start = time.perf_counter()
from cifar_pipeline.dataset.build import build_table, write_table
write_table(build_table(Path(sys.argv[1])), Path(sys.argv[2]))
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def timed(action: Callable[[], object], n: int) -> list[float]:
    seconds = []
    for _ in range(n):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return seconds


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def columns(
    images: np.ndarray,
) -> dict[str, tuple[pa.Array, Callable[[pa.ChunkedArray], np.ndarray]]]:
    """Each alternative: the column, and the way back to (N, 32, 32, 3)."""
    binary = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(IMAGE_BYTES), len(images), [None, pa.py_buffer(images)]
    )
    return {
        "fixed-size binary": (binary, lambda column: pixels(pa.table({"image": column}))),
        "fixed-shape tensor": (
            pa.FixedShapeTensorArray.from_numpy_ndarray(images),
            lambda column: column.combine_chunks().to_numpy_ndarray(),
        ),
        "PNG bytes": (
            pa.array([png(image) for image in images], pa.binary()),
            lambda column: np.stack(
                [np.asarray(Image.open(io.BytesIO(value.as_py()))) for value in column]
            ),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("-n", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "t.parquet")
        gzip, whole, memory = [], [], []
        for _ in range(arguments.n):  # side by side: the machine may be shared
            gzip += timed(
                lambda: subprocess.run(
                    ["gzip", "-dc", arguments.archive], stdout=subprocess.DEVNULL, check=True
                ),
                1,
            )
            command = [sys.executable, "-c", WHOLE, str(arguments.archive), str(target)]
            seconds, peak = subprocess.run(
                command, capture_output=True, text=True, check=True
            ).stdout.split()
            whole.append(float(seconds))
            memory.append(float(peak))
        train = read_table(target).slice(0, 50_000)
        write_table(train, target)
        read = timed(lambda: pixels(read_table(target, ["image"])), arguments.n)
        ratios = [one / other for one, other in zip(whole, gzip, strict=True)]
        print("# The table: time, memory, and the column of images\n")
        print(f"`python -m benchmarks.table_formats ARCHIVE -n {arguments.n}`; {describe()}.")
        print(f"Median (range) of n = {arguments.n}.\n")
        print("| | measured | target |\n|---|---|---|")
        print(f"| archive to Parquet, s, imports included | {spread(whole)} | |")
        print(f"| `gzip -dc` alone, s | {spread(gzip)} | |")
        print(f"| ratio of the two, pair by pair | {spread(ratios)} | at most 3 |")
        print(f"| peak memory, MiB | {spread(memory)} | under 858 (900 MB) |")
        print(f"| Parquet to a (50000, 32, 32, 3) array, s | {spread(read)} | under 1 |\n")
        images = pixels(train)
        print(
            f"| column, {len(images):,} images | write, s | to numpy, s | MB "
            "| DuckDB and pandas see |\n|---|---|---|---|---|"
        )
        seen = {
            "fixed-size binary": "BLOB, bytes",
            "fixed-shape tensor": "UTINYINT[], flat arrays",
            "PNG bytes": "BLOB, bytes to decode",
        }
        for name, (column, back) in columns(images).items():
            table = pa.table({"image": column})
            n = 1 if name == "PNG bytes" else arguments.n
            write = timed(
                lambda table=table: pq.write_table(
                    table, target, use_dictionary=False, write_statistics=False
                ),
                n,
            )  # type: ignore[misc]
            size = target.stat().st_size / 1e6
            read = timed(lambda back=back: back(pq.read_table(target)["image"]), n)  # type: ignore[misc]
            assert np.array_equal(back(pq.read_table(target)["image"]), images)
            cells = (f"{name} (n = {n})", spread(write), spread(read), f"{size:.0f}", seen[name])
            print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
