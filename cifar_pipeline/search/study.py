"""Running a search: trials one after another, each kept when it ends, the running one going on from its last epoch after a kill."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sklearn.model_selection import StratifiedKFold

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import Images
from cifar_pipeline.recipes import Recipe
from cifar_pipeline.search.settings import Draws, Grid, Search, recipe_of_trial
from cifar_pipeline.search.space import decoded, distributions, plan_draws, plan_grid
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.progress import EpochRecord

DRAWS, GRID = "draws", "grid"
PLACE, CONTINUES, EPOCHS, SECONDS, ERROR, ACCURACIES = "place", "continues", "epochs", "seconds", "error", "accuracies"
Folds = Sequence[tuple[Images, Images]]


@dataclass(frozen=True)
class Data:
    """What a search may see: the training and the validation split."""

    training: Images
    validation: Images
    identity: str
    """changes with them"""

    def folds(self, count: int, seed: int) -> Folds:
        """Pairs to train on and to score on: parts of the training split, or the two splits where `count` is 1."""
        if count == 1:
            return [(self.training, self.validation)]
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
        return [
            (self.training.take(rest), self.training.take(held_out))
            for rest, held_out in splitter.split(np.zeros(len(self.training)), self.training.label)
        ]


class SearchRun:
    """One search in a folder of its own, which holds Optuna's storage and the running trial's checkpoints.

    Args:
        report: called with the study and the trial whenever one ends.
    """

    def __init__(self, base: Recipe, search: Search, data: Data, folder: Path, report: Callable[[optuna.Study, FrozenTrial], None]) -> None:
        self._base, self._search, self._data, self._report = base, search, data, report
        content = [base.model_dump(mode="json"), search.model_dump(mode="json"), data.identity]
        self._identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self.folder = folder / self._identity[:16]

    def run(self) -> dict[str, optuna.Study]:
        """Run what is left of the search; the studies of its stages by name.

        Raises: PipelineError when every trial of a stage failed.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._remove_others()
        draws = self._study(DRAWS, self._search.draws, plan_draws(self._search))
        self._run_stage(draws, self._search.draws)
        if not (stage := self._search.grid):
            return {DRAWS: draws}
        best = [trial.params for trial in ranked(draws)[: stage.best]]
        grid = self._study(GRID, stage, plan_grid(self._search, best))
        self._run_stage(grid, stage)
        return {DRAWS: draws, GRID: grid}

    def winner(self, studies: dict[str, optuna.Study]) -> Recipe:
        """The recipe of the best trial of the last stage, at that stage's epochs and batch size."""
        stage = self._search.grid or self._search.draws
        study = studies[GRID if self._search.grid else DRAWS]
        return recipe_of_trial(self._base, stage, decoded(self._search, ranked(study)[0].params))

    def _remove_others(self) -> None:
        # A changed search begins anew; what an earlier one left is of no use to it.
        if self.folder.parent.is_dir():
            for other in self.folder.parent.iterdir():
                if other != self.folder:
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)

    def _study(self, name: str, stage: Draws | Grid, plan: list[dict[str, Any]]) -> optuna.Study:
        storage = f"sqlite:///{self.folder / 'study.sqlite'}"
        halving = optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, stage.epochs // 8), reduction_factor=2)
        pruner = halving if self._search.prune else optuna.pruners.NopPruner()
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", pruner=pruner, load_if_exists=True)
        planned = {trial.user_attrs[PLACE] for trial in study.get_trials(deepcopy=False)}
        for trial in study.get_trials(states=[TrialState.RUNNING]):
            # Optuna has no way to go on with a trial whose process died (optuna #2705, #6283).
            study.enqueue_trial(plan[trial.user_attrs[PLACE]], user_attrs={PLACE: trial.user_attrs[PLACE], CONTINUES: trial.number})
            study.tell(trial.number, state=TrialState.FAIL)
        for place, parameters in enumerate(plan):
            if place not in planned:  # the kill may have cut the planning short, too
                study.enqueue_trial(parameters, user_attrs={PLACE: place})
        return study

    def _run_stage(self, study: optuna.Study, stage: Draws | Grid) -> None:
        folds = self._data.folds(stage.folds, self._search.seed)
        while study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            trial = study.ask(distributions(self._search.space))
            if (before := trial.user_attrs.get(CONTINUES)) is not None:
                for step, value in study.get_trials(deepcopy=False)[before].intermediate_values.items():
                    trial.report(value, step)
            checkpoints = self.folder / f"{study.study_name}-{trial.user_attrs[PLACE]:04}"
            try:
                score = self._score(trial, stage, folds, checkpoints)
                study.tell(trial, score)
            except optuna.TrialPruned:
                study.tell(trial, state=TrialState.PRUNED)
            except PipelineError as error:  # a rate at which the loss is no longer finite is a result, not the search's end
                trial.set_user_attr(ERROR, str(error))
                study.tell(trial, state=TrialState.FAIL)
            shutil.rmtree(checkpoints, ignore_errors=True)
            self._report(study, study.get_trials(deepcopy=False)[trial.number])
        if not ranked(study):
            errors = {str(trial.user_attrs[ERROR]) for trial in study.get_trials(deepcopy=False) if ERROR in trial.user_attrs}
            raise PipelineError(f"no trial of the stage `{study.study_name}` came to its end; {'; '.join(sorted(errors))}")

    def _score(self, trial: Trial, stage: Draws | Grid, folds: Folds, checkpoints: Path) -> float:
        """Mean over the folds of the accuracy after the epoch with the lowest loss, as trainings keep their weights."""
        recipe = recipe_of_trial(self._base, stage, decoded(self._search, trial.params))
        accuracies: list[float] = []
        epochs, seconds = 0, 0.0
        for number, (training, validation) in enumerate(folds):

            def follow(record: EpochRecord, left: float, number: int = number, epochs: int = epochs, seconds: float = seconds) -> None:
                trial.set_user_attr(EPOCHS, epochs + record.epoch)
                trial.set_user_attr(SECONDS, round(seconds + record.seconds, 1))
                if number == 0:
                    trial.report(record.val_accuracy, record.epoch)
                    if trial.should_prune():
                        raise optuna.TrialPruned

            keras.backend.clear_session()
            identity = f"{self._identity} {trial.study.study_name} {trial.user_attrs[PLACE]} {number}"
            result = train(recipe, training, validation, Checkpoints(checkpoints / f"fold-{number}", identity), follow)
            accuracies.append(result.best.val_accuracy)
            epochs, seconds = epochs + len(result.history), seconds + result.history[-1].seconds
        trial.set_user_attr(EPOCHS, epochs)
        trial.set_user_attr(SECONDS, round(seconds, 1))
        trial.set_user_attr(ACCURACIES, accuracies)
        return float(np.mean(accuracies))


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to their end, best first; of equals the earlier."""
    return sorted(
        study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]), key=lambda trial: (-(trial.value or 0.0), trial.user_attrs[PLACE])
    )


def last_attempts(study: optuna.Study) -> Iterator[FrozenTrial]:
    """Every trial once: of one that was killed, the attempt that went on from it."""
    latest = {trial.user_attrs[PLACE]: trial for trial in study.get_trials(deepcopy=False)}
    return iter(latest.values())
