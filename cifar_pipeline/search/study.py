"""Running a search: one trial after another, each kept when it ends.

After a kill the trial that was running resumes from its last whole epoch.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sklearn.model_selection import StratifiedKFold

from cifar_pipeline.errors import DivergedError, PipelineError
from cifar_pipeline.inputs.batches import Images
from cifar_pipeline.search.space import decoded, plan_draws, plan_grid, suggest
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Draws, Grid, Search, recipe_of_trial
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.progress import EpochRecord

DRAWS, GRID = "draws", "grid"
EPOCHS, SECONDS, ERROR, ACCURACIES, BEST_EPOCHS = (
    "epochs",
    "seconds",
    "error",
    "accuracies",
    "best_epochs",
)
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
Folds = Sequence[tuple[Images, Images]]


@dataclass(frozen=True)
class Data:
    """What a search may see: the training and the validation split."""

    training: Images
    validation: Images

    def folds(self, count: int, seed: int) -> Folds:
        """Pairs to train on and to score on: parts of the training split, or both splits as they
        are if `count` is 1."""
        if count == 1:
            return [(self.training, self.validation)]
        splitter = StratifiedKFold(count, shuffle=True, random_state=seed)
        return [
            (self.training.take(rest), self.training.take(held_out))
            for rest, held_out in splitter.split(np.zeros(len(self.training)), self.training.label)
        ]


class SearchRun:
    """One search in a folder of its own, with Optuna's storage and the running trial's checkpoints.

    Args:
        origin: of data, weights and versions; a search resumes only if it is the same.
        on_trial: called with the study and the trial whenever one ends.
    """

    def __init__(
        self,
        base: Recipe,
        search: Search,
        data: Data,
        *,
        origin: Any,
        folder: Path,
        on_trial: Callable[[optuna.Study, FrozenTrial], None],
    ) -> None:
        self._base, self._search, self._data, self._on_trial = base, search, data, on_trial
        content = [
            base.model_dump(mode="json", exclude={"weights"}),
            search.model_dump(mode="json"),
            origin,
        ]
        self._identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self.folder = folder / self._identity[:16]

    def run(self) -> dict[str, optuna.Study]:
        """Run what is left of the search; the studies of its stages by name.

        Raises: PipelineError when every trial of a stage failed, and as `train` does.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._remove_others()
        draws = self._study(DRAWS, self._search.draws, plan_draws(self._search))
        self._run_stage(draws, self._search.draws)
        if not (stage := self._search.grid):
            return {DRAWS: draws}
        parents = furthest(draws)[: stage.best]
        grid = self._study(
            GRID, stage, plan_grid(self._search, [trial.params for trial in parents])
        )
        self._run_stage(grid, stage)
        return {DRAWS: draws, GRID: grid}

    def winner(self, studies: dict[str, optuna.Study]) -> Recipe:
        """The recipe of the best trial of the last stage, at that stage's epochs and batch size,
        for all training images."""
        stage = self._search.grid or self._search.draws
        study = studies[GRID if self._search.grid else DRAWS]
        recipe = recipe_of_trial(self._base, stage, decoded(self._search, ranked(study)[0].params))
        return recipe.model_copy(
            update={"train_per_class": None, "validation_per_class": None, "device": "any"}
        )

    def _remove_others(self) -> None:
        # A changed search begins anew; what an earlier one left is of no use to it.
        if self.folder.parent.is_dir():
            for other in self.folder.parent.iterdir():
                if other != self.folder:
                    shutil.rmtree(other) if other.is_dir() else other.unlink()
        self.folder.mkdir(parents=True, exist_ok=True)

    def _study(self, name: str, stage: Draws | Grid, plan: list[dict[str, Any]]) -> optuna.Study:
        study = optuna.create_study(
            storage=f"sqlite:///{self.folder / 'study.sqlite'}",
            study_name=name,
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(
                self._search.seed
            ),  # never asked: every trial is planned
            pruner=halving(stage.epochs) if self._search.prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )
        for parameters in plan[
            len(study.get_trials(deepcopy=False)) :
        ]:  # a kill may have cut the planning short
            study.enqueue_trial(parameters)
        return study

    def _run_stage(self, study: optuna.Study, stage: Draws | Grid) -> None:
        folds = self._data.folds(stage.folds, self._search.seed)
        while trial := _next_trial(study):
            checkpoints = self.folder / f"{study.study_name}-{trial.number:04}"
            try:
                study.tell(trial, self._score(trial, stage, folds, checkpoints))
            except optuna.TrialPruned:
                study.tell(trial, state=TrialState.PRUNED)
            except (DivergedError, ValueError) as error:
                # A loss that is no longer finite, or settings that contradict each other, are a
                # result of the trial and no reason to end the search.
                trial.set_user_attr(ERROR, str(error))
                study.tell(trial, state=TrialState.FAIL)
            shutil.rmtree(checkpoints, ignore_errors=True)
            self._on_trial(study, study.get_trials(deepcopy=False)[trial.number])
        if not ranked(study):
            errors = {
                str(trial.user_attrs[ERROR])
                for trial in study.get_trials(deepcopy=False)
                if ERROR in trial.user_attrs
            }
            raise PipelineError(
                f"no trial of the stage `{study.study_name}` came to its end: "
                f"{'; '.join(sorted(errors))}"
            )

    def _score(self, trial: Trial, stage: Draws | Grid, folds: Folds, checkpoints: Path) -> float:
        """Mean accuracy of the folds, each after its epoch with the lowest loss, whose weights a
        training would keep."""
        recipe = recipe_of_trial(self._base, stage, suggest(trial, self._search.space))
        accuracies: list[float] = []
        best_epochs: list[int] = []
        epochs, seconds = 0, 0.0
        for number, (training, validation) in enumerate(folds):

            def follow(
                record: EpochRecord,
                left: float,
                number: int = number,
                epochs: int = epochs,
                seconds: float = seconds,
            ) -> None:
                trial.set_user_attr(EPOCHS, epochs + record.epoch)
                trial.set_user_attr(SECONDS, round(seconds + record.seconds, 1))
                if number == 0 and record.val_accuracy is not None:
                    trial.report(record.val_accuracy, record.epoch)
                    if trial.should_prune():
                        raise optuna.TrialPruned

            identity = json.dumps([self._identity, recipe.model_dump(mode="json"), number])
            result = train(
                recipe,
                training,
                validation,
                Checkpoints(checkpoints / f"fold-{number}", identity),
                follow,
            )
            accuracies.append(result.best.val_accuracy or 0.0)
            best_epochs.append(result.best.epoch)
            epochs, seconds = epochs + len(result.history), seconds + result.history[-1].seconds
        trial.set_user_attr(EPOCHS, epochs)
        trial.set_user_attr(SECONDS, round(seconds, 1))
        trial.set_user_attr(ACCURACIES, accuracies)
        trial.set_user_attr(BEST_EPOCHS, best_epochs)
        return float(np.mean(accuracies))


