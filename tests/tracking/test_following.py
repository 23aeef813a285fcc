"""What a step tells, and which run it tells it of. No tracker has the time to take any of it."""

import csv
import json

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.tracking import trackers
from cifar_pipeline.tracking.events import Begun, Ended, Figures, Files, Model, Row, Trial
from tests.tracking.conftest import record


@pytest.fixture(autouse=True)
def nowhere(workspace):
    workspace.track(mlflow={"store": "http://127.0.0.1:9"}, wait_s=0)


def finish(follower, workspace, **metadata):
    write_model(workspace, run="run-1")
    follower.finish({"parameters": 10, "val_accuracy": 0.5, "device": "cpu:0", **metadata})


def write_model(workspace, run):
    folder = workspace.home.model("cnn9")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.keras").write_bytes(b"model")
    provenance = {
        "recipe": {"epochs": 2},
        "inputs": {"cifar100.parquet": "0" * 32},
        "hardware": "here",
        "run": {"id": run},
        "model_sha256": "f" * 64,
        "parameters": 10,
        "trainable_parameters": 10,
        "training_s": 1.0,
        "train_images": 100,
        "best_epoch": 2,
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    with (folder / "history.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, record(1).keys())
        writer.writeheader()
        writer.writerows(record(epoch) for epoch in (1, 2))


def write_report(workspace):
    folder = workspace.home.report("cnn9")
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "mistakes.png").write_bytes(b"picture")
    (folder / "index.html").write_text("page")


def test_a_training_tells_its_settings_epochs_figures_and_best_models(workspace):
    follower, _ = workspace.train((1, 2, 3))
    finish(follower, workspace, not_finite=float("nan"))
    [begun] = workspace.events(Begun)
    assert begun.configuration["optimizer"]["name"] == "adam"
    assert begun.configuration["profile"] == "smoke"
    assert begun.facts["dagster_run"] == "run-1"
    assert set(begun.data.values()) == {"0" * 32, "1" * 32}
    assert [row.step for row in workspace.events(Row)] == [1, 2, 3]
    assert workspace.events(Row)[0].values["val_accuracy"] == 0.09
    assert "val_loss" not in workspace.events(Row)[0].values
    [figures] = workspace.events(Figures)
    assert figures.values == {"parameters": 10, "best/val_accuracy": 0.5}
    assert figures.words == {"device": "cpu:0"}
    models = workspace.events(Model)
    assert [model.label for model in models] == ["epoch-0001", "epoch-0002", "epoch-0003", "model"]
    assert models[1].about["val_accuracy"] == 0.18
    assert "load_weights" in models[1].about["loading"]
    assert models[-1].files == ("history.csv", "model.keras", "provenance.json")
    assert [ended.status for ended in workspace.events(Ended)] == ["finished"]
    [outbox] = workspace.outboxes
    kept = [s.folder / s.event.files[0] for s in outbox.events() if isinstance(s.event, Model)]
    assert kept[0].read_bytes() == b"weights of epoch 1", "Keeper has removed its own"


@pytest.mark.parametrize(("models", "sent"), [("final", ["model"]), ("none", [])])
def test_fewer_models_can_be_sent(workspace, models, sent):
    workspace.track(mlflow={"store": "http://127.0.0.1:9"}, wait_s=0, models=models)
    follower, _ = workspace.train((1, 2))
    finish(follower, workspace)
    assert [model.label for model in workspace.events(Model)] == sent


def test_a_resumed_training_goes_on_as_the_run_that_it_was(workspace):
    follower, _ = workspace.train((1, 2))
    follower.abandon("stopped")
    follower, _ = workspace.train((3,), run="run-2")
    finish(follower, workspace)
    [outbox] = workspace.outboxes
    assert outbox.about.runs == ("run-1", "run-2")
    assert [row.step for row in workspace.events(Row)] == [1, 2, 3]
    labels = [model.label for model in workspace.events(Model)]
    assert labels == ["epoch-0001", "epoch-0002", "epoch-0003", "model"]
    assert [ended.status for ended in workspace.events(Ended)] == ["stopped", "finished"]


def test_so_does_one_that_was_killed_when_all_its_epochs_were_over(workspace):
    workspace.kill(workspace.train((1, 2))[0])
    follower, _ = workspace.train((), run="run-2")
    finish(follower, workspace)
    [outbox] = workspace.outboxes
    assert outbox.about.runs == ("run-1", "run-2")


def test_a_training_that_could_not_resume_is_another_run(workspace):
    """Its checkpoints were there, and `Checkpoints.load` refused them."""
    for epochs, run in (((1, 2), "run-1"), ((1,), "run-2")):
        workspace.kill(workspace.train(epochs, run=run)[0])
    assert [outbox.about.runs for outbox in workspace.outboxes] == [("run-1",), ("run-2",)]


def test_a_training_on_other_data_is_another_run(workspace):
    workspace.kill(workspace.train((1, 2))[0])
    other = {"data/table/cifar100.parquet": "2" * 32}
    workspace.kill(workspace.train((3,), run="run-2", inputs=other)[0])
    assert len(workspace.outboxes) == 2


def test_a_training_after_a_finished_one_is_another_run(workspace):
    for run in ("run-1", "run-2"):
        follower, _ = workspace.train((1,), run=run)
        finish(follower, workspace)
    assert [outbox.about.runs for outbox in workspace.outboxes] == [("run-1",), ("run-2",)]


def test_the_report_joins_the_run_of_its_training(workspace):
    follower, _ = workspace.train((1, 2))
    finish(follower, workspace)
    write_report(workspace)
    follower, *_ = workspace.follow(("report", "cnn9"), "run-2")
    follower.finish({"top1": 0.5, "top1_low": 0.4, "top1_high": 0.6, "images": "generated"})
    figures = workspace.events(Figures)[-1]
    assert figures.values == {"test/top1": 0.5, "test/top1_low": 0.4, "test/top1_high": 0.6}
    [files] = workspace.events(Files)
    assert files.files == ("index.html", "plots/mistakes.png")
    assert len(workspace.events(Begun)) == 1


def test_the_report_of_a_model_from_elsewhere_has_a_run_made_of_its_provenance(workspace):
    write_model(workspace, run="elsewhere")
    write_report(workspace)
    for run in ("run-1", "run-2"):
        follower, *_ = workspace.follow(("report", "cnn9"), run)
        follower.finish({"top1": 0.5})
    [begun] = workspace.events(Begun)
    assert begun.configuration == {"epochs": 2}
    assert [row.step for row in workspace.events(Row)] == [1, 2]
    assert len(workspace.events(Files)) == 2


def test_the_trials_of_a_search_are_told_with_their_curves(workspace):
    follower, *_ = workspace.follow(("search", "custom_search"))
    told = {"stage": "draws", "epochs": 2, "optimizer.learning_rate": "0.01"}
    best = {"accuracy": 0.5, "first_fold": "0.4000, 0.5000", "best": 0.5}
    follower.trial(told | best | {"trial": 0, "state": "complete"})
    follower.trial(told | {"trial": 1, "state": "pruned", "first_fold": "0.1000"})
    follower.trial(told | {"trial": 2, "state": "fail", "first_fold": ""})
    trials = workspace.events(Trial)
    assert [trial.label for trial in trials] == ["draws-0000", "draws-0001", "draws-0002"]
    assert trials[0].configuration == {"optimizer.learning_rate": "0.01"}
    assert trials[0].rows == (0.4, 0.5)
    assert trials[0].values == {"accuracy": 0.5, "epochs": 2}
    assert [row.values for row in workspace.events(Row)] == [{"best_accuracy": 0.5}]
    assert "search" in workspace.events(Begun)[0].configuration
    workspace.kill(follower)


def test_a_resumed_search_goes_on_as_the_run_that_it_was(workspace):
    told = {"stage": "draws", "epochs": 1, "state": "pruned", "first_fold": "0.1"}
    study = workspace.home.study("custom_search", "smoke") / "identity"
    for number in (0, 1):
        follower, *_ = workspace.follow(("search", "custom_search"), f"run-{number}")
        study.mkdir(parents=True, exist_ok=True)
        follower.trial(told | {"trial": number})
        workspace.kill(follower)
    [outbox] = workspace.outboxes
    assert outbox.about.runs == ("run-0", "run-1")
    assert [trial.label for trial in workspace.events(Trial)] == ["draws-0000", "draws-0001"]


def test_nothing_is_told_by_default(workspace):
    workspace.track()
    follower, _ = workspace.train((1, 2))
    finish(follower, workspace)
    assert follower.shown == {}
    assert not workspace.home.tracking.exists()


def test_a_tracker_whose_library_is_missing_is_an_error_that_names_the_command(
    workspace, monkeypatch
):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(PipelineError, match=r"pip install 'cifar-pipeline\[mlflow\]'"):
        workspace.follow()


def test_a_disk_that_takes_nothing_ends_the_telling_and_not_the_training(workspace):
    workspace.home.tracking.parent.mkdir(exist_ok=True)
    workspace.home.tracking.write_text("a file, where a folder is to be made")
    follower, _ = workspace.train((1, 2, 3))
    finish(follower, workspace)
    assert len(workspace.told) == 1
    assert "trackers are told nothing more of this step: " in workspace.told[0]
    assert "nothing more" in follower.shown["tracked"]
