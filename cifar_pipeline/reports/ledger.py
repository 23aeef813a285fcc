"""The ledger of claims: what was published beside what was measured. The claims and their rule are in claims.yaml.

Runs are recorded in a file of the repository, because data/ holds one run a model, and nothing in it is in git.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import TypeAdapter, ValidationError

from cifar_pipeline.artifacts import read_json, replacing_folder, write_json
from cifar_pipeline.drawing.pages import render, starting_point, table_html
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.settings.base import Settings

TEST_IMAGES = 10_000
SHOWN = {
    "top-1": "top1",
    "top-5": "top5",
    "superclass": "coarse_top1",
    "without duplicates": "no_duplicates_top1",
}
INTERVALS = (*SHOWN.values(), "nll")
KEPT = (
    *(
        "profile",
        "parameters",
        "trainable_parameters",
        "training_s",
        "archive_sha256",
        "hardware",
        "versions",
        "code_revision",
        "finished",
    ),
)
METRIC_NAMES = {
    "top1": "top-1",
    "nll": "loss",
    "parameters": "parameters",
    "trainable_parameters": "trainable parameters",
}
HEADINGS = (
    "claim",
    "system",
    "metric",
    "claimed",
    "what its own code shows",
    "verdict",
    "re-run with its settings",
    "other settings",
)


class Claim(Settings):
    """One published figure."""

    system: str
    what: str
    recipe: str | None = None
    """ours of that system; None where there is none yet"""
    variant: str | None = None
    """another recipe of ours of that system, shown under other settings"""
    weights: str | None = None
    """that it started from"""
    metric: Literal["top1", "nll", "parameters", "trainable_parameters"]
    value: float | None = None
    """as the report's text has it; where that is silent, nothing is claimed"""
    output: float | None = None
    """as a stored output of its notebook has it; judged where the text is silent"""
    evidence: str
    """what its own code and outputs show"""


class Run(Settings):
    """One of our runs, as recorded."""

    recipe: str
    run_id: str
    profile: str
    seed: int
    weights: str
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


def load_claims() -> list[Claim]:
    """The claims of claims.yaml."""
    return TypeAdapter(list[Claim]).validate_python(
        yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text())
    )


def load_runs(path: Path) -> list[Run]:
    """The recorded runs, none where the file is missing.

    Raises: PipelineError when the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[Run]).validate_json(path.read_text())
    except ValidationError as error:
        raise PipelineError(
            f"{path} is damaged ({error.error_count()} errors); restore it with `git checkout`"
        ) from None


def run_of(recipe: str, report: Path) -> Run | None:
    """The run that `report` is on; None for one on generated images, which says nothing of any claim.

    Raises: PipelineError when the report is missing or of an older release.
    """
    metrics = read_json(
        report / "metrics.json",
        ("n", *(f"{name}{end}" for name in INTERVALS for end in ("", "_low", "_high"))),
    )
    provenance = read_json(
        report / "provenance.json", (*KEPT, "generated", "run", "recipe", "weights")
    )
    if provenance["generated"]:
        return None
    kept = {
        f"{name}{end}": metrics[f"{name}{end}"]
        for name in INTERVALS
        for end in ("", "_low", "_high")
    }
    content = {key: provenance[key] for key in KEPT}
    return Run.model_validate(
        {
            **content,
            "recipe": recipe,
            "run_id": provenance["run"]["id"],
            "seed": provenance["recipe"]["seed"],
            "weights": provenance["weights"]["name"],
            "n": metrics["n"],
            "metrics": kept,
        }
    )


def merge(recorded: Sequence[Run], runs: Sequence[Run]) -> list[Run]:
    """Both, a run once, by recipe, profile and time."""
    by_id = {(run.recipe, run.run_id): run for run in (*recorded, *runs)}
    return sorted(
        by_id.values(), key=lambda run: (run.recipe, run.profile, run.finished, run.run_id)
    )


def record(path: Path, runs: Sequence[Run]) -> None:
    """Write `runs` to `path`."""
    write_json(path, [run.model_dump(mode="json") for run in runs])


def judge(claim: Claim, runs: Sequence[Run]) -> dict[str, str]:
    """The ledger's row of `claim`, by the rule that stands in claims.yaml."""
    recipes = (claim.recipe, claim.variant)
    own = sorted(
        (run for run in runs if run.recipe in recipes and run.n == TEST_IMAGES),
        key=lambda run: run.finished,
    )
    reruns = [
        run
        for run in own
        if run.recipe == claim.recipe and run.profile == "paper" and run.weights == claim.weights
    ]
    others = [run for run in own if run not in reruns]
    figure = claim.output if claim.value is None else claim.value
    if figure is None:
        verdict = "nothing to reproduce"
    elif not reruns:
        verdict = "not yet run"
    else:
        low, high = _bounds(claim.metric, reruns[0])
        verdict = "reproduced" if low <= figure <= high else "not reproduced"
    cells = (
        claim.system,
        claim.what,
        METRIC_NAMES[claim.metric],
        "–" if claim.value is None else _figure(claim.metric, claim.value),
        claim.evidence
        if claim.output is None
        else f"{_figure(claim.metric, claim.output)}; {claim.evidence}".removesuffix("; "),
        verdict,
        _measured(claim, reruns[0]) if reruns else "–",
        _measured(claim, others[-1]) if others else "–",
    )
    return dict(zip(HEADINGS, cells, strict=True))


