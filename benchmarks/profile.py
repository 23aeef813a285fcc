"""What the models that data/ holds reached under the active profile, and how each training went.

python -m benchmarks.profile > benchmarks/results/PROFILE.md
"""

from typing import Any

import pandas as pd

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.drawing.pages import starting_point
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.leaderboard import ENSEMBLES
from cifar_pipeline.settings.reading import load_params

ACCURACIES = ("top1", "top1_low", "top1_high", "top5", "coarse_top1", "no_duplicates_top1")


def calibration_error(metrics: dict[str, Any]) -> str:
    """As trained and, if a temperature was fitted, scaled."""
    scaled = metrics.get("ece15_scaled")
    return f"{metrics['ece15']:.3f}, {'–' if scaled is None else f'{scaled:.3f}'}"


def accuracy_row(name: str, metrics: dict[str, Any], origin: dict[str, Any]) -> str:
    top1, low, high, top5, coarse, unique = (100 * metrics[key] for key in ACCURACIES)
    cells = (
        f"`{name}`",
        starting_point(origin["weights"]["name"]),
        f"{top1:.2f} ({low:.2f} to {high:.2f})",
        f"{top5:.2f}",
        f"{coarse:.2f}",
        f"{unique:.2f}",
        calibration_error(metrics),
        f"{origin['training_s'] / 60:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def epoch_row(epoch: dict[str, Any]) -> str:
    validated = "–" if pd.isna(epoch["val_accuracy"]) else f"{100 * epoch['val_accuracy']:.1f}"
    return (
        f"| {epoch['epoch']} | {epoch['image_size']} | {epoch['images_per_s']:.0f} "
        f"| {100 * epoch['accuracy']:.1f} | {validated} | {epoch['seconds'] / 60:.1f} |"
    )


def ensemble_row(ensemble: dict[str, Any]) -> str:
    top1, low, high, gain, least, most = (
        100 * ensemble[key]
        for key in ("top1", "top1_low", "top1_high", "difference", "low", "high")
    )
    cells = (
        f"`{ensemble['ensemble']}`",
        ensemble["members"] + ("; with mirror images" if ensemble["mirrored"] else ""),
        str(ensemble["passes"]),
        f"{top1:.2f} ({low:.2f} to {high:.2f})",
        f"{gain:+.2f} ({least:+.2f} to {most:+.2f})",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    home = Workspace.current()
    params = load_params(home.params)
    reports = {name: read_json(home.report(name) / "metrics.json") for name in params.models}
    origins = {name: read_json(home.model(name) / "provenance.json") for name in params.models}
    models = " ".join(f"--model {name}" for name in params.models)
    print(f"# The profile `{params.profile}`\n")
    print(f"`cifar run --profile {params.profile} {models}`,")
    print("with `CIFAR_ARCHIVE`, `CIFAR_ARCHIVE_SHA256` and `CIFAR_WEIGHTS_...` set. Printed by")
    print("`python -m benchmarks.profile`. Each model was trained once.\n")
    print(
        "| model | started from | top-1, % (95% interval) | top-5 | superclass "
        "| without duplicates | ECE, scaled | training, min |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, metrics in reports.items():
        print(accuracy_row(name, metrics, origins[name]))
    ensembles = pd.read_csv(home.leaderboard / ENSEMBLES)
    if len(ensembles):
        print(
            "\n| ensemble | members | passes | top-1, % (95% interval) "
            "| gain over its best member, points |\n|---|---|---|---|---|"
        )
        for ensemble in ensembles.to_dict("records"):
            print(ensemble_row(ensemble))
    for name, origin in origins.items():
        versions = ", ".join(
            f"{library} {version}" for library, version in origin["versions"].items()
        )
        print(f"\n## `{name}`\n")
        print(
            f"{origin['train_images']:,} training images, n = {reports[name]['n']:,} test images,"
        )
        print(f"seed {origin['recipe']['seed']};")
        print(f"{origin['hardware']}; {versions}; code {origin['code_revision']}.")
        held_out = origin["validation_images"]
        validated = (
            f"Validation: n = {held_out:,}."
            if held_out
            else "The validation images were trained on too, so there is no validation accuracy."
        )
        print(f"{validated} Training accuracy is measured on the images as augmented and mixed.\n")
        print(
            "| epoch | pixels | images/s | training, % | validation, % | minutes |\n"
            "|---|---|---|---|---|---|"
        )
        for epoch in pd.read_csv(home.model(name) / "history.csv").to_dict("records"):
            print(epoch_row(epoch))


if __name__ == "__main__":
    main()
