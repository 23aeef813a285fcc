"""How well images of none of the classes are told from those of the classes, and by which score.

Command, after `python -m benchmarks.held_out --work FOLDER`:
python -m benchmarks.none_of_these --work FOLDER --photographs skimage/data --models NAME...

Near: the validation images of four superclasses that a network never saw. Far: photographs that
scikit-image ships, noise, uniform colours, rendered text, generated images. The test split is not
read.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
from scipy.special import logsumexp, softmax
from sklearn.covariance import LedoitWolf
from sklearn.metrics import roc_auc_score

from benchmarks.environment import describe
from benchmarks.outside import MADE, OUTSIDE, photograph_crops
from cifar_pipeline.dataset.splits import Split
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.evaluation.calibration import (
    Confidence,
    area_under_risk_coverage,
    risk_coverage,
)
from cifar_pipeline.evaluation.metrics import wilson
from cifar_pipeline.inputs.batches import Images, load_images
from cifar_pipeline.models.environment import configure_keras
from cifar_pipeline.models.explanation import explained
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.exported import MODEL, ExportedModel

COVERAGE = 0.95
MADE_IMAGES = 1_000
CROPS = 25
PER_CLASS = 50
COMPARED = ("maximum probability", "energy", "relative Mahalanobis")
KEPT = (1.0, 0.95, 0.9, 0.8, 0.5)
CHOOSING = ("held-out classes, first pair", "noise", "uniform colours")
RESAMPLES = 200


@dataclass(frozen=True)
class Said:
    """What a network says of images."""

    logits: np.ndarray
    features: np.ndarray

    def take(self, rows: np.ndarray) -> "Said":
        return Said(self.logits[rows], self.features[rows])


@dataclass(frozen=True)
class Case:
    """A network, what it says of images of its classes, and of others by kind."""

    name: str
    training: Said
    training_labels: np.ndarray
    inside: Said
    correct: np.ndarray
    outside: dict[str, Said]
    temperature: float
    short: str

    @cached_property
    def scores(self) -> dict[str, Callable[[Said], np.ndarray]]:
        return scores_of(self)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def scores_of(case: Case) -> dict[str, Callable[[Said], np.ndarray]]:
    """By name, what is larger for images of the classes."""
    labels, features = case.training_labels, case.training.features.astype(np.float64)
    classes = np.unique(labels)
    means = np.stack([features[labels == label].mean(axis=0) for label in classes])
    centre = features.mean(axis=0)
    within = LedoitWolf(assume_centered=True).fit(
        features - means[np.searchsorted(classes, labels)]
    )
    overall = LedoitWolf(assume_centered=True).fit(features - centre)
    # whitened, so that the distances are plain ones
    root = np.linalg.cholesky(within.precision_)
    whole = np.linalg.cholesky(overall.precision_)
    neighbours = unit(features).astype(np.float32)

    def mahalanobis(said: Said) -> np.ndarray:
        white, middles = said.features @ root, means @ root
        squares = (white**2).sum(axis=1)[:, None] - 2 * white @ middles.T + (middles**2).sum(axis=1)
        return -squares.min(axis=1)

    def relative(said: Said) -> np.ndarray:
        return mahalanobis(said) + (((said.features - centre) @ whole) ** 2).sum(axis=1)

    def nearest(said: Said) -> np.ndarray:
        likeness = unit(said.features).astype(np.float32) @ neighbours.T
        return np.partition(likeness, -10, axis=1)[:, -10]

    def entropy(said: Said) -> np.ndarray:
        probabilities = softmax(said.logits / case.temperature, axis=1)
        return (probabilities * np.log(probabilities + 1e-12)).sum(axis=1)

    return {
        "maximum probability": lambda said: softmax(said.logits / case.temperature, 1).max(axis=1),
        "entropy": entropy,
        "maximum logit": lambda said: said.logits.max(axis=1),
        "energy": lambda said: logsumexp(said.logits, axis=1),
        "energy at the temperature": lambda said: logsumexp(said.logits / case.temperature, axis=1),
        "cosine to the nearest class mean": lambda said: (
            unit(said.features - centre) @ unit(means - centre).T
        ).max(axis=1),
        "Mahalanobis": mahalanobis,
        "relative Mahalanobis": relative,
        "10th nearest neighbour (cosine)": nearest,
    }


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    return float(roc_auc_score(labels, np.concatenate([inside, outside])))


def auroc_interval(inside: np.ndarray, outside: np.ndarray, group: int) -> tuple[float, float]:
    """Bootstrap, 95%. Images of one photograph are drawn together.

    Args:
        group: how many images in a row are of one photograph.
    """
    rng = np.random.default_rng(0)
    groups = outside.reshape(-1, group)
    drawn = [
        auroc(
            rng.choice(inside, len(inside)),
            groups[rng.integers(0, len(groups), len(groups))].ravel(),
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def far_images(photographs: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    made = {name: make(MADE_IMAGES, rng) for name, make in MADE.items()}
    return {**made, "photographs": photograph_crops(photographs, CROPS, rng)}


def held_out_case(work: Path, home: Workspace, far: dict[str, np.ndarray]) -> Case:
    """The network that never saw four superclasses."""
    stored = np.load(work / "held_out.npz")
    table = read_table(home.table, ["fine_label", "coarse_label"])
    fine, coarse = (table[f"{kind}_label"].to_numpy() for kind in ("fine", "coarse"))
    said = {
        split: Said(stored[f"{split}_logits"], stored[f"{split}_features"])
        for split in ("train", "validation")
    }
    rows = stored["validation_rows"]
    known = np.isin(fine[rows], stored["classes"])
    inside = said["validation"].take(known)
    places = np.searchsorted(stored["classes"], fine[rows][known])
    explaining = explained(keras.models.load_model(work / "model.keras", compile=False))
    outside = {}
    for name, images in far.items():
        answers = explaining.predict(images, batch_size=250, verbose=0)
        outside[name] = Said(answers["logits"][:, stored["classes"]], answers["features"])
    for name, pair in (
        ("first", stored["superclasses"][:2]),
        ("second", stored["superclasses"][2:]),
    ):
        of_pair = np.isin(coarse[rows], pair)
        outside[f"held-out classes, {name} pair"] = said["validation"].take(of_pair)
    return Case(
        "`efficientnet_b0` under `quick`, trained without 20 classes",
        said["train"],
        fine[stored["train_rows"]],
        inside,
        inside.logits.argmax(axis=1) == places,
        outside,
        float(stored["temperature"]),
        "80 classes",
    )


def exported_case(name: str, home: Workspace, far: dict[str, np.ndarray]) -> Case:
    """An exported model of all classes."""
    model = ExportedModel(home.export(name) / MODEL)

    def said(images: np.ndarray) -> Said:
        answers = list(model.answers(images))
        return Said(
            np.concatenate([answer.logits for answer in answers]),
            np.concatenate([answer.features for answer in answers]),
        )

    def some(split: Split) -> Images:
        return load_images(home.table, home.splits, split, per_class=PER_CLASS, seed=0)

    training, validation = some("train"), some("validation")
    inside = said(validation.pixels)
    return Case(
        f"`{name}` under `{model.provenance['profile']}`",
        said(training.pixels),
        training.label,
        inside,
        inside.logits.argmax(axis=1) == validation.label,
        {kind: said(images) for kind, images in far.items()},
        model.temperature,
        name,
    )


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def halves(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Rows of images of the classes to choose and fit by, and rows to report."""
    rows = np.arange(len(case.correct))
    return rows[::2], rows[1::2]