def ledger(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a claim."""
    return pd.DataFrame([judge(claim, runs) for claim in load_claims()], columns=list(HEADINGS))


def markdown(rows: pd.DataFrame) -> str:
    """The ledger as the README has it."""
    lines = ["| " + " | ".join(rows.columns) + " |", "|" + "---|" * len(rows.columns)]
    return (
        "\n".join(
            [*lines, *("| " + " | ".join(row) + " |" for row in rows.itertuples(index=False))]
        )
        + "\n"
    )


def write_ledger(runs: Sequence[Run], folder: Path) -> dict[str, int]:
    """Write `ledger.csv` and a page to `folder`; return how many claims have which verdict."""
    rows = ledger(runs)
    with replacing_folder(folder) as new:
        rows.to_csv(new / "ledger.csv", index=False)
        page = render(
            "ledger.html.j2",
            title="The ledger of claims",
            subtitle=f"{len(rows)} published figures; runs of ours on CIFAR-100: {len(runs)}",
            generated=False,
            table=table_html(rows),
            runs=table_html(_described(runs)),
        )
        (new / "index.html").write_text(page)
    return {str(verdict): int(count) for verdict, count in rows["verdict"].value_counts().items()}


def _bounds(metric: str, run: Run) -> tuple[float, float]:
    if metric in ("parameters", "trainable_parameters"):
        return getattr(run, metric), getattr(run, metric)
    return run.metrics[f"{metric}_low"], run.metrics[f"{metric}_high"]


def _figure(metric: str, value: float) -> str:
    return {"top1": f"{value:.2%}", "nll": f"{value:.3f}"}.get(metric, f"{value:,.0f}")


def _measured(claim: Claim, run: Run) -> str:
    metric, variant = claim.metric, f"`{run.recipe}`, " if run.recipe == claim.variant else ""
    where = f"{variant}`{run.profile}`, from {starting_point(run.weights)}, n {run.n:,}, run {run.run_id[:8]}"
    low, high = (_figure(metric, bound) for bound in _bounds(metric, run))
    if low == high:
        return f"{low} ({where})"
    return f"{_figure(metric, run.metrics[metric])}, {low} to {high} ({where})"


def _described(runs: Sequence[Run]) -> pd.DataFrame:
    def _interval(metrics: dict[str, float], key: str) -> str:
        return f"{metrics[key]:.2%}, {metrics[f'{key}_low']:.2%} to {metrics[f'{key}_high']:.2%}"

    def row(run: Run) -> dict[str, Any]:
        return {
            "recipe": run.recipe,
            "profile": run.profile,
            "seed": run.seed,
            "started from": starting_point(run.weights),
            **{name: _interval(run.metrics, key) for name, key in SHOWN.items()},
            "training, min": f"{run.training_s / 60:.1f}",
            "run": run.run_id,
            "finished": run.finished,
            "code": run.code_revision,
            "hardware": run.hardware,
            "versions": ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        }

    return pd.DataFrame([row(run) for run in runs])
