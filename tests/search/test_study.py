import json
import signal
import subprocess
import sys

import numpy as np
import optuna
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from optuna.trial import TrialState

from cifar_pipeline.dataset.splits import split_rows
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.paths import Workspace
from cifar_pipeline.search.results import summarize, trial_table, with_short_names
from cifar_pipeline.search.study import Data, SearchRun, furthest, ranked
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Search
from tests.conftest import TRAIN_PER_CLASS
from tests.search.test_space import SEARCH
from tests.workspaces import CHECKOUT, change_yaml, copy_settings

RECIPE = Recipe.model_validate(
    {
        "architecture": {"name": "cnn", "blocks": [{"filters": 4}], "hidden": [8]},
        "image_size": 32,
        "weights": "none",
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "batch_size": 32,
        "epochs": 2,
        "seed": 1,
    }
)


@pytest.fixture(scope="module")
def data(prepared):
    return data_of(prepared)


def data_of(home):
    return Data(*(load_images(home.table, home.splits, split) for split in ("train", "validation")))


DRAWS = SEARCH["draws"] | {"trials": 3}
GRID = SEARCH["grid"] | {"best": 2, "trials": 2, "folds": 1}


def settings(**changes):
    return Search.model_validate(SEARCH | {"prune": False, "draws": DRAWS, "grid": GRID} | changes)


KILLABLE = settings(grid=None, prune=True, draws=DRAWS | {"trials": 4, "folds": 1, "epochs": 4})


def run(data, folder, search, seen=None):
    def report(study, trial):
        if seen is not None:
            seen.append(trial)

    searching = SearchRun(RECIPE, search, data, origin="here", folder=folder, on_trial=report)
    return searching, searching.run()


def test_folds_part_the_training_split_and_keep_its_classes(data):
    folds = data.folds(4, seed=1)
    held_out = np.concatenate([validation.row_id for _, validation in folds])
    assert sorted(held_out) == sorted(data.training.row_id)
    for training, validation in folds:
        assert not set(training.row_id) & set(validation.row_id)
        assert set(np.bincount(validation.label)) == {2}
    assert data.folds(1, seed=1) == [(data.training, data.validation)]


def test_pictures_name_a_setting_by_what_tells_it_from_the_others():
    study = optuna.create_study()
    names = {
        "architecture.blocks.0.filters": "blocks.0.filters",
        "optimizer.name": "optimizer.name",
        "architecture.something": "architecture.something",
        "augmentation.something": "augmentation.something",
        "architecture.label_smoothing": "architecture.label_smoothing",
        "label_smoothing": "label_smoothing",
    }
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    for state in states:
        trial = study.ask()
        values = {key: trial.suggest_float(key, 0.0, 1.0) for key in names}
        trial.report(0.5, 1)
        study.tell(
            trial, sum(values.values()) if state is TrialState.COMPLETE else None, state=state
        )
    study.ask()  # has not ended
    shown = with_short_names(study).trials
    assert [trial.state for trial in shown] == list(states)
    assert shown[0].params == {names[key]: value for key, value in study.trials[0].params.items()}
    assert (shown[0].value, shown[1].intermediate_values) == (study.trials[0].value, {1: 0.5})


@pytest.mark.slow
def test_two_stages_and_a_winner(data, tmp_path):
    seen = []
    searching, studies = run(data, tmp_path, settings(), seen)
    table = trial_table(settings(), studies)
    assert list(table["stage"]) == ["draws"] * 3 + ["grid"] * 2
    assert len(seen) == 5
    assert set(table["state"]) == {"complete"}
    grid = table[table["stage"] == "grid"]
    assert set(table[table["stage"] == "draws"]["epochs"]) == {2 * 2}
    assert set(grid["epochs"]) == {3}
    best = grid.sort_values("accuracy", ascending=False).iloc[0]
    winner = searching.winner(studies)
    assert (winner.epochs, winner.batch_size) == (3, 16)
    assert str(winner.architecture.blocks[0].filters) == best["architecture.blocks.0.filters"]
    first = ranked(studies["draws"])[0]
    assert first.value == pytest.approx(np.mean(first.user_attrs["accuracies"]))
    summary = summarize(settings(), studies)
    assert summary["final_epochs"] == round(
        np.mean(ranked(studies["grid"])[0].user_attrs["best_epochs"])
    )
    assert 1 <= summary["final_epochs"] <= 3
    again, unchanged = run(data, tmp_path, settings(), seen)
    assert len(seen) == 5  # nothing was left to run
    assert again.winner(unchanged) == winner


