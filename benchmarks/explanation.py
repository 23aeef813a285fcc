"""Does Grad-CAM find what a network decides by? Masking is the independent check.

python -m benchmarks.explanation cnn9 efficientnet_b0 > benchmarks/results/explanation.md
"""

import argparse

import numpy as np
from PIL import Image

from benchmarks.environment import describe
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.exported import MODEL, SIDE, ExportedModel

SHARE = 0.1
"""of the pixels, that are masked"""
PER_CLASS = 20
PLACES = {
    "the hottest tenth": "where Grad-CAM is highest",
    "a random tenth of the same shape": "the hottest tenth of another image",
    "random pixels": "scattered",
    "the coldest tenth": "where Grad-CAM is lowest",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="exported models")
    home = Workspace.current()
    names = parser.parse_args().models
    images = load_images(home.table, home.splits, "validation", per_class=PER_CLASS)
    print(f"# What Grad-CAM is worth\n\n`{__doc__.splitlines()[2]}`; {describe()}.\n")
    print(
        f"A tenth of the pixels of each of {len(images):,} validation images is painted in the "
        "mean colour. The *drop* is\nthat of the calibrated probability of the class that was "
        "likeliest before, in points. *More by the hottest*\nis the mean over images of how much "
        "more is lost by their hottest tenth. Both have 95% intervals.\n"
    )
    print("| model | map | masked | drop | more by the hottest |\n|---|---|---|---|---|")
    for name in names:
        _print_rows(ExportedModel(home.export(name) / MODEL), images.pixels)


def drops(model: ExportedModel, images: np.ndarray) -> dict[str, np.ndarray]:
    """How much probability, in points, images (N, 32, 32, 3) lose when they are masked, by PLACES.

    That is the probability of the class that was likeliest before.
    """
    answers = list(model.answers(images))
    hot = np.concatenate([[_enlarged(found) for found in a.attention] for a in answers])
    rng = np.random.default_rng(0)
    scores = (hot, hot[rng.permutation(len(hot))], rng.random(hot.shape), -hot)
    probabilities = np.concatenate([answer.probabilities for answer in answers])
    best = probabilities.argmax(axis=1)
    mean = images.mean(axis=(0, 1, 2)).round().astype(np.uint8)
    lost = {}
    for place, score in zip(PLACES, scores, strict=True):
        masked = images.copy()
        masked[_highest(score)] = mean
        after = np.concatenate([answer.probabilities for answer in model.answers(masked)])
        rows = np.arange(len(best))
        lost[place] = 100 * (probabilities[rows, best] - after[rows, best])
    return lost


def _print_rows(model: ExportedModel, images: np.ndarray) -> None:
    size = "×".join(map(str, model.answer(images[:1]).attention.shape[1:]))
    lost = drops(model, images)
    hottest = next(iter(lost.values()))
    for number, (place, drop) in enumerate(lost.items()):
        more = _mean(hottest - drop) if number else ""
        print(f"| {model.name} | {size} | {place}, {PLACES[place]} | {_mean(drop)} | {more} |")


def _mean(values: np.ndarray) -> str:
    """With its 95% interval."""
    mean, half = values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values))
    return f"{mean:.1f} ({mean - half:.1f} to {mean + half:.1f})"


def _enlarged(attention: np.ndarray) -> np.ndarray:
    """(h, w) to (32, 32), as it is drawn over an image."""
    image = Image.fromarray(attention.astype(np.float32))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _highest(scores: np.ndarray) -> np.ndarray:
    """(N, 32, 32) bool: a tenth of each image's pixels."""
    flat = scores.reshape(len(scores), -1)
    chosen = np.argsort(-flat, axis=1, kind="stable")[:, : round(SHARE * flat.shape[1])]
    mask = np.zeros_like(flat, bool)
    np.put_along_axis(mask, chosen, True, axis=1)
    return mask.reshape(scores.shape)


if __name__ == "__main__":
    main()
