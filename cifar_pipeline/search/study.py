"""Running a search: trial after trial, as many at once as there are places, each kept when it ends.

After a kill the trials that were running resume from their last whole epochs.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sklearn.model_selection import StratifiedKFold

from cifar_pipeline.errors import DivergedError, PipelineError
from cifar_pipeline.inputs.batches import Images
from cifar_pipeline.search.places import Here, Places
from cifar_pipeline.search.space import decoded, plan_draws, plan_grid, suggest
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Draws, Grid, Search, recipe_of_trial
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.progress import EpochRecord

DRAWS, GRID = "draws", "grid"
FILE = "study.sqlite"
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
    """One search in a folder of its own, with the checkpoints of the trials that run.

    Args:
        origin: of data, weights and versions; a search resumes only if it is the same.
        on_trial: called with the study and the trial whenever one ends.
        storage: address of the data base that Optuna keeps the trials in while they run, as
            SQLAlchemy takes it; by default a file in the folder.
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
        storage: str | None = None,
    ) -> None:
        self._base, self._search, self._data, self._on_trial = base, search, data, on_trial
        content = [
            base.model_dump(mode="json", exclude={"weights"}),
            search.model_dump(mode="json"),
            origin,
        ]
        self.identity = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        self.folder = folder / self.identity[:16]
        self.file = self.folder / FILE
        """where Optuna's storage is in the end"""
        self._storage = storage
        # Of one stage at a time: they are copies of the images.
        self._folds = lru_cache(1)(lambda stage: data.folds(self._stage(stage).folds, search.seed))

    def run(self, places: Places | None = None) -> dict[str, optuna.Study]:
        """Run what is left of the search; the studies of its stages by name.

        Args:
            places: where its trials run; by default in this process.

        Raises: PipelineError when every trial of a stage failed, and as `train` does.
        """
        self._remove_others()
        places = places or Here(self.run_trial)
        draws = self._plan(DRAWS, plan_draws(self._search))
        self._run_stage(DRAWS, draws, places)
        studies = {DRAWS: draws}
        if stage := self._search.grid:
            parents = furthest(draws)[: stage.best]
            studies[GRID] = self._plan(
                GRID, plan_grid(self._search, [trial.params for trial in parents])
            )
            self._run_stage(GRID, studies[GRID], places)
        return self._in_file(studies) if self._storage else studies

    def run_trial(self, stage: str, number: int) -> None:
        """Run a trial that was asked for to its end, from its last whole epoch.

        Raises: PipelineError as `train` does. A loss that is no longer finite, and settings that
            contradict each other, are a result of the trial and no reason to end the search.
        """
        study = self._study(stage)
        # For a trial whose process died, or that another one asked for, Optuna offers nothing but
        # this constructor, which it does not recommend (optuna #2705, #6283). A repeated trial
        # would count twice in the pruner's comparisons.
        trial = Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
        checkpoints = self.folder / f"{stage}-{number:04}"
        try:
            study.tell(trial, self._score(trial, stage, checkpoints))
        except optuna.TrialPruned:
            study.tell(trial, state=TrialState.PRUNED)
        except (DivergedError, ValueError) as error:
            trial.set_user_attr(ERROR, str(error))
            study.tell(trial, state=TrialState.FAIL)
        shutil.rmtree(checkpoints, ignore_errors=True)

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

    def _stage(self, name: str) -> Draws | Grid:
        stage = self._search.draws if name == DRAWS else self._search.grid
        assert stage
        return stage

    def _study(self, stage: str) -> optuna.Study:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        epochs = self._stage(stage).epochs
        return optuna.create_study(
            storage=self._storage or f"sqlite:///{self.file}",
            study_name=study_name(self.folder, stage) if self._storage else stage,
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(
                self._search.seed
            ),  # never asked: every trial is planned
            pruner=halving(epochs) if self._search.prune else optuna.pruners.NopPruner(),
            load_if_exists=True,
        )

    def _plan(self, stage: str, plan: list[dict[str, Any]]) -> optuna.Study:
        study = self._study(stage)
        for parameters in plan[
            len(study.get_trials(deepcopy=False)) :
        ]:  # a kill may have cut the planning short
            study.enqueue_trial(parameters)
        return study

    def _in_file(self, studies: dict[str, optuna.Study]) -> dict[str, optuna.Study]:
        """The same studies in a file, under the names of their stages."""
        self.file.unlink(missing_ok=True)  # of a copy that was killed
        address = f"sqlite:///{self.file}"
        for stage, study in studies.items():
            optuna.copy_study(
                from_study_name=study.study_name,
                from_storage=study._storage,
                to_storage=address,
                to_study_name=stage,
            )
        return {stage: optuna.load_study(study_name=stage, storage=address) for stage in studies}

    def _run_stage(self, stage: str, study: optuna.Study, places: Places) -> None:
        running: dict[Future[None], int] = {}
        while True:
            while len(running) < places.at_once:
                number = _next_trial(study, running.values())
                if number is None:
                    break
                running[places.start(stage, number)] = number
            if not running:
                break
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(ended)
                ended.result()
                self._on_trial(study, study.get_trials(deepcopy=False)[number])
        if not ranked(study):
            errors = {
                str(trial.user_attrs[ERROR])
                for trial in study.get_trials(deepcopy=False)
                if ERROR in trial.user_attrs
            }
            raise PipelineError(
                f"no trial of the stage `{stage}` came to its end: {'; '.join(sorted(errors))}"
            )

    def _score(self, trial: Trial, stage: str, checkpoints: Path) -> float:
        """Mean accuracy of the folds, each after its epoch with the lowest loss, whose weights a
        training would keep."""
        settings = suggest(trial, self._search.space)
        recipe = recipe_of_trial(self._base, self._stage(stage), settings)
        accuracies: list[float] = []
        best_epochs: list[int] = []
        epochs, seconds = 0, 0.0
        for number, (training, validation) in enumerate(self._folds(stage)):

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

            identity = json.dumps([self.identity, recipe.model_dump(mode="json"), number])
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


def study_name(folder: Path, stage: str) -> str:
    """What a data base of several searches calls the study of a stage.

    Args:
        folder: of the search.
    """
    return f"{folder.name}/{stage}"


def stage_of(study: optuna.Study) -> str:
    """`draws` or `grid`."""
    return study.study_name.rpartition("/")[2]


def _next_trial(study: optuna.Study, running: Collection[int]) -> int | None:
    """The number of a trial that a kill interrupted, else of the next one of the plan, else None.

    Args:
        running: the trials that run now.
    """
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        if trial.number not in running:
            return trial.number
    waits = study.get_trials(deepcopy=False, states=[TrialState.WAITING])
    return study.ask().number if waits else None


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
