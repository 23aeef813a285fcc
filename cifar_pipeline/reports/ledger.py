"""The ledger: what was published beside what was measured, by the rule that stands in claims.yaml.

Runs are recorded in a file of the repository, because data/ holds one run per model and is not in
git.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

import pandas as pd
import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from scipy.stats import t as student

from cifar_pipeline.artifacts import read_json, replacing_folder, write_json
from cifar_pipeline.drawing.numbers import NONE, count, decimal, percent
from cifar_pipeline.drawing.pages import Table, render, starting_point, with_interval
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.subsets import NO_DUPLICATES
from cifar_pipeline.reports.files import METRICS, PROVENANCE
from cifar_pipeline.settings.base import Settings

TEST_IMAGES = 10_000
PAPER = "paper"
"""The profile with the settings that the reports state."""
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
ENOUGH_SEEDS = 3
"""From so many on, a claim is judged by how the seeds differ."""
METRIC_NAMES = {
    "top1": "top-1",
    "nll": "loss",
    "parameters": "parameters",
    "trainable_parameters": "trainable parameters",
}
VERDICTS = ("reproduced", "not reproduced", "not yet run", "nothing to reproduce")
HEADINGS = (
    "claim",
    "system",
    "metric",
    "claimed",
    "what its own code shows",
    "verdict",
    "re-run with its settings",
    "runs with other settings",
)


class Publication(Settings):
    """A report whose claims are judged."""

    author: str
    title: str
    url: str = ""
    """empty where it is not public"""
    code: str = ""
    """where its code is, if that is another place"""


class Claim(Settings):
    """One published figure."""

    system: str
    """the letter of its report, and which of the report's systems it is of"""
    what: str
    recipe: str | None = None
    """ours of that system; None where there is none yet"""
    variant: str | None = None
    """another recipe of ours of that system, shown under other settings"""
    weights: str | None = None
    """that it started from"""
    metric: Literal["top1", "nll", "parameters", "trainable_parameters"]
    value: float | None = None
    """as the report's text states it; None where it is silent"""
    output: float | None = None
    """as a stored output of its notebook states it; judged where the text is silent"""
    evidence: str
    """what its own code and outputs show"""


class Published(Settings):
    """All reports by letter, and all of their claims."""

    reports: dict[str, Publication]
    claims: tuple[Claim, ...]
    imagenet_files: dict[str, str] = Field(default_factory=dict)
    """sha256 of files that hold the ImageNet weights which Keras fetches, by name"""

    @model_validator(mode="after")
    def _every_claim_has_a_report(self) -> "Published":
        if unknown := {
            claim.system for claim in self.claims if claim.system[0] not in self.reports
        }:
            raise ValueError(f"claims of no report: {', '.join(sorted(unknown))}")
        return self


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


@dataclass(frozen=True)
class Row:
    """A claim, the verdict on it, and our runs of its system."""

    claim: Claim
    verdict: str
    reruns: tuple[Run, ...]
    """the first run of each seed with the report's own settings, which decide"""
    others: tuple[tuple[str, Run], ...]
    """the best and the latest run with other settings, each with its label"""
    reads: Mapping[tuple[str, str, int], int]
    """how often the test split was read, by recipe, profile and seed"""

    @property
    def metric(self) -> str:
        return METRIC_NAMES[self.claim.metric]

    @property
    def claimed(self) -> str:
        return NONE if self.claim.value is None else _written(self.claim.metric, self.claim.value)

    @property
    def evidence(self) -> str:
        if self.claim.output is None:
            return self.claim.evidence
        return f"{_written(self.claim.metric, self.claim.output)}, {self.claim.evidence}"

    def figure(self, *runs: Run) -> str:
        """What one run, or one of each seed, reached in the claim's metric, with its interval."""
        value, low, high = (
            _written(self.claim.metric, figure) for figure in _measured(runs, self.claim.metric)
        )
        return value if low == high else f"{value} ({low} to {high})"

    def settings(self, *runs: Run) -> str:
        """What tells these runs from others. They have the same settings but for their seeds."""
        first = runs[0]
        recipe = f"recipe {first.recipe}, " if first.recipe == self.claim.variant else ""
        seeds = "" if len(runs) == 1 else f"mean of {len(runs)} seeds, "
        reads = max(self.reads[run.recipe, run.profile, run.seed] for run in runs)
        times = f", of {reads} readings of the test split" if reads > 1 else ""
        ids = " ".join(dict.fromkeys(run.run_id[:8] for run in runs))
        return (
            f"{seeds}{recipe}profile {first.profile}, from {starting_point(first.weights)}, "
            f"{count(first.n)} images, run {ids}{times}"
        )

    def cells(self) -> dict[str, str]:
        """The row as text, by heading."""
        others = (f"{label}: {self._told(run)}" for label, run in self.others)
        cells = (
            self.claim.system,
            self.claim.what,
            self.metric,
            self.claimed,
            self.evidence,
            self.verdict,
            self._told(*self.reruns) if self.reruns else NONE,
            "; ".join(others) or NONE,
        )
        return dict(zip(HEADINGS, cells, strict=True))

    def _told(self, *runs: Run) -> str:
        return f"{self.figure(*runs)}, {self.settings(*runs)}"


def load_published() -> Published:
    """The reports and claims of claims.yaml."""
    text = Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8")
    return Published.model_validate(yaml.safe_load(text))


def load_runs(path: Path) -> list[Run]:
    """The recorded runs; none if the file is missing.

    Raises:
        PipelineError: the file is damaged.
    """
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[Run]).validate_json(path.read_text(encoding="utf-8"))
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