def choose(cases: list[Case]) -> str:
    """Print every score's AUROC on what chooses. Return the best, all networks counting alike."""
    columns, means = [], {}
    for case in cases:
        inside = case.inside.take(halves(case)[0])
        kinds = [kind for kind in CHOOSING if kind in case.outside]
        columns += [f"{case.short}: {kind}" for kind in kinds]
        for name, score in case.scores.items():
            found = [auroc(score(inside), score(case.outside[kind])) for kind in kinds]
            means.setdefault(name, []).append(found)
    row("score", *columns, "mean")
    row(*["---"] * (len(columns) + 2))
    overall = {name: float(np.mean([np.mean(f) for f in found])) for name, found in means.items()}
    for name, found in means.items():
        cells = [f"{value:.3f}" for values in found for value in values]
        row(name, *cells, f"{overall[name]:.3f}")
    return max(overall, key=lambda name: overall[name])


def report(case: Case, names: list[str]) -> None:
    """Print figures on the other half of the images of the classes, and on the other kinds."""
    kinds = [kind for kind in case.outside if kind not in CHOOSING]
    fitted, reported = (case.inside.take(rows) for rows in halves(case))
    row("score", "outside images", "n", "AUROC", "taken for one of the classes", "classes kept")
    row(*["---"] * 6)
    for name in names:
        score = case.scores[name]
        threshold = np.quantile(score(fitted), 1 - COVERAGE)
        inside = score(reported)
        kept = f"{(inside >= threshold).mean():.1%}"
        for kind in kinds:
            outside = score(case.outside[kind])
            group = CROPS if kind == "photographs" else 1
            low, high = auroc_interval(inside, outside, group)
            accepted = int((outside >= threshold).sum())
            ends = wilson(accepted, len(outside))
            share = f"{accepted / len(outside):.1%} ({ends[0]:.1%} to {ends[1]:.1%})"
            value = f"{auroc(inside, outside):.3f} ({low:.3f} to {high:.3f})"
            row(name, kind, f"{len(outside):,}", value, share, kept)
    print()
    risks(case, names)


