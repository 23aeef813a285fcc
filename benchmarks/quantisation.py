"""What exported files in 8 bits are worth: what was tried on validation images, and test images.

python -m benchmarks.quantisation > benchmarks/results/quantisation.md

It reads the exports in data/. The test split decides nothing: it is read for files that were kept.
"""

import argparse
import contextlib
import itertools
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

from benchmarks.environment import describe
from cifar_pipeline.evaluation.comparison import compare
from cifar_pipeline.evaluation.metrics import wilson
from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.choice import exported_models
from cifar_pipeline.serving.exported import MODEL, QUANTISED, ExportedModel
from cifar_pipeline.serving.quantisation import CALIBRATION_PER_CLASS, COMPUTED, Batches, Loss

PER_CLASS = 20
OURS: dict[str, Any] = {
    "op_types_to_quantize": [*COMPUTED],
    "per_channel": True,
    "reduce_range": True,
    "activation_type": QuantType.QUInt8,
}
PERCENTILE = {
    "calibrate_method": CalibrationMethod.Percentile,
    "extra_options": {"CalibPercentile": 99.9},
}
TRIED: dict[str, dict[str, Any]] = {
    "as exports do": {},
    "weights of 8 bits": {"reduce_range": False},
    "one scale for all channels": {"per_channel": False},
    "dense layers too": {"op_types_to_quantize": [*COMPUTED, "Gemm"]},
    "ranges to the 99.9th percentile": PERCENTILE,
    "ranges by entropy": {"calibrate_method": CalibrationMethod.Entropy},
    "depthwise convolutions in floats": {"leave": "depthwise"},
    "also the first, and squeeze-and-excitation": {"leave": "sensitive"},
    "that, ranges to the 99.9th percentile": {"leave": "sensitive", **PERCENTILE},
}
"""Changes of the settings; `leave` names the convolutions that stay in floats."""


def left_out(model: onnx.ModelProto, what: str | None) -> list[str]:
    """The names of the convolutions that a variant leaves alone."""
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    weights = {constant.name: constant.dims for constant in model.graph.initializer}
    depthwise = {
        node.name
        for node in convolutions
        for attribute in node.attribute
        if attribute.name == "group" and attribute.i > 1
    }
    if what == "depthwise":
        return sorted(depthwise)
    if what != "sensitive":
        return []
    pooled = {
        value
        for node in model.graph.node
        if node.op_type == "GlobalAveragePool"
        for value in node.output
    }
    squeezes = {node.name for node in convolutions if node.input[0] in pooled}
    narrow = {weights[node.input[1]][0] for node in convolutions if node.name in squeezes}
    excitations = {
        node.name
        for before, node in itertools.pairwise(convolutions)
        if before.name in squeezes and weights[node.input[1]][1] in narrow
    }
    return sorted({convolutions[0].name, *depthwise, *squeezes, *excitations})


def asked(path: Path, images: Images) -> tuple[np.ndarray, float]:
    """Which images are answered rightly, and the images a second of a core's time."""
    model, start = ExportedModel(path), time.process_time()
    answers = [answer.probabilities.argmax(axis=1) for answer in model.answers(images.pixels)]
    return np.concatenate(answers) == images.label, len(images) / (time.process_time() - start)


def tried(home: Workspace, name: str) -> None:
    """A table of variants, judged on validation images."""
    path = home.export(name) / MODEL
    original = onnx.load(path)
    seen = load_images(home.table, home.splits, "train", per_class=CALIBRATION_PER_CLASS)
    images = load_images(home.table, home.splits, "validation", per_class=PER_CLASS)
    right, speed = asked(path, images)
    print(f"\n## {name}: {len(images):,} validation images\n")
    print("| file | accuracy | points lost (95% interval) | MB | images/s of a core's time |")
    print("|---|---|---|---|---|")
    print(f"| original | {right.mean():.2%} | | {path.stat().st_size / 1e6:.1f} | {speed:.0f} |")
    for label, changes in TRIED.items():
        leave = left_out(original, changes.get("leave"))
        if changes.get("leave") and len(leave) <= 1:
            continue  # a network without such layers
        settings = {**OURS, **changes, "nodes_to_exclude": leave}
        settings.pop("leave", None)
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, "model.onnx")
            with contextlib.redirect_stdout(sys.stderr):  # where onnxruntime may say what it likes
                quantize_static(path, made, Batches(seen.pixels), **settings)
            file = onnx.load(made)
            onnx.helper.set_model_props(file, {p.key: p.value for p in original.metadata_props})
            onnx.save(file, made)
            found, speed = asked(made, images)
            loss, size = Loss.of(right, found), made.stat().st_size / 1e6
        lost = f"{100 * loss.share:.2f} ({100 * loss.low:.2f} to {100 * loss.high:.2f})"
        print(f"| {label} | {found.mean():.2%} | {lost} | {size:.1f} | {speed:.0f} |", flush=True)


def kept(home: Workspace, name: str) -> None:
    """Rows of a table: the original and its file in 8 bits on the full test split."""
    images = load_images(home.table, home.splits, "test")
    paths = [home.export(name) / file for file in (MODEL, QUANTISED)]
    results = [asked(path, images) for path in paths]
    difference = compare(results[1][0], results[0][0])
    lost = (
        f"{-100 * difference['difference']:.2f} "
        f"({-100 * difference['high']:.2f} to {-100 * difference['low']:.2f})"
    )
    for path, (right, speed), words in zip(paths, results, ("", lost), strict=True):
        low, high = wilson(int(right.sum()), len(right))
        print(
            f"| {name} | `{path.name}` | {right.mean():.2%} ({low:.2%} to {high:.2%}) | {words} | "
            f"{path.stat().st_size / 1e6:.1f} | {speed:.0f} |"
        )


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    home = Workspace.current()
    names = exported_models(home)
    print("# Exported files in 8 bits\n")
    print(f"`{(__doc__ or '').splitlines()[2].partition(' >')[0]}`; {describe()}.\n")
    print("Points lost are of the same images, with Agresti and Min's interval. A file is kept if")
    print("the whole interval is below one point.\n")
    print("## Kept files on all test images\n")
    columns = ("model", "file", "accuracy (95% interval)", "points lost", "MB")
    print(f"| {' | '.join(columns)} | images/s of a core's time |")
    print("|---|---|---|---|---|---|")
    for name in names:
        if (home.export(name) / QUANTISED).is_file():
            kept(home, name)
    for name in names:
        tried(home, name)


if __name__ == "__main__":
    main()