def halving(epochs: int) -> optuna.pruners.BasePruner:
    """Successive halving (Li et al. 2020): the better half of the trials so far continues at m, 2m,
    4m ... epochs, where m is an eighth of `epochs`."""
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=max(1, epochs // 8), reduction_factor=2
    )


def _next_trial(study: optuna.Study) -> Trial | None:
    """The trial that a kill interrupted, else the next one of the plan, else None."""
    for running in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        # For a trial whose process died Optuna offers nothing but this constructor, which it does
        # not recommend (optuna #2705, #6283). A repeated trial would count twice in the pruner's
        # comparisons.
        return Trial(study, running._trial_id)
    return study.ask() if study.get_trials(deepcopy=False, states=[TrialState.WAITING]) else None


def ranked(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to their end, best first; of equals the earlier."""
    return sorted(
        study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]),
        key=lambda trial: (-(trial.value or 0.0), trial.number),
    )


def furthest(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to their end, best first, then the pruned ones, the latest epochs first.

    Halving lets the first trial through whatever it reaches, and few of the others, so the pruned
    ones can be among the best too.
    """

    def reached(trial: FrozenTrial) -> tuple[int, float]:
        epoch = max(trial.intermediate_values)
        return -epoch, -trial.intermediate_values[epoch]

    pruned = [
        trial
        for trial in study.get_trials(deepcopy=False, states=[TrialState.PRUNED])
        if trial.intermediate_values
    ]
    return [*ranked(study), *sorted(pruned, key=reached)]
