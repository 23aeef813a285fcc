"""How much of a search's result successive halving keeps, and at what share of the cost.

python -m benchmarks.pruning --work FOLDER > benchmarks/results/pruning.md

One search around the small models C1 to C4 is run twice, without and with pruning. A trial's curve
does not depend on the other trials, but what a pruner does depends on their order. It is therefore
replayed over the curves of the whole search in many orders. An interrupted run resumes where it was
stopped.
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
    """Accuracy of the best of as many whole trials, in this order, as `budget` epochs pay for.

    The first trial always counts.
    """
    paid = np.cumsum([epochs_of(trial) for trial in trials]) <= budget
    return max(trial.value or 0.0 for trial in trials[: max(1, int(paid.sum()))])


def epochs_of(trial: FrozenTrial) -> int:
    return trial.user_attrs.get(EPOCHS, 0)


def searched(data: Data, stage: Draws, *, prune: bool, work: Path) -> optuna.Study:
    """The search, run or resumed in `work`."""
    home = Workspace.current()
    recipe = load_params(home.params).under("paper").recipe(RECIPE)
    search = Search.model_validate(
        {"space": SPACE, "draws": stage, "prune": prune, "seed": recipe.seed}
    )
    origin = [dvc_md5(home.table), dvc_md5(home.splits), len(data.training)]
    return SearchRun(
        recipe, search, data, origin=origin, folder=work, on_trial=lambda study, trial: None
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
            "the pruned search differs from what the pruner does on the whole search's curves, "
            "so a replay would not be valid"
        )

    command = f"--per-class {arguments.per_class} --trials {stage.trials}"
    print(f"# Pruning a search\n\n`python -m benchmarks.pruning {command}`; {describe()}.")
    print(f"{stage.trials} draws around C1 to C4 (`{RECIPE}`), {stage.folds} folds of")
    print(f"{len(training):,} training images, at most {stage.epochs} epochs. Accuracies are means")
    print("over the folds; the best of many trials overstates what it would reach again.\n")
    print(
        "| search | finished trials | epochs trained | minutes | winner | its accuracy |\n"
        "|---|---|---|---|---|---|"
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
    print(f"\n## In {ORDERS:,} random orders of these trials\n")
    print("Each row compares one form of halving with unpruned trials of as many epochs in all.")
    print("Figures are medians with the 5% and 95% quantiles. They describe these trials only.\n")
    print(
        "| first decision after | share of the epochs, % | points lost | best trial found "
        "| points lost without pruning | best trial found without pruning |"
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
