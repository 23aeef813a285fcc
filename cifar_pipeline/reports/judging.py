"""What our runs say of each claim, by the rule that stands in claims.yaml."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from scipy.stats import t as student

from cifar_pipeline.drawing.numbers import NONE, count, decimal, percent
from cifar_pipeline.drawing.pages import starting_point
from cifar_pipeline.reports.claims import Claim, load_published
from cifar_pipeline.reports.runs import COUNTS, Run, readings

TEST_IMAGES = 10_000
PAPER = "paper"
"""The profile with the settings that the reports state."""
ENOUGH_SEEDS = 3
"""From so many on, a claim is judged by how the seeds differ."""
METRIC_NAMES = {
    "top1": "top-1",
    "nll": "loss",
    "parameters": "parameters",
    "trainable_parameters": "trainable parameters",
}
VERDICTS = ("reproduced", "not reproduced", "undecided", "not yet run", "nothing to reproduce")
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
