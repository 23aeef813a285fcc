"""A search's space in Optuna's terms, and the trials that each stage will run: all of them are known before the first starts.

So a search that is killed and started again tries what it would have tried. Optuna's seeded random sampler would begin its sequence anew.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from cifar_pipeline.search.settings import Choices, Range, Search


def distributions(space: Mapping[str, Range | Choices]) -> dict[str, BaseDistribution]:
    """Optuna's. A choice is drawn as JSON text, since Optuna takes no lists or mappings."""
    return {key: _distribution(values) for key, values in space.items()}


def _distribution(values: Range | Choices) -> BaseDistribution:
    if not isinstance(values, Range):
        return CategoricalDistribution([json.dumps(value) for value in values])
    if all(isinstance(number, int) for number in (values.low, values.high, values.step or 1)):
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(values.low, values.high, log=values.log, step=values.step)


def decoded(search: Search, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's values of a trial's parameters."""
    return {key: value if isinstance(search.space[key], Range) else json.loads(value) for key, value in parameters.items()}


def plan_draws(search: Search) -> list[dict[str, Any]]:
    """Parameters of the first stage's trials, drawn by Optuna."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(search.seed))
    return [study.ask(distributions(search.space)).params for _ in range(search.draws.trials)]


def plan_grid(search: Search, best: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameters of the second stage's trials: every combination of the values on which `best` disagree, the best's own first."""
    assert search.grid is not None
    values = {key: list(dict.fromkeys(parameters[key] for parameters in best)) for key in search.space}
    grid = [dict(zip(values, combination, strict=True)) for combination in itertools.product(*values.values())]
    # What won once is tried again; of the others, which are many where ranges were drawn from, a choice.
    order = np.random.default_rng(search.seed).permutation(np.arange(1, len(grid)))[: search.grid.trials - 1]
    return [grid[0], *(grid[index] for index in sorted(order))]
