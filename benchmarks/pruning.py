"""What successive halving keeps of a search's result, and at what share of its cost, on the small models of the ladder.

python -m benchmarks.pruning --work FOLDER > benchmarks/results/pruning.md

One search around C1 to C4 is run twice, without and with pruning. A trial's curve does not depend on the others, but what a pruner
does depends on their order; so it is then replayed over the curves of the whole search in many orders. Goes on where it was stopped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import optuna
from optuna.pruners import BasePruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial, TrialState

from benchmarks.environment import describe
from cifar_pipeline.artifacts import dvc_md5
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.search.study import DRAWS, EPOCHS, SECONDS, Data, SearchRun, halving, ranked
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.search import Draws, Search

RECIPE, ORDERS = "ladder4", 1000
SPACE = {
    "architecture.hidden": [[], [128], [128, 64]],
    "architecture.dropout": [0.0, 0.2],
    "architecture.blocks.0.filters": [10, 20, 40],
    "architecture.blocks.0.kernel": [2, 3, 5],
    "optimizer.learning_rate": {"low": 1.0e-4, "high": 1.0e-2, "log": True},
}


def replay(trials: Sequence[FrozenTrial], pruner: BasePruner) -> tuple[int, float]:
    """Epochs trained and accuracy of the winner, had the pruner met the trials in this order."""
    study = optuna.create_study(direction="maximize", pruner=pruner)
    spent = 0
    for known in trials:
        trial = study.ask()
        for epoch in sorted(known.intermediate_values):
            trial.report(known.intermediate_values[epoch], epoch)
            if trial.should_prune():
                spent += epoch
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            spent += epochs_of(known)
            study.tell(trial, known.value, state=known.state)
    return spent, study.best_value


def spend(trials: Sequence[FrozenTrial], budget: int) -> float:
    """Accuracy of the winner of as many whole trials, in this order, as the epochs pay for; of the first in any case."""
    paid = np.cumsum([epochs_of(trial) for trial in trials]) <= budget
    return max(trial.value or 0.0 for trial in trials[: max(1, int(paid.sum()))])


def epochs_of(trial: FrozenTrial) -> int:
    return trial.user_attrs.get(EPOCHS, 0)


def searched(data: Data, stage: Draws, *, prune: bool, work: Path) -> optuna.Study:
    """The search, run or gone on with in `work`."""
    home = Workspace.current()
    recipe = load_params(home.params).model_copy(update={"profile": "seed"}).recipe(RECIPE)
    search = Search.model_validate(
        {"space": SPACE, "draws": stage, "prune": prune, "seed": recipe.seed}
    )
    origin = [dvc_md5(home.table), dvc_md5(home.splits), len(data.training)]
    return SearchRun(
        recipe, search, data, origin=origin, folder=work, report=lambda study, trial: None
    ).run()[DRAWS]


def cost(study: optuna.Study) -> tuple[int, float]:
    """Epochs and minutes trained."""
    trials = study.get_trials(deepcopy=False)
    return sum(map(epochs_of, trials)), sum(
        trial.user_attrs.get(SECONDS, 0.0) for trial in trials
    ) / 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the two searches")
    parser.add_argument("--per-class", type=int, default=60)
    parser.add_argument("--trials", type=int, default=20)
    arguments = parser.parse_args()
    home = Workspace.current()
    training = load_images(home.table, home.splits, "train", per_class=arguments.per_class, seed=0)
    data = Data(training, load_images(home.table, home.splits, "validation"))
    stage = Draws(trials=arguments.trials, folds=3, epochs=8, batch_size=50)
    studies = {
        "whole": searched(data, stage, prune=False, work=arguments.work / "whole"),
        "successive halving": searched(data, stage, prune=True, work=arguments.work / "pruned"),
    }
    whole = studies["whole"].get_trials(deepcopy=False)
    epochs, minutes = cost(studies["whole"])
    pruned = studies["successive halving"]
    if replay(whole, halving(stage.epochs)) != (cost(pruned)[0], pruned.best_value):
        raise SystemExit(
            "the pruned search did something else than the pruner does on the curves of the whole one; do not replay it"
        )

    print(
        f"# Pruning a search\n\n`python -m benchmarks.pruning --per-class {arguments.per_class} --trials {stage.trials}`; {describe()}."
    )
    print(
        f"{stage.trials} draws around C1 to C4 (`{RECIPE}`), {stage.folds} folds of {len(training):,} training images, at most"
    )
    print(
        f"{stage.epochs} epochs. Accuracies are means over the folds; of many the best is too high.\n"
    )
    print(
        "| search | trials to the end | epochs trained | minutes | winner | its accuracy |\n|---|---|---|---|---|---|"
    )
    for name, study in studies.items():
        spent, best = cost(study), ranked(study)[0]
        share = f"{spent[0]} ({spent[0] / epochs:.0%}) | {spent[1]:.1f} ({spent[1] / minutes:.0%})"
        print(
            f"| {name} | {len(ranked(study))} | {share} | trial {best.number} | {best.value:.2%} |"
        )

    rng = np.random.default_rng(0)
    orders = [[whole[index] for index in rng.permutation(len(whole))] for _ in range(ORDERS)]
    best_value = studies["whole"].best_value
    print(f"\n## In {ORDERS:,} orders of these trials, which say nothing of other trials\n")
    print(
        "Each way of halving, and whole trials for as many epochs as it took; medians with 5 % to 95 %.\n"
    )
    print(
        "| first decision after | share of the epochs, % | points lost | best trial found | points lost by whole trials | best found |"
    )
    print("|---|---|---|---|---|---|")
    for first in (1, 2, 4):
        pruner = SuccessiveHalvingPruner(min_resource=first, reduction_factor=2)
        halved = np.array([replay(order, pruner) for order in orders])
        blind = np.array(
            [spend(order, int(spent)) for order, spent in zip(orders, halved[:, 0], strict=True)]
        )
        lost = [spread(100 * (best_value - reached)) for reached in (halved[:, 1], blind)]
        found = [f"{np.mean(reached == best_value):.0%}" for reached in (halved[:, 1], blind)]
        cells = [
            f"{first} of {stage.epochs} epochs",
            spread(100 * halved[:, 0] / epochs),
            lost[0],
            found[0],
            lost[1],
            found[1],
        ]
        print(f"| {' | '.join(cells)} |")


def spread(values: np.ndarray) -> str:
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
