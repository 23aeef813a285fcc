"""What a search leaves: a table of trials, Optuna's storage and pictures, a page, the winner."""

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import yaml
from optuna.trial import FrozenTrial, TrialState

from cifar_pipeline.artifacts import replacing_folder, write_json
from cifar_pipeline.drawing.numbers import NONE, count, decimal, percent
from cifar_pipeline.drawing.pages import Table, encoded, render
from cifar_pipeline.drawing.style import own_style, save
from cifar_pipeline.search.space import decoded
from cifar_pipeline.search.study import (
    ACCURACIES,
    BEST_EPOCHS,
    DRAWS,
    ENDED,
    EPOCHS,
    ERROR,
    FILE,
    SECONDS,
    furthest,
    ranked,
)
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Search

TRIALS, WINNER, PROVENANCE, PAGE, PLOTS = (
    "trials.csv",
    "winner.yaml",
    "provenance.json",
    "index.html",
    "plots",
)
CUT_FROM = 20
WRITTEN: dict[str, Callable[[Any], str]] = {
    "trial": count,
    "accuracy": lambda share: NONE if pd.isna(share) else percent(share),
    "folds": lambda shares: ", ".join(
        percent(float(share)) for share in shares.split(", ") if share
    ),
    "epochs": count,
    "seconds": lambda seconds: decimal(seconds, 1),
}
"""How the columns with figures are written."""
LEGEND = 12
"""Trials that a legend has room for."""
PICTURES = {
    "parallel": "Parallel coordinates: a line per trial through its accuracy and its settings",
    "importances": "Bars of how much each setting influenced the accuracy (PED-ANOVA)",
    "intermediate": "Validation accuracy of every trial in its first fold by epoch; lines that end "
    "early were pruned",
}


