"""A search's space in Optuna's terms, and the trials that each stage will run.

All trials of a stage are known before the first one starts, so that a search that is killed and
started again tries what it would have tried. Optuna's seeded random sampler would begin its
sequence anew.
"""

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import Trial

from cifar_pipeline.settings.search import Choices, Range, Search


def suggest(trial: Trial, space: Mapping[str, Range | Choices]) -> dict[str, Any]:
    """The recipe's values of a trial: those that it has, or is planned to have, else drawn.

    A choice is drawn as JSON text, since Optuna takes no lists or mappings.
    """
    return {key: _suggest(trial, key, values) for key, values in space.items()}


def _suggest(trial: Trial, key: str, values: Range | Choices) -> Any:
    if not isinstance(values, Range):
        return json.loads(trial.suggest_categorical(key, [json.dumps(value) for value in values]))
    if values.of_whole_numbers:
        return trial.suggest_int(
            key, int(values.low), int(values.high), step=int(values.step or 1), log=values.log
        )
    return trial.suggest_float(key, values.low, values.high, step=values.step, log=values.log)


def decoded(search: Search, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's values of a trial's parameters."""
    return {
        key: value if isinstance(search.space[key], Range) else json.loads(value)
        for key, value in parameters.items()
    }


def plan_draws(search: Search) -> list[dict[str, Any]]:
    """Parameters of the first stage's trials, drawn by Optuna."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(search.seed))
    trials = [study.ask() for _ in range(search.draws.trials)]
    for trial in trials:
        suggest(trial, search.space)
    return [trial.params for trial in trials]


def plan_grid(search: Search, best: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Parameters of the second stage's trials: every combination of the values on which `best`
    disagree, beginning with those of the best trial."""
    assert search.grid is not None
    values = {
        key: list(dict.fromkeys(parameters[key] for parameters in best)) for key in search.space
    }
    grid = [
        dict(zip(values, combination, strict=True))
        for combination in itertools.product(*values.values())
    ]
    # What won once is tried again. The other combinations are many if values were drawn from
    # ranges, so a random choice of them is tried.
    order = np.random.default_rng(search.seed).permutation(np.arange(1, len(grid)))[
        : search.grid.trials - 1
    ]
    return [grid[0], *(grid[index] for index in sorted(order))]
