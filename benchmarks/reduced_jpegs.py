"""What decoding large JPEGs at a reduced size saves, and what it changes.

python -m benchmarks.reduced_jpegs --model efficientnet_b0 > benchmarks/results/reduced_jpegs.md

The JPEGs are made of validation images, enlarged to 3,000×3,000 pixels, with grain.
"""

import argparse
import io
import time

import numpy as np
from PIL import Image

from benchmarks.environment import describe
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving import photographs
from cifar_pipeline.serving.exported import MODEL, ExportedModel
from cifar_pipeline.serving.photographs import read_photograph

LARGE = 3_000
WHOLE = 1 << 30


def jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def photograph(pixels: np.ndarray) -> bytes:
    large = Image.fromarray(pixels).resize((LARGE, LARGE), Image.Resampling.BICUBIC)
    grain = np.random.default_rng(0).normal(0, 8, (LARGE, LARGE, 1))
    grainy = (np.asarray(large) + grain).clip(0, 255).astype(np.uint8)
    return jpeg(Image.fromarray(grainy), 90)


def decoded(files: list[bytes], reduced: int) -> tuple[np.ndarray, float]:
    """(N, 32, 32, 3), and processor time in ms for each."""
    photographs.REDUCED = reduced
    start = time.process_time()
    pixels = np.stack([read_photograph(file).pixels for file in files])
    return pixels, 1000 * (time.process_time() - start) / len(files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="efficientnet_b0")
    arguments = parser.parse_args()
    home = Workspace.current()
    model = ExportedModel(home.export(arguments.model) / MODEL)
    images = load_images(home.table, home.splits, "validation", per_class=1, seed=0)
    files = [photograph(pixels) for pixels in images.pixels]
    again = [jpeg(Image.open(io.BytesIO(file)), 95) for file in files]
    chosen = photographs.REDUCED
    ways = {
        "decoded whole": (files, WHOLE),
        f"until the shorter side has {chosen} pixels, as it is": (files, chosen),
        "until it has 1,024 pixels": (files, 2 * chosen),
        "decoded whole, but saved again with quality 95 before": (again, WHOLE),
    }
    print("# Large JPEGs decoded at a reduced size\n")
    print(f"`{(__doc__ or '').splitlines()[2].partition(' >')[0]}`; {describe()};")
    print(f"{len(files)} JPEGs of {LARGE:,}×{LARGE:,}; differences are from those decoded whole.\n")
    print("| how | processor, ms | pixels, of 255: most | mean | probabilities: most | mean |")
    print("|---|---|---|---|---|---|")
    first = None
    for way, (content, reduced) in ways.items():
        pixels, taken = decoded(content, reduced)
        answers = model.answer(pixels).probabilities
        first = first or (pixels.astype(int), answers)
        levels, shares = np.abs(pixels - first[0]), np.abs(answers - first[1])
        cells = (f"{levels.max()}", f"{levels.mean():.2f}", f"{shares.max():.3f}")
        print(f"| {way} | {taken:.0f} | {' | '.join(cells)} | {shares.mean():.5f} |")


if __name__ == "__main__":
    main()
