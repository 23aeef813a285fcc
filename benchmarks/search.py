"""What a search under the active profile found, and what it cost, from what it left in data/.

python -m benchmarks.search NAME > benchmarks/results/NAME.md
"""

import argparse
import json

import pandas as pd

from cifar_pipeline.paths import Workspace
from cifar_pipeline.search.results import PROVENANCE, TRIALS, WINNER

SHOWN = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the recipe that it varies")
    name = parser.parse_args().name
    folder = Workspace.current().search(name)
    origin = json.loads((folder / PROVENANCE).read_text())
    trials = (
        pd.read_csv(folder / TRIALS)
        .drop(columns="error")
        .rename(columns=lambda column: column.removeprefix("architecture."))
    )
    versions = ", ".join(f"{library} {version}" for library, version in origin["versions"].items())
    print(
        f"# The search `{name}`\n\n`cifar search {name} --profile {origin['profile']}`; printed by `python -m benchmarks.search {name}`;"
    )
    print(
        f"{origin['hardware']}; Python {origin['python']}, {versions}; code {origin['code_revision']}.\n"
    )
    print(
        f"{origin['train_images']:,} {'generated' if origin['generated'] else 'training'} images, none of the test split. Accuracies are"
    )
    print(
        "means over the folds (one fold: the validation split), of the epoch with the lowest loss; the best of many is too high.\n"
    )
    print(
        "| stage | folds | trials | pruned | failed | epochs trained | of at most | minutes | best |\n|---|---|---|---|---|---|---|---|---|"
    )
    for stage in trials["stage"].unique():
        counts = [
            origin[f"{stage}_{key}"]
            for key in ("trials", "pruned", "failed", "epochs", "epochs_at_most", "minutes")
        ]
        cells = [stage, origin["search"][stage]["folds"], *counts, f"{origin[f'{stage}_best']:.2%}"]
        print(f"| {' | '.join(map(str, cells))} |")
    trials = trials[trials["state"] == "complete"]
    for stage, rows in trials.groupby("stage", sort=False):
        best = (
            rows.sort_values("accuracy", ascending=False)
            .head(SHOWN)
            .drop(columns=["stage", "state"])
        )
        print(f"\n## The best of the {stage}\n\n{best.to_markdown(index=False, floatfmt='.4g')}")
    print(f"\n## The winner, as a recipe\n\n```yaml\n{(folder / WINNER).read_text()}```")


if __name__ == "__main__":
    main()
