"""What a search under the active profile found and cost, read from data/searches.

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
    parser.add_argument("name", help="the recipe that it varies")
    name = parser.parse_args().name
    folder = Workspace.current().search(name)
    origin = json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    trials = (
        pd.read_csv(folder / TRIALS)
        .drop(columns="error")
        .rename(columns=lambda column: column.removeprefix("architecture."))
    )
    versions = ", ".join(f"{library} {version}" for library, version in origin["versions"].items())
    images = "generated" if origin["generated"] else "training"
    print(f"# The search `{name}`\n\n`cifar search {name} --profile {origin['profile']}`;")
    print(f"printed by `python -m benchmarks.search {name}`;")
    print(f"{origin['hardware']}; Python {origin['python']}, {versions};")
    print(f"code {origin['code_revision']}.\n")
    print(f"The search used {origin['train_images']:,} {images} images and none of the test split.")
    print("Accuracies are means over the folds at the epoch with the lowest loss; with one fold")
    print(
        "they are those of the validation split. The best of many trials overstates what it would"
    )
    print("reach again.\n")
    print(
        "| stage | folds | trials | pruned | failed | epochs trained | epochs at most | minutes "
        "| best |\n|---|---|---|---|---|---|---|---|---|"
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
        print(f"\n## The best trials of the {stage}\n")
        print(best.to_markdown(index=False, floatfmt=".4g"))
    winner = (folder / WINNER).read_text(encoding="utf-8")
    print(f"\n## The winner, as a recipe\n\n```yaml\n{winner}```")


if __name__ == "__main__":
    main()