KILLED = """
import sys
from pathlib import Path
from tests.search.test_study import *
run(data_of(Workspace(Path(sys.argv[1]))), Path(sys.argv[2]), KILLABLE)
"""


@pytest.mark.nightly
@pytest.mark.slow
def test_a_search_that_is_killed_goes_on(data, prepared, tmp_path):
    """By SIGKILL in the middle of a trial; it finds and prunes what an undisturbed search does."""
    command = [sys.executable, "-c", KILLED, str(prepared.root), str(tmp_path / "killed")]
    for epochs in (3, 3):  # in the first trial, and in a later one
        with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            done = (line for line in process.stderr if line.startswith("epoch") and "done" in line)
            assert all(next(done, None) for _ in range(epochs))
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
    seen = []
    _, studies = run(data, tmp_path / "killed", KILLABLE, seen)
    numbers = [trial.number for trial in seen]
    assert numbers in ([1, 2, 3], [2, 3])  # the first was kept
    _, whole = run(data, tmp_path / "whole", KILLABLE)
    assert {trial.state.name for trial in whole["draws"].get_trials()} == {"COMPLETE", "PRUNED"}
    columns = ["trial", "state", "accuracy", "folds", "epochs", *KILLABLE.space]
    pd.testing.assert_frame_equal(
        trial_table(KILLABLE, studies)[columns], trial_table(KILLABLE, whole)[columns]
    )
    rungs = [
        [trial.system_attrs for trial in found["draws"].get_trials()] for found in (studies, whole)
    ]
    assert rungs[0] == rungs[1]


@pytest.mark.nightly
@pytest.mark.slow
def test_a_changed_search_begins_anew_and_pruning_saves_epochs(data, tmp_path):
    longer = {"trials": 4, "folds": 2, "epochs": 8, "batch_size": 32}
    _, studies = run(data, tmp_path, settings(grid=None, draws=longer, prune=True))
    table = trial_table(settings(), studies)
    assert "pruned" in set(table["state"])
    assert table[table["state"] == "pruned"]["epochs"].max() < 8
    assert table[table["state"] == "complete"]["epochs"].min() == 16
    order = [
        (trial.state.name, max(trial.intermediate_values)) for trial in furthest(studies["draws"])
    ]
    assert order == sorted(order, key=lambda entry: (entry[0] != "COMPLETE", -entry[1]))
    assert len(order) == 4
    other = settings(grid=None, draws=DRAWS | {"trials": 1, "folds": 1})
    _, studies = run(data, tmp_path, other)
    assert len(trial_table(other, studies)) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_a_trial_that_diverges_is_a_result_and_a_search_of_nothing_else_an_error(data, tmp_path):
    space = {"optimizer.learning_rate": [1e30, 1e29]}
    draws = {"trials": 2, "folds": 1, "epochs": 1, "batch_size": 32}
    with pytest.raises(
        PipelineError, match=r"no trial of the stage `draws` came to its end: the .* loss became"
    ):
        run(data, tmp_path / "diverges", settings(space=space, draws=draws, grid=None))
    contradiction = {"optimizer.name": ["sgd", "adam"], "optimizer.momentum": [0.8, 0.9]}
    _, studies = run(
        data,
        tmp_path / "contradicts",
        settings(space=contradiction, draws=draws | {"trials": 4}, grid=None),
    )
    table = trial_table(settings(space=contradiction), studies)
    assert set(table[table["state"] == "fail"]["optimizer.name"]) == {"adam"}
    assert set(table[table["state"] == "complete"]["optimizer.name"]) == {"sgd"}
    assert (
        table["error"].str.contains("`momentum` with `adam`").sum()
        == (table["state"] == "fail").sum()
    )


