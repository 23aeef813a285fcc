"""Every figure and table of one model, from its predictions."""

from dataclasses import dataclass

import pandas as pd

from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.evaluation.calibration import (
    Confidence,
    area_under_risk_coverage,
    expected_calibration_error,
    reliability,
    risk_coverage,
    scale,
)
from cifar_pipeline.evaluation.metrics import (
    Predictions,
    accuracy_with_interval,
    brier_score,
    compute_metrics,
    confusion,
    most_confused,
    negative_log_likelihoods,
    per_class,
)
from cifar_pipeline.settings.recipe import Target

CONFUSED_PAIRS = 20
OF_FINE_CLASSES = {"confusion_fine", "superclasses"}
"""Tables that would repeat others for a model of the superclasses."""


@dataclass(frozen=True)
class Evaluation:
    """Everything that is computed from the predictions of one model."""

    target: Target
    metrics: dict[str, float]
    classes: pd.DataFrame
    superclasses: pd.DataFrame
    fine: pd.DataFrame
    """confusion counts of the classes"""
    coarse: pd.DataFrame
    """confusion counts of the superclasses"""
    reliability: dict[str, pd.DataFrame]
    """bins by model: `as trained` and, if a temperature was fitted, `scaled`"""
    risk: pd.DataFrame

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by file name, each indexed by what its rows are about."""
        tables = {
            "classes": self.classes,
            "superclasses": self.superclasses,
            "confusion_fine": self.fine,
            "confusion_coarse": self.coarse,
            "most_confused": most_confused(self.fine, CONFUSED_PAIRS).set_index("class"),
            "reliability": pd.concat(self.reliability, names=["model", "bin"]),
            "risk_coverage": self.risk.set_index("coverage"),
        }
        return {
            name: table
            for name, table in tables.items()
            if name not in OF_FINE_CLASSES or self.target == "fine"
        }


def evaluate(
    predicted: Predictions, classes: Classes, subsets: pd.DataFrame, temperature: float | None
) -> Evaluation:
    """Compute every figure and table of a model.

    Args:
        predicted: of the whole test split.
        classes: what the model predicts.
        subsets: as `read_subsets` returns them, one row per prediction.
        temperature: fitted on validation images; None if there were none, and then there are no
            scaled figures.

    Raises:
        PipelineError: a class has no images.
    """
    true, guess = predicted.true, predicted.predicted
    coarse_true, coarse_guess = classes.coarse_of[true], classes.coarse_of[guess]
    by_class = per_class(true, guess, classes.names)
    by_class.insert(0, "superclass", [classes.coarse_names[label] for label in classes.coarse_of])
    confidence = Confidence.of(predicted.probabilities, true)
    diagrams = {"as trained": reliability(confidence)}
    risk = risk_coverage(confidence)
    metrics = compute_metrics(predicted, classes)
    for name, member in subsets.items():
        metrics |= {
            f"{name}_n": int(member.sum()),
            **accuracy_with_interval(f"{name}_top1", (guess == true)[member.to_numpy()]),
        }
    metrics |= {
        "ece15": expected_calibration_error(diagrams["as trained"]),
        "aurc": area_under_risk_coverage(risk),
    }
    if temperature is not None:
        scaled = scale(predicted.probabilities, temperature)
        diagrams["scaled"] = reliability(Confidence.of(scaled, true))
        metrics |= {
            "temperature": temperature,
            "nll_scaled": float(negative_log_likelihoods(scaled, true).mean()),
            "brier_scaled": brier_score(scaled, true),
            "ece15_scaled": expected_calibration_error(diagrams["scaled"]),
        }
    return Evaluation(
        predicted.target,
        metrics,
        by_class,
        per_class(coarse_true, coarse_guess, classes.coarse_names).rename_axis("superclass"),
        confusion(true, guess, classes.names),
        confusion(coarse_true, coarse_guess, classes.coarse_names),
        diagrams,
        risk,
    )