def judge(claim: Claim, runs: Sequence[Run], imagenet: Collection[str] = ()) -> Row:
    """The ledger's row of `claim`, by the rule that stands in claims.yaml.

    Args:
        imagenet: sha256 of the files that count as the weights `imagenet`.
    """
    own = sorted(
        (
            run
            for run in runs
            if run.recipe in (claim.recipe, claim.variant) and run.n == TEST_IMAGES
        ),
        key=lambda run: run.finished,
    )
    reruns = [
        run
        for run in own
        if run.recipe == claim.recipe
        and run.profile == PAPER
        and claim.weights in (run.weights, "imagenet" if run.weights_sha256 in imagenet else None)
    ]
    first = _first_of_each_seed(reruns)
    figure = claim.output if claim.value is None else claim.value
    if figure is None:
        verdict = "nothing to reproduce"
    elif not first:
        verdict = "not yet run"
    else:
        _, low, high = _measured(first, claim.metric)
        verdict = "reproduced" if low <= figure <= high else "not reproduced"
    others = _best_and_latest(claim, [run for run in own if run not in reruns])
    return Row(claim, verdict, first, others, readings(runs))


def ledger(runs: Sequence[Run]) -> list[Row]:
    """One row per claim."""
    published = load_published()
    files = set(published.imagenet_files.values())
    return [judge(claim, runs, files) for claim in published.claims]


def markdown(rows: Sequence[Row]) -> str:
    """The ledger as a Markdown table, in which each claim leads to its report."""
    reports = load_published().reports
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    for row in rows:
        claim, *rest = row.cells().values()
        url = reports[row.claim.system[0]].url
        lines.append("| " + " | ".join([f"[{claim}]({url})" if url else claim, *rest]) + " |")
    return "\n".join(lines) + "\n"


def write_ledger(runs: Sequence[Run], folder: Path) -> dict[str, int]:
    """Write `ledger.csv` and a page to `folder`, replacing it.

    Returns:
        How many claims have which verdict.
    """
    rows, reports = ledger(runs), load_published().reports
    found = [row.verdict for row in rows]
    verdicts = {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}
    with replacing_folder(folder) as new:
        table = pd.DataFrame([row.cells() for row in rows], columns=list(HEADINGS))
        table.to_csv(new / "ledger.csv", index=False, encoding="utf-8")
        page = render(
            "ledger.html.j2",
            title="The ledger of claims",
            subtitle=f"{len(rows)} published figures and {len(runs)} runs of ours on CIFAR-100",
            generated=False,
            verdicts=verdicts,
            profile=PAPER,
            headings=HEADINGS[1:],
            groups=[
                {
                    "letter": letter,
                    "published": published,
                    "rows": [row for row in rows if row.claim.system[0] == letter],
                }
                for letter, published in reports.items()
            ],
            runs=_described(runs),
            machines=_machines(runs),
        )
        (new / "index.html").write_text(page, encoding="utf-8", newline="\n")
    return verdicts


def _settings_digest(recipe: Mapping[str, Any]) -> str:
    own = {key: value for key, value in recipe.items() if key not in ("seed", "weights")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def _first_of_each_seed(runs: Sequence[Run]) -> tuple[Run, ...]:
    """Of runs in the order of time; of the first one alone where there are too few seeds."""
    seeds: dict[int, Run] = {}
    for run in runs:
        seeds.setdefault(run.seed, run)
    return tuple(seeds.values())[: None if len(seeds) >= ENOUGH_SEEDS else 1]


def _measured(runs: Sequence[Run], metric: str) -> tuple[float, float, float]:
    """A run's figure with its interval, or the mean of several seeds with the 95% prediction
    interval of one further training (Student's t, over the seeds)."""
    if len(runs) == 1 or metric in COUNTS:
        return runs[0].measured(metric)
    values = [run.measured(metric)[0] for run in runs]
    further = stdev(values) * (1 + 1 / len(values)) ** 0.5
    wide = student.ppf(0.975, len(values) - 1) * further
    return mean(values), mean(values) - wide, mean(values) + wide


def _best_and_latest(claim: Claim, runs: Sequence[Run]) -> tuple[tuple[str, Run], ...]:
    """Of runs in the order of time; a count has no best."""
    if not runs:
        return ()
    latest = runs[-1]
    if claim.metric in COUNTS:
        return (("latest", latest),)
    sign = -1 if claim.metric == "nll" else 1
    best = max(reversed(runs), key=lambda run: sign * run.metrics[claim.metric])
    if best is latest:
        return (("best and latest", latest),)
    return (("best", best), ("latest", latest))


def _written(metric: str, value: float) -> str:
    if metric == "top1":
        return percent(value)
    return decimal(value) if metric == "nll" else count(value)


def _described(runs: Sequence[Run]) -> Table:
    headings = [
        "recipe",
        "profile",
        "seed",
        *SHOWN,
        "readings of the test split",
        "training, min",
        "finished",
        "run",
        "started from",
    ]
    reads = readings(runs)
    rows = [
        [
            run.recipe,
            run.profile,
            str(run.seed),
            *(
                with_interval(
                    *(percent(run.metrics[f"{key}{end}"]) for end in ("", "_low", "_high"))
                )
                for key in SHOWN.values()
            ),
            count(reads[run.recipe, run.profile, run.seed]),
            decimal(run.training_s / 60, 1),
            run.finished[:10],
            run.run_id[:8],
            starting_point(run.weights),
        ]
        for run in runs
    ]
    return Table(headings, rows, frozenset({"profile", "started from"}))


def _machines(runs: Sequence[Run]) -> Table:
    headings = ["run", "finished", "code", "hardware", "versions"]
    rows: list[list[Any]] = [
        [
            run.run_id,
            run.finished,
            run.code_revision,
            run.hardware,
            ", ".join(f"{name} {version}" for name, version in run.versions.items()),
        ]
        for run in runs
    ]
    return Table(headings, rows, frozenset(headings))