def test_what_is_wrong_with_the_machine_is_no_result(data, tmp_path):
    """Another start resumes; otherwise the search would have found a lack of weights or GPUs."""
    recipe = RECIPE.model_copy(update={"device": "gpu"})
    search = settings(draws=DRAWS | {"trials": 1, "folds": 1}, grid=None)
    searching = SearchRun(
        recipe, search, data, origin="here", folder=tmp_path, on_trial=lambda study, trial: None
    )
    for _ in range(2):
        with pytest.raises(PipelineError, match="asks for a GPU and the Keras backend sees none"):
            searching.run()


SEALED = """
import sys
from pathlib import Path
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.paths import Workspace
from cifar_pipeline.search.search_and_save import search_and_save
from cifar_pipeline.training.train_and_save import train_and_save
home = Workspace(Path(sys.argv[1]))
params = load_params(home.params)
seen = []
def see(_, table, pictures):
    seen.append((table, len(list(pictures.iterdir()))))
search_and_save(
    "custom_search", params, home, {"id": "here"}, see, folder=home.search("custom_search")
)
assert seen[0][0].count("complete") == 1 and seen[1][0].count("complete") == 2, seen
assert seen[0][1] >= 2, seen
train_and_save(
    "custom_search", params, home, {"id": "here"}, lambda record, left: None,
    folder=home.model("custom_search"),
)
"""


@pytest.fixture(scope="module")
def sealed(prepared, tmp_path_factory):
    """A workspace whose table has no rows, labels or pixels of the test split."""
    home = Workspace(tmp_path_factory.mktemp("sealed"))
    table, splits = read_table(prepared.table), read_table(prepared.splits)
    test = split_rows(splits, "test")
    assert test.min() > split_rows(splits, "train").max()
    home.table.parent.mkdir(parents=True)
    home.splits.parent.mkdir(parents=True)
    pq.write_table(table.slice(0, int(test.min())), home.table)
    pq.write_table(splits, home.splits)
    settings = copy_settings(home.root).read_text().replace("profile: quick", "profile: smoke")
    recipe = home.root / "recipes/custom_search.yaml"
    change_yaml(recipe, lambda found: found["search"]["smoke"]["draws"].update(folds=1))
    home.params.write_text(
        settings.replace("train_per_class: 20\n", f"train_per_class: {TRAIN_PER_CLASS}\n")
    )
    return home


@pytest.mark.slow
def test_search_and_training_run_where_there_is_no_test_image(sealed):
    with pytest.raises(IndexError):
        load_images(sealed.table, sealed.splits, "test")
    done = subprocess.run(
        [sys.executable, "-c", SEALED, str(sealed.root)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (sealed.model("custom_search") / "model.keras").is_file()
    folder = sealed.search("custom_search")
    trials = pd.read_csv(folder / "trials.csv")
    assert list(trials["stage"]) == ["draws"] * 2 + ["grid"] * 2
    winner = Recipe.model_validate(yaml.safe_load((folder / "winner.yaml").read_text()))
    assert winner.weights == "none"
    assert json.loads((folder / "provenance.json").read_text())["draws_trials"] == 2
    page = (folder / "index.html").read_text()
    assert page.count('<img alt="') == page.count("<img") >= 4
    assert "Generated images" in page
    assert (
        len(
            optuna.load_study(
                study_name="draws", storage=f"sqlite:///{folder / 'study.sqlite'}"
            ).trials
        )
        == 2
    )


def test_the_searches_of_the_repository_are_valid(params_file):
    params = load_params(params_file)
    assert set(params.all_searches) == {"custom_search", "ladder6"}
