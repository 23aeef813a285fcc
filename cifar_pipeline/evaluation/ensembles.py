"""What averaging the probabilities of several models, or of mirror images, gains and costs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.comparison import compare
from cifar_pipeline.evaluation.metrics import (
    Predictions,
    accuracy_with_interval,
    negative_log_likelihoods,
)
from cifar_pipeline.settings.evaluation import Ensemble

COLUMNS = (
    *(
        "ensemble",
        "members",
        "mirrored",
        "classes",
        "n",
        "passes",
        "parameters",
        "top1",
        "top1_low",
        "top1_high",
        "nll",
    ),
    *("best_member", "difference", "low", "high", "p_value"),
)


def views(members: Sequence[Predictions], *, mirrored: bool) -> list[np.ndarray]:
    """The probabilities to be averaged, each from one pass of the images through a network."""
    return [
        probabilities
        for member in members
        for probabilities in (member.probabilities, *([member.mirrored] if mirrored else []))
    ]


def compare_with_members(
    ensembles: Mapping[str, Ensemble],
    predictions: Mapping[str, Predictions],
    parameters: Mapping[str, int],
) -> pd.DataFrame:
    """One row per ensemble, best first: accuracy, loss, cost, and `compare` with its best member.

    The best member is chosen on the same images, so the gain is rather under- than overstated.

    Source: Lakshminarayanan et al. 2017 for the mean of probabilities.

    Raises:
        PipelineError: the members predicted different images or classes.
    """
    rows: list[dict[str, Any]] = []
    for name, ensemble in ensembles.items():
        members = {member: predictions[member] for member in ensemble.members}
        first, *others = members.values()
        if any(
            not np.array_equal(first.row_id, other.row_id) or first.target != other.target
            for other in others
        ):
            raise PipelineError(
                f"the members of the ensemble '{name}' predicted different images or classes; "
                "materialize their predictions again"
            )
        averaged = views(list(members.values()), mirrored=ensemble.mirrored)
        probabilities = np.mean(averaged, axis=0)
        correct = probabilities.argmax(axis=1) == first.true
        alone = {
            member: predicted.predicted == predicted.true for member, predicted in members.items()
        }
        best = max(alone, key=lambda member: alone[member].mean())
        rows.append(
            {
                "ensemble": name,
                "members": ", ".join(members),
                "mirrored": ensemble.mirrored,
                "classes": probabilities.shape[1],
                "n": len(correct),
                "passes": len(averaged),
                "parameters": sum(parameters[member] for member in members),
                **accuracy_with_interval("top1", correct),
                "nll": float(negative_log_likelihoods(probabilities, first.true).mean()),
                "best_member": best,
                **compare(correct, alone[best]),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).sort_values(
        ["classes", "top1"], ascending=False, kind="stable", ignore_index=True
    )
