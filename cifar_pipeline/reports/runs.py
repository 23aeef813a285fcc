"""Our runs, as recorded. They are recorded in a file of the repository, because data/ holds one
run per model and is not in git.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from cifar_pipeline.artifacts import read_json, write_json
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.subsets import NO_DUPLICATES
from cifar_pipeline.reports.files import METRICS, PROVENANCE
from cifar_pipeline.settings.base import Settings

SHOWN = {
    "top-1": "top1",
    "top-5": "top5",
    "superclass": "coarse_top1",
    "top-1 without near-duplicates": f"{NO_DUPLICATES}_top1",
}
INTERVALS = (*SHOWN.values(), "nll")
KEPT = (
    "profile",
    "parameters",
    "trainable_parameters",
    "training_s",
    "archive_sha256",
    "hardware",
    "versions",
    "code_revision",
    "finished",
)
COUNTS = ("parameters", "trainable_parameters")
Record = TypeVar("Record", bound=Settings)


class Run(Settings):
    """One of our runs, as recorded."""

    recipe: str
    """without its seed: that of a recipe which repeats another with another seed is the other's"""
    run_id: str
    profile: str
    seed: int
    weights: str
    weights_sha256: str = ""
    """of the file that it started from; empty for weights that Keras fetches, and for none"""
    settings_sha256: str = ""
    """of the recipe's settings, without its seed and the place of its weights, so that a recipe
    that was changed is told from one that was repeated; empty in the oldest records"""
    n: int
    parameters: int
    trainable_parameters: int
    training_s: float
    metrics: dict[str, float]
    """each with `_low` and `_high`"""
    archive_sha256: str
    hardware: str
    versions: dict[str, str]
    code_revision: str
    finished: str

    def measured(self, metric: str) -> tuple[float, float, float]:
        """The figure and the ends of its interval, which are those of a count itself."""
        if metric in COUNTS:
            return (getattr(self, metric),) * 3
        value, low, high = (self.metrics[f"{metric}{end}"] for end in ("", "_low", "_high"))
        return value, low, high


def load_runs(path: Path) -> list[Run]:
    """The recorded runs, as `load_records` has them."""
    return load_records(path, Run)


def load_records(path: Path, kind: type[Record]) -> list[Record]:
    """What a file of the repository has recorded; nothing if the file is missing.

    Raises:
        PipelineError: the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        adapter = TypeAdapter(list[kind])  # type: ignore[valid-type]
        return adapter.validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise PipelineError(
            f"{path} is damaged ({error.error_count()} errors); restore it with `git checkout`"
        ) from None


def run_of(recipe: str, folder: Path) -> Run | None:
    """The run that the report in `folder` is about.

    Returns:
        None if it is on generated images, which say nothing of any claim.

    Raises:
        PipelineError: the report is missing or an older release wrote it.
    """
    keys = tuple(f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high"))
    metrics = read_json(folder / METRICS, ("n", *keys))
    provenance = read_json(folder / PROVENANCE, (*KEPT, "generated", "run", "recipe", "weights"))
    if provenance["generated"]:
        return None
    return Run.model_validate(
        {
            **{key: provenance[key] for key in KEPT},
            "recipe": recipe,
            "run_id": provenance["run"]["id"],
            "seed": provenance["recipe"]["seed"],
            "settings_sha256": _settings_digest(provenance["recipe"]),
            "weights": provenance["weights"]["name"],
            "weights_sha256": provenance["weights"].get("sha256", ""),
            "n": metrics["n"],
            "metrics": {key: metrics[key] for key in keys},
        }
    )


def runs_of(reports: Iterable[tuple[str, Path]]) -> list[Run]:
    """The runs on CIFAR-100 that reports are about, of those that have been made.

    Args:
        reports: recipes, each without its seed, with the folder of a report, which need not exist.

    Raises:
        PipelineError: an older release wrote one of them.
    """
    made = [(name, folder) for name, folder in reports if (folder / METRICS).is_file()]
    return [run for name, folder in made if (run := run_of(name, folder))]


def merge(recorded: Sequence[Run], runs: Sequence[Run]) -> list[Run]:
    """Both, each run once, ordered by recipe, profile and time."""
    by_id = {(run.recipe, run.seed, run.run_id): run for run in (*recorded, *runs)}
    return sorted(
        by_id.values(), key=lambda run: (run.recipe, run.profile, run.finished, run.run_id)
    )


def record(path: Path, runs: Sequence[Run]) -> None:
    """Write `runs` to `path`."""
    write_json(path, [run.model_dump(mode="json") for run in runs])


def readings(runs: Sequence[Run]) -> Counter[tuple[str, str, int]]:
    """How often the test split was read, by recipe, profile and seed: once a run.

    A recipe that was changed after its figure was seen was chosen by that figure, if only a little.
    Its runs stay recorded under its name, so that each figure says how many there were. Another
    seed chooses nothing.
    """
    return Counter((run.recipe, run.profile, run.seed) for run in runs)


def _settings_digest(recipe: Mapping[str, Any]) -> str:
    own = {key: value for key, value in recipe.items() if key not in ("seed", "weights")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