def write_search(
    folder: Path,
    search: Search,
    studies: Mapping[str, optuna.Study],
    winner: Recipe,
    *,
    provenance: dict[str, Any],
    storage: Path,
) -> dict[str, Any]:
    """Write what a search found to `folder`, replacing it, and return the key figures.

    Args:
        studies: by stage.
        provenance: is stored together with the key figures.
        storage: Optuna's file, which `optuna-dashboard` opens as well.
    """
    trials, summary = trial_table(search, studies), summarize(search, studies)
    with replacing_folder(folder) as new:
        trials.to_csv(new / TRIALS, index=False, float_format="%.6g")
        (new / WINNER).write_text(
            yaml.safe_dump(winner.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        )
        write_json(
            new / PROVENANCE, {**provenance, **summary, "search": search.model_dump(mode="json")}
        )
        shutil.copyfile(storage, new / FILE)
        for stage, study in studies.items():
            draw(study, new / PLOTS / stage)
        pictures = {
            stage: [
                (text, encoded(path))
                for key, text in PICTURES.items()
                if (path := new / PLOTS / stage / f"{key}.png").is_file()
            ]
            for stage in studies
        }
        page = render(
            "search.html.j2",
            title=f"Search around {provenance['recipe']}",
            subtitle=f"profile {provenance['profile']}; validation images and folds of the "
            "training split, no test images",
            generated=provenance["generated"],
            summary=summary,
            winner=(new / WINNER).read_text(),
            pictures=pictures,
            tables={stage: _shown(trials[trials["stage"] == stage]) for stage in studies},
        )
        (new / PAGE).write_text(page)
    return summary


def trial_table(search: Search, studies: Mapping[str, optuna.Study]) -> pd.DataFrame:
    """One row per trial that has ended: state, accuracies, cost and settings."""
    rows = [
        {
            "stage": stage,
            "trial": trial.number,
            "state": trial.state.name.lower(),
            "accuracy": trial.value if trial.state is TrialState.COMPLETE else None,
            "folds": ", ".join(
                f"{accuracy:.4f}" for accuracy in trial.user_attrs.get(ACCURACIES, [])
            ),
            "epochs": trial.user_attrs.get(EPOCHS, 0),
            "seconds": trial.user_attrs.get(SECONDS, 0.0),
            **{key: str(value) for key, value in decoded(search, trial.params).items()},
            "error": trial.user_attrs.get(ERROR, ""),
        }
        for stage, study in studies.items()
        for trial in study.get_trials(deepcopy=False, states=ENDED)
    ]
    return pd.DataFrame(rows)


def summarize(search: Search, studies: Mapping[str, optuna.Study]) -> dict[str, Any]:
    """The best accuracy, how the trials ended, and the epochs with and without pruning.

    `final_epochs` is after how many epochs the winner's folds were at their best, for a fit that
    has no validation images.
    """
    summary: dict[str, Any] = {}
    for stage, study in studies.items():
        settings = search.draws if stage == DRAWS else search.grid
        assert settings is not None
        trials = study.get_trials(deepcopy=False)
        best = ranked(study)[0]
        summary |= {
            f"{stage}_trials": len(trials),
            f"{stage}_pruned": sum(trial.state is TrialState.PRUNED for trial in trials),
            f"{stage}_failed": sum(trial.state is TrialState.FAIL for trial in trials),
            f"{stage}_epochs": sum(trial.user_attrs.get(EPOCHS, 0) for trial in trials),
            f"{stage}_epochs_at_most": len(trials) * settings.folds * settings.epochs,
            f"{stage}_minutes": round(
                sum(trial.user_attrs.get(SECONDS, 0.0) for trial in trials) / 60, 1
            ),
            f"{stage}_best": best.value,
            f"{stage}_best_trial": best.number,
            "final_epochs": round(
                sum(best.user_attrs[BEST_EPOCHS]) / settings.folds
            ),  # of the last stage
        }
        if stage == DRAWS and search.grid:
            summary["grid_between_trials"] = ", ".join(
                str(trial.number) for trial in furthest(study)[: search.grid.best]
            )
    return summary


def described(search: Search, trial: FrozenTrial) -> dict[str, Any]:
    """One trial in a few figures, for whoever watches the search."""
    accuracy = (
        {"accuracy": trial.value}
        if trial.state is TrialState.COMPLETE and trial.value is not None
        else {}
    )
    how = {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "epochs": trial.user_attrs.get(EPOCHS, 0),
    }
    curve = ", ".join(
        f"{trial.intermediate_values[epoch]:.4f}" for epoch in sorted(trial.intermediate_values)
    )
    return {
        **how,
        **accuracy,
        "first_fold": curve,
        **{key: str(value) for key, value in decoded(search, trial.params).items()},
    }


def draw(study: optuna.Study, folder: Path) -> None:
    """Draw Optuna's pictures of a study, as far as its trials allow, as PNG files in `folder`."""
    if not ranked(study):
        return
    # Imported only now, because matplotlib must find the backend that `drawing.plots` names.
    from matplotlib import pyplot as plt  # noqa: PLC0415
    from matplotlib.ticker import PercentFormatter  # noqa: PLC0415
    from optuna.visualization import matplotlib as drawing  # noqa: PLC0415

    figures = {
        "parallel": drawing.plot_parallel_coordinate,
        "intermediate": drawing.plot_intermediate_values,
    }
    if len({trial.value for trial in ranked(study)}) > 1:  # equal accuracies tell nothing
        figures["importances"] = drawing.plot_param_importances
    labelled = with_short_names(study)
    for name, plot in figures.items():
        with (
            warnings.catch_warnings(),
            own_style(**{"figure.figsize": (9.2, 4.5), "figure.constrained_layout.use": True}),
        ):
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            warnings.simplefilter("ignore", UserWarning)
            axes = plot(labelled)
            for place in ("left", "center"):
                axes.set_title("", loc=place)
            if name == "parallel":
                # Accuracies are on the left axis and on the bar of colours beside it.
                _, *names = (label.get_text() for label in axes.get_xticklabels())
                axes.set_xticks(axes.get_xticks(), ["accuracy", *names], rotation=330)
                bar = plt.gcf().axes[1]
                bar.set_ylabel("accuracy")
                for panel in (axes, bar):
                    panel.yaxis.set_major_formatter(PercentFormatter(1.0))
            if name == "intermediate":
                axes.set(xlabel="epoch", ylabel="validation accuracy, first fold")
                axes.yaxis.set_major_formatter(PercentFormatter(1.0))
                if (legend := axes.get_legend()) and len(labelled.trials) > LEGEND:
                    legend.remove()
            save(plt.gcf(), folder / f"{name}.png")
    plt.close("all")


def with_short_names(study: optuna.Study) -> optuna.Study:
    """The trials that have ended, with long names of settings cut to what follows the first dot.

    Optuna's parallel coordinates cut off the ends of names of `CUT_FROM` letters or more, and it is
    in their ends that the names of a recipe's settings differ.
    """
    trials = study.get_trials(deepcopy=False, states=ENDED)
    keys = {key for trial in trials for key in trial.params}
    rests = [key.partition(".")[2] for key in keys]
    names = {key: key.partition(".")[2] if len(key) >= CUT_FROM else key for key in keys}
    names = {
        key: name if name and name not in keys and rests.count(name) == 1 else key
        for key, name in names.items()
    }
    copy = optuna.create_study(direction="maximize")
    copy.add_trials(
        [
            optuna.trial.create_trial(
                state=trial.state,
                value=trial.value,
                params={names[key]: value for key, value in trial.params.items()},
                distributions={
                    names[key]: distribution for key, distribution in trial.distributions.items()
                },
                intermediate_values=trial.intermediate_values,
            )
            for trial in trials
        ]
    )
    return copy


def readable(trials: pd.DataFrame) -> pd.DataFrame:
    """A stage's trials as text, best first."""
    table = trials.drop(columns=["stage", "error"]).sort_values(
        "accuracy", ascending=False, na_position="last"
    )
    for name, written in WRITTEN.items():
        table[name] = table[name].map(written)
    return table.astype(str)


def _shown(trials: pd.DataFrame) -> Table:
    table = readable(trials)
    rows = [list(row) for row in table.itertuples(index=False)]
    return Table(list(table.columns), rows, frozenset(table.columns) - set(WRITTEN))
