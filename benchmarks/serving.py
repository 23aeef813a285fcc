"""How fast an exported model answers: one photograph from a cold start, warm, and a folder.

python -m benchmarks.serving --model efficientnet_b0 > benchmarks/results/serving.md

Run it on a machine that does nothing else. Memory is the peak of the process, read on Linux.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.environment import describe, spread
from benchmarks.throughput import IMAGES, ROUNDS, beside_keras
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.choice import exported_models
from cifar_pipeline.serving.exported import INPUT, MODEL, OUTPUTS, SIDE, ExportedModel
from cifar_pipeline.serving.photographs import read_photograph
from cifar_pipeline.serving.predictor import Predictor, Source

COLD_RUNS, LARGE_RUNS = 9, 3
WARM_RUNS = 200
FOLDER = 1_000
BATCHES = (1, 8, 64, 256)
COMMAND = """
import sys
from cifar_pipeline.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    status = open("/proc/self/status").read().split("VmHWM:")[1]
    print(int(status.split()[0]) / 1024, file=sys.stderr)
"""


def photograph(pixels: np.ndarray, width: int = 640, height: int = 480) -> bytes:
    """A JPEG of about 80 kB."""
    large = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    buffer = io.BytesIO()
    grainy = (np.asarray(large) + grain).clip(0, 255).astype(np.uint8)
    Image.fromarray(grainy).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def photograph_of(width: int, height: int) -> Image.Image:
    """A large one."""
    small = np.random.default_rng(0).integers(0, 256, (height // 100, width // 100, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def measured(name: str, file: Path, runs: int) -> tuple[str, str, str]:
    """Wall and processor time in seconds and memory in MB of `cifar predict` in a process."""
    wall, processor, memory = [], [], []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, "predict", str(file), "--model", name, "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        wall.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        memory.append(float(done.stderr.split()[-1]))
        assert len(json.loads(done.stdout)["top"]) == 5
    return spread(wall), spread(processor), spread(memory)


def cold(name: str, content: bytes) -> None:
    """`cifar predict` on one photograph, a process each time."""
    large = photograph_of(12_000, 9_000)
    kinds: dict[str, Callable[[Path], None]] = {
        "JPEG of 640×480": lambda file: Image.open(io.BytesIO(content)).save(file, "JPEG"),
        "JPEG of 12,000×9,000": lambda file: large.save(file, "JPEG"),
        "progressive JPEG of 12,000×9,000": lambda file: large.save(file, "JPEG", progressive=True),
        "PNG of 12,000×9,000": lambda file: large.save(file, "PNG", compress_level=1),
    }
    print("## One photograph, cold\n")
    print("`cifar predict` in a process of its own, median and range:\n")
    row("photograph", "n", "wall, s", "processor, s", "memory, MB")
    row(*["---"] * 5)
    for number, (kind, write) in enumerate(kinds.items()):
        runs = LARGE_RUNS if number else COLD_RUNS
        with tempfile.TemporaryDirectory() as place:
            file = Path(place, "photograph")
            write(file)
            row(kind, runs, *measured(name, file, runs))


def warm(model: ExportedModel, content: bytes) -> None:
    """The predictor on one image beside onnxruntime alone."""
    predictor = Predictor(model)
    small = io.BytesIO()
    pixels = read_photograph(content).pixels
    Image.fromarray(pixels).save(small, "PNG")
    session, batch = model._session, pixels[None]
    calls = {
        "the session alone": lambda: session.run(list(OUTPUTS), {INPUT: batch}),
        f"a {SIDE}×{SIDE} PNG, from bytes to classes": lambda: list(
            predictor.predict([Source("", small.getvalue())])
        ),
        "a 640×480 JPEG, from bytes to classes": lambda: list(
            predictor.predict([Source("", content)])
        ),
        "decoding that JPEG alone": lambda: read_photograph(content),
    }
    taken: dict[str, list[float]] = {what: [] for what in calls}
    for _ in range(WARM_RUNS):  # in turn, so that what else the machine does meets all alike
        for what, call in calls.items():
            start = time.perf_counter()
            call()
            taken[what].append(1000 * (time.perf_counter() - start))
    print("\n## One photograph, warm\n")
    print(
        f"Milliseconds, n = {WARM_RUNS}, in turn. The least is what an idle machine would need.\n"
    )
    row("what", "least", "median", "least, of the session's", "median, of the session's")
    row(*["---"] * 5)
    alone = taken["the session alone"]
    for what, values in taken.items():
        least, middle = min(values), np.median(values)
        ratios = least / min(alone), middle / np.median(alone)
        row(what, f"{least:.2f}", f"{middle:.2f}", *(f"{ratio:.2f}" for ratio in ratios))


def folder(model: ExportedModel, files: list[bytes]) -> None:
    """Images a second by batch size."""
    predictor = Predictor(model)
    decoded = np.stack([read_photograph(content).pixels for content in files])
    print(f"\n## A folder\n\n{len(files):,} JPEGs of 640×480, images/s:\n")
    row("batch", "from files to classes", "the session alone, on decoded images")
    row("---", "---", "---")
    with tempfile.TemporaryDirectory() as place:
        sources = []
        for number, content in enumerate(files):
            path = Path(place, f"{number}.jpg")
            path.write_bytes(content)
            sources.append(Source(path.name, path))
        for batch in BATCHES:
            start = time.perf_counter()
            n = sum(1 for found in predictor.predict(sources, batch) if not found.error)
            predicted = n / (time.perf_counter() - start)
            start = time.perf_counter()
            for _ in model.answers(decoded, batch):
                pass
            answered = n / (time.perf_counter() - start)
            row(batch, f"{predicted:.0f}", f"{answered:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="efficientnet_b0")
    arguments = parser.parse_args()
    home = Workspace.current()
    images = load_images(home.table, home.splits, "validation", per_class=FOLDER // 100, seed=0)
    files = [photograph(pixels) for pixels in images.pixels]
    model = ExportedModel(home.export(arguments.model) / MODEL)
    load = os.getloadavg()[0]
    print("# Answers of exported models\n")
    print(f"`{(__doc__ or '').splitlines()[2].partition(' >')[0]}`; {describe()},")
    print(
        f"`{arguments.model}` under `{model.provenance['profile']}`; load {load:.1f} before it.\n"
    )
    cold(arguments.model, files[0])
    warm(model, files[0])
    folder(model, files)
    print(f"\n## Beside Keras\n\n{IMAGES} decoded images, n = {ROUNDS} rounds in one process, all")
    print("cores; median and range. A core's time is that of the process, whatever else runs.")
    for name in sorted({arguments.model, *exported_models(home)}):
        beside_keras(home, name, images.pixels)


if __name__ == "__main__":
    main()
