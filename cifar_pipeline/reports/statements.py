"""Claims that are not one figure, each tested by the rule that stands in claims.yaml."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Literal

from scipy.stats import t as student

from cifar_pipeline.drawing.numbers import decimal, percent, points
from cifar_pipeline.reports.claims import Condition, Statement, load_published
from cifar_pipeline.reports.judging import ENOUGH_SEEDS, PAPER
from cifar_pipeline.reports.runs import Run, load_records
from cifar_pipeline.settings.base import Settings

Outcome = Literal["holds", "fails", "is open", "has not been run yet"]
Interval = tuple[float, float, float]
"""A figure and the ends of its 95% interval."""
LOSS = "loss"
"""The only metric that is not a share."""


class Measurement(Settings):
    """What one training of a study reached."""

    study: str
    setting: str
    seed: int
    figures: dict[str, float]
    """by metric; one of a single training has `_low` and `_high` too"""


@dataclass(frozen=True)
class Examined:
    """A condition, and what the trainings say of it."""

    condition: Condition
    seeds: int
    interval: Interval | None
    """None before there are enough seeds"""

    @property
    def outcome(self) -> Outcome:
        """Whether the whole interval lies on the claimed side of the bound, or on the other."""
        if self.interval is None:
            return "has not been run yet"
        _, low, high = self.interval
        if self.condition.above is not None:
            beyond, short = low > self.condition.above, high <= self.condition.above
        else:
            assert self.condition.below is not None  # it has one bound
            beyond, short = high < self.condition.below, low >= self.condition.below
        return "holds" if beyond else "fails" if short else "is open"

    @property
    def told(self) -> str:
        """The rule and its outcome in words."""
        condition = self.condition
        side, bound = (
            ("above", condition.above) if condition.below is None else ("below", condition.below)
        )
        limit = self._written(bound) if bound else "zero"
        less = f" less that of {condition.minus}" if condition.minus else ""
        rule = f"{condition.metric} of {condition.of}{less} is {side} {limit}"
        if self.interval is None:
            return f"{rule}: {self.outcome}"
        value, low, high = (self._written(figure) for figure in self.interval)
        unit = " points" if condition.minus and condition.metric != LOSS else ""
        seeds = f", {self.seeds} seeds" if self.seeds > 1 else ""
        return f"{rule}: {self.outcome}, {value} ({low} to {high}){unit}{seeds}"

    def _written(self, figure: float) -> str:
        if self.condition.metric == LOSS:
            return decimal(figure)
        return points(figure) if self.condition.minus else percent(figure)


@dataclass(frozen=True)
class Judged:
    """A statement, and the conditions that decide on it."""

    statement: Statement
    examined: tuple[Examined, ...]

    @property
    def verdict(self) -> str:
        """By the outcomes of all conditions, as claims.yaml says."""
        outcomes = [found.outcome for found in self.examined]
        if not outcomes:
            return "nothing to reproduce"
        if "fails" in outcomes:
            return "not reproduced"
        if "has not been run yet" in outcomes:
            return "not yet run"
        return "undecided" if "is open" in outcomes else "reproduced"


def load_measurements(path: Path) -> list[Measurement]:
    """The recorded trainings of studies, as `load_records` has them."""
    return load_records(path, Measurement)


def of_runs(runs: Sequence[Run]) -> list[Measurement]:
    """The runs with the reports' own settings as measurements of the study `paper`.

    Of several with one recipe and seed, the first that finished counts.
    """
    first: dict[tuple[str, int], Run] = {}
    for run in sorted(runs, key=lambda run: run.finished):
        if run.profile == PAPER:
            first.setdefault((run.recipe, run.seed), run)
    return [
        Measurement(study=PAPER, setting=recipe, seed=seed, figures=run.metrics)
        for (recipe, seed), run in first.items()
    ]


def judge_statements(measurements: Sequence[Measurement]) -> list[Judged]:
    """Each statement of claims.yaml with its verdict."""
    figures: dict[tuple[str, str], dict[int, Mapping[str, float]]] = {}
    for found in measurements:
        of_seed = figures.setdefault((found.study, found.setting), {})
        of_seed[found.seed] = {**of_seed.get(found.seed, {}), **found.figures}
    return [
        Judged(
            statement, tuple(_examined(condition, figures) for condition in statement.conditions)
        )
        for statement in load_published().statements
    ]


def _examined(
    condition: Condition, figures: Mapping[tuple[str, str], Mapping[int, Mapping[str, float]]]
) -> Examined:
    of_seed = figures.get((condition.study, condition.of), {})
    measured = _by_seed(of_seed, condition.metric)
    if condition.minus:
        other = _by_seed(figures.get((condition.study, condition.minus), {}), condition.metric)
        measured = {seed: measured[seed] - other[seed] for seed in measured if seed in other}
    if len(measured) >= ENOUGH_SEEDS:
        return Examined(condition, len(measured), _of_mean(list(measured.values())))
    return Examined(
        condition, 1, None if condition.minus else _of_images(of_seed, condition.metric)
    )


def _of_images(of_seed: Mapping[int, Mapping[str, float]], metric: str) -> Interval | None:
    """The figure of the first training that has an interval of its own."""
    keys = [f"{metric}{end}" for end in ("", "_low", "_high")]
    for found in of_seed.values():
        if found.keys() >= set(keys):
            value, low, high = (found[key] for key in keys)
            return value, low, high
    return None


def _by_seed(of_seed: Mapping[int, Mapping[str, float]], metric: str) -> dict[int, float]:
    return {seed: found[metric] for seed, found in of_seed.items() if metric in found}


def _of_mean(values: list[float]) -> Interval:
    """The mean and its 95% confidence interval (Student's t, over the seeds)."""
    wide = student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return mean(values), mean(values) - wide, mean(values) + wide