def risks(case: Case, names: list[str]) -> None:
    """Print the error rate among the images of the classes that each score keeps."""
    rows = halves(case)[1]
    print("Errors among the images of the classes that are kept, by the share that is kept:\n")
    row("score", *(f"{share:.0%}" for share in KEPT), "area under the curve")
    row(*["---"] * (len(KEPT) + 2))
    for name in names:
        score = case.scores[name](case.inside.take(rows))
        curve = risk_coverage(Confidence(score, case.correct[rows]))
        places = np.searchsorted(curve["coverage"], KEPT)
        cells = [f"{curve['risk'][place]:.1%}" for place in places]
        row(name, *cells, f"{area_under_risk_coverage(curve):.3f}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--models", nargs="*", default=[])
    arguments = parser.parse_args()
    configure_keras()
    home = Workspace.current()
    far = far_images(arguments.photographs)
    cases = [
        held_out_case(arguments.work, home, far),
        *(exported_case(name, home, far) for name in arguments.models),
    ]
    print("# None of these\n")
    print(f"`{(__doc__ or '').splitlines()[3]}`; {describe()}.\n")
    print(
        f"AUROC with its 95% interval: {RESAMPLES} bootstrap samples. There are {CROPS} random\n"
        f"squares of each of {len(OUTSIDE)} photographs, drawn together. Thresholds keep "
        f"{COVERAGE:.0%}\nof the half of the validation images that chooses. Shares have Wilson's "
        "95% interval.\n"
    )
    for case in cases:
        print(
            f"- {case.short}: {case.name}; {len(case.correct):,} validation images of its classes, "
            f"{case.correct.mean():.1%} correct."
        )
    print("\n## Chosen: AUROC on one half of the validation images\n")
    best = choose(cases)
    print(f"\nThe best on average over the networks: **{best}**.")
    names = list(dict.fromkeys([best, *COMPARED]))
    for case in cases:
        print(f"\n## Reported: {case.name}\n")
        report(case, names)


if __name__ == "__main__":
    main()
