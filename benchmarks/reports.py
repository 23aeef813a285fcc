"""Time and memory of a report, and its figures beside scikit-learn's from the same predictions.

python -m benchmarks.reports MODEL > benchmarks/results/reports.md
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    top_k_accuracy_score,
)

from benchmarks.environment import describe, spread
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.report import Inputs, write_report


def write_once(model: str) -> dict[str, float]:
    home = Workspace.current()
    inputs = Inputs(home.predictions(model), home.model(model), home.table, home.test_subsets)
    with tempfile.TemporaryDirectory() as folder:
        return write_report(model, inputs, Path(folder) / "report")


def independent(predicted: Predictions) -> dict[str, float]:
    """The same metrics, computed by scikit-learn."""
    true, guess, probabilities, labels = (
        predicted.true,
        predicted.predicted,
        predicted.probabilities,
        np.arange(100),
    )
    confidence, correct = probabilities.max(axis=1), guess == true
    shares, means = calibration_curve(correct, confidence, n_bins=15, strategy="uniform")
    sizes = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    return {
        "top1": accuracy_score(true, guess),
        "top5": top_k_accuracy_score(true, probabilities, k=5, labels=labels),
        "balanced_accuracy": balanced_accuracy_score(true, guess),
        "macro_f1": f1_score(true, guess, average="macro"),
        "nll": log_loss(true, probabilities, labels=labels),
        "brier": brier_score_loss(true, probabilities, labels=labels, scale_by_half=False),
        "ece15": float((np.abs(shares - means) * sizes[sizes > 0]).sum() / len(true)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("-n", type=int, default=3)
    parser.add_argument(
        "--once", action="store_true", help="write one report and print nothing; the timed process"
    )
    arguments = parser.parse_args()
    if arguments.once:
        write_once(arguments.model)
        return
    seconds = []
    for _ in range(arguments.n):  # processes of their own, so that imports count
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "benchmarks.reports", arguments.model, "--once"], check=True
        )
        seconds.append(time.perf_counter() - start)
    gigabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    metrics = write_once(arguments.model)
    print(f"# A report\n\n`python -m benchmarks.reports {arguments.model}`; {describe()}.\n")
    print(
        f"From saved predictions of {metrics['n']:,} images: {spread(seconds)} s, imports included,"
    )
    print(f"n = {len(seconds)}; peak memory {gigabytes:.2f} GB.\n")
    print("| metric | ours | scikit-learn's |\n|---|---|---|")
    for name, value in independent(
        Predictions.read(Workspace.current().predictions(arguments.model))
    ).items():
        print(f"| {name} | {metrics[name]:.6f} | {value:.6f} |")


if __name__ == "__main__":
    main()
