"""What a search leaves, from trials that were told rather than trained."""

import os
import subprocess
import sys

import optuna
import pytest
from optuna.trial import TrialState

from cifar_pipeline.search.results import write_search
from cifar_pipeline.search.space import suggest
from cifar_pipeline.search.study import (
    ACCURACIES,
    BEST_EPOCHS,
    DRAWS,
    EPOCHS,
    SECONDS,
)
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.settings.search import Search
from tests.search.test_space import SEARCH
from tests.workspaces import CHECKOUT

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
PROVENANCE = {"recipe": "cnn", "profile": "smoke", "generated": True, "run": {"id": "here"}}


def write_told(folder):
    """Six draws of two folds, of which the last was pruned."""
    search = Search.model_validate(SEARCH | {"grid": None})
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.RandomSampler(search.seed)
    )
    for number in range(6):
        trial = study.ask()
        suggest(trial, search.space)
        accuracies = [0.1 + number / 20, 0.12 + number / 20]
        for epoch in (1, 2):
            trial.report(accuracies[0] * epoch / 2, epoch)
        figures = {EPOCHS: 4, SECONDS: 1.5, ACCURACIES: accuracies, BEST_EPOCHS: [2, 2]}
        for key, value in figures.items():
            trial.set_user_attr(key, value)
        if number == 5:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, sum(accuracies) / 2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    storage = folder.parent / "storage"
    storage.touch()
    studies = {DRAWS: study}
    return write_search(folder, search, studies, RECIPE, provenance=PROVENANCE, storage=storage)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    folder = tmp_path_factory.mktemp("told") / "found"
    assert write_told(folder)["draws_pruned"] == 1
    return folder


def test_a_page_with_every_trial_and_its_pictures(told):
    page = (told / "index.html").read_text(encoding="utf-8")
    assert "Generated images, not CIFAR-100" in page
    assert page.count('<img alt="') == page.count("<img") == 3
    assert '<td class="words">complete</td><td>31.00%</td><td>30.00%, 32.00%</td><td>4</td>' in page
    assert '<td class="words">pruned</td><td>–</td>' in page


HOSTILE = """
import sys
from pathlib import Path
from tests.search.test_results import write_told
write_told(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_the_same_trials_give_the_same_bytes_on_a_machine_with_other_settings(told, tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsavefig.dpi: 30\nlines.linewidth: 9\n")
    hostile = {
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        "MPLBACKEND": "none that exists",
        "MPLCONFIGDIR": str(tmp_path),
        "HOME": str(tmp_path),
        "TZ": "Pacific/Kiritimati",
        "LC_ALL": "C",
        "PYTHONPATH": str(CHECKOUT),
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-c", HOSTILE, str(tmp_path / "there")]
    done = subprocess.run(
        command, env=hostile, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    here, there = (
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        for folder in (told, tmp_path / "there")
    )
    assert [name for name in here if here[name] != there[name]] == []
    assert len(here) == len(there) >= 8
