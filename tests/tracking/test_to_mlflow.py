"""MLflow's own local store, written by the adapter and read back by MLflow's client."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from cifar_pipeline.tracking.events import Begun, Ended, Figures, Files, Model, Row, Trial
from cifar_pipeline.tracking.outbox import About, Outbox
from cifar_pipeline.tracking.to_mlflow import MLflowTracker, local_store

CONFIGURATION = {"optimizer": {"name": "adam", "rate": 0.1}, **{f"key{n}": n for n in range(120)}}


@pytest.fixture(scope="session")
def tracking(tmp_path_factory):
    """A store for all tests: its creation takes seconds. Each test has an experiment."""
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture
def outbox(tracking, tmp_path, request):
    settings = {"mlflow": {"store": "local", "experiment": request.node.name}}
    about = About("0123456789ab", "model", "cnn9", "smoke", settings)
    return Outbox.create(tmp_path / "runs", about)


@pytest.fixture
def sent(outbox, tmp_path):
    """A training, its report and a trial."""
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "mistakes.png").write_bytes(b"picture")
    (tmp_path / "best-0002.weights.h5").write_bytes(b"weights")
    outbox.add(Begun("cnn9, smoke", CONFIGURATION, {"dagster_run": "run-1"}, {"data/t": "0" * 32}))
    for step in (1, 2):
        outbox.add(Row(step, {"loss": 1 / step}))
    outbox.add(Model("epoch-0002", ("best-0002.weights.h5",), {"epoch": 2}), tmp_path)
    outbox.add(Trial("draws-0001", {"rate": "0.1"}, {"accuracy": 0.5}, (0.4, 0.5), "pruned"))
    outbox.add(Ended("finished"))
    outbox.add(Figures({"test/top1": 0.5, "test/top1_low": 0.4}, {"test/images": "generated"}))
    outbox.add(Files("report", ("plots/mistakes.png",)), tmp_path)
    return outbox.events()


def runs(tracking, name):
    client = MlflowClient(local_store(tracking))
    experiment = client.get_experiment_by_name(name)
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    return client, found


def take(outbox, tracking, events):
    tracker = MLflowTracker(outbox.about, tracking)
    for event in events:
        tracker.take(event)


def test_all_of_a_run_is_in_the_store(tracking, outbox, sent, request, tmp_path):
    take(outbox, tracking, sent)
    client, found = runs(tracking, request.node.name)
    run, child = found["cnn9, smoke"], found["draws-0001"]
    number = run.info.run_id
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.name"] == "adam"
    assert len(run.data.params) == 122, "more than a request may hold"
    assert run.data.tags["dagster_run"] == "run-1"
    assert run.data.tags["test/images"] == "generated"
    history = client.get_metric_history(number, "loss")
    assert [(point.step, point.value) for point in history] == [(1, 1), (2, 0.5)]
    assert run.data.metrics["test/top1_low"] == 0.4
    assert [use.dataset.digest for use in run.inputs.dataset_inputs] == ["0" * 32]
    picture = client.download_artifacts(number, "report/plots/mistakes.png", str(tmp_path))
    assert Path(picture).read_bytes() == b"picture"
    paths = [file.path for file in client.list_artifacts(number, "models/epoch-0002")]
    assert paths == ["models/epoch-0002/about.json", "models/epoch-0002/best-0002.weights.h5"]
    assert child.data.tags["mlflow.parentRunId"] == number
    assert child.info.status == "KILLED"
    history = client.get_metric_history(child.info.run_id, "val_accuracy")
    assert [point.value for point in history] == [0.4, 0.5]


def test_what_is_sent_twice_is_there_once(tracking, outbox, sent, request):
    """As after a connection that broke before the answer came."""
    take(outbox, tracking, sent)
    take(outbox, tracking, sent)
    client, found = runs(tracking, request.node.name)
    assert len(found) == 2
    number = found["cnn9, smoke"].info.run_id
    assert len(client.get_metric_history(number, "loss")) == 2
    assert len(found["cnn9, smoke"].inputs.dataset_inputs) == 1
    assert len(client.list_artifacts(number, "models")) == 1


def test_a_run_goes_on_where_another_process_left_it(tracking, outbox, sent, request):
    take(outbox, tracking, sent[:2])
    take(outbox, tracking, sent[2:])
    _, found = runs(tracking, request.node.name)
    assert set(found) == {"cnn9, smoke", "draws-0001"}


def test_a_run_that_was_deleted_is_an_error_that_says_so(tracking, outbox, sent):
    with pytest.raises(LookupError, match="no run with the tag cifar_run 0123456789ab any more"):
        take(outbox, tracking, sent[1:])


def test_a_deleted_experiment_is_an_error_that_names_the_setting(tracking, outbox, sent, request):
    take(outbox, tracking, sent[:1])
    client, _ = runs(tracking, request.node.name)
    client.delete_experiment(client.get_experiment_by_name(request.node.name).experiment_id)
    with pytest.raises(LookupError, match=r"restore it, or name another .*mlflow\.experiment"):
        take(outbox, tracking, sent[:1])
