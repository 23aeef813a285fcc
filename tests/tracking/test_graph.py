"""A real training and a real search through the graph, with a tracker that hangs, and a kill.

That no tracker costs time is in `test_failing`.
"""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from cifar_pipeline.models.saved import load_model, weights_digest
from cifar_pipeline.paths import Workspace
from tests.workspaces import Copy, change_yaml

CIFAR = (sys.executable, "-m", "cifar_pipeline")
EPOCHS, WAIT_S = 6, 2.0
# They share a copy.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("tracked")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A copy with its data made."""
    copy = Copy(tmp_path_factory.mktemp("tracked"), models=["cnn9"])
    recipe = copy.root / "recipes" / "cnn9.yaml"
    change_yaml(recipe, lambda found: found["smoke"].update(epochs=EPOCHS))
    copy.run(*CIFAR, "plan")
    copy.run(*CIFAR, "materialize", "archive", "table", "splits", "test_subsets")
    return copy


@pytest.fixture
def copy(made, server):
    """The copy, which tracks on the server."""
    tracking = {"mlflow": {"store": server.address}, "wait_s": WAIT_S}
    change_yaml(made.root / "params.yaml", lambda found: found.update(tracking=tracking))
    shutil.rmtree(made.root / "data" / "tracking", ignore_errors=True)
    return made


def kill_after(copy, line):
    """Run the whole graph, and kill all of it when the line appears."""
    process = subprocess.Popen(
        [*CIFAR, "run"],
        cwd=copy.root,
        env=copy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    seen = []
    for printed in process.stdout:
        seen.append(printed)
        if line in printed:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.communicate()
    assert any(line in printed for printed in seen), "".join(seen)


@pytest.mark.nightly
def test_a_killed_training_goes_on_as_the_same_run_and_nothing_is_lost(copy, server, tmp_path):
    server.behaviour = "hangs"
    kill_after(copy, f"epoch 3/{EPOCHS} done")
    parts = [f"{kind}/cnn9" for kind in ("model", "predictions", "report")]
    done = copy.run(*CIFAR, "materialize", *parts)
    said = done.stdout + done.stderr
    assert "resuming after epoch" in said
    assert "`cifar track` sends the rest" in said
    stale = copy.run(*CIFAR, "status").stdout
    assert not any(part in stale for part in parts), "they are recorded, whatever the tracker did"
    server.behaviour = "works"
    assert "MLflow has all" in copy.run(*CIFAR, "track").stdout
    [run] = server.runs.values()
    assert run["status"] == "FINISHED"
    steps = {step for key, step, _ in run["metrics"] if key == "loss"}
    assert steps == set(range(1, EPOCHS + 1))
    home = Workspace(copy.root)
    metrics = json.loads((home.report("cnn9") / "metrics.json").read_text())
    figures = {key: value for key, step, value in run["metrics"] if step == 0}
    for key in ("top1", "top1_low", "top1_high"):
        assert figures[f"test/{key}"] == pytest.approx(metrics[key])
    sent = {path.split("/artifacts/")[1]: content for path, content in server.artifacts.items()}
    picture = home.report("cnn9") / "plots" / "mistakes.png"
    assert sent["report/plots/mistakes.png"] == picture.read_bytes()
    provenance = json.loads((home.model("cnn9") / "provenance.json").read_text())
    best = f"models/epoch-{provenance['best_epoch']:04}"
    assert json.loads(sent[f"{best}/about.json"])["epoch"] == provenance["best_epoch"]
    weights = tmp_path / "best.weights.h5"
    weights.write_bytes(
        next(v for k, v in sent.items() if k.startswith(best) and k.endswith(".weights.h5"))
    )
    shutil.copytree(home.model("cnn9"), tmp_path / "model")
    (tmp_path / "model" / "model.keras").write_bytes(sent["models/model/model.keras"])
    model = load_model(tmp_path / "model")
    for variable in model.weights:
        variable.assign(variable * 0)
    model.load_weights(weights)
    assert weights_digest(model) == provenance["model_sha256"], "loaded as its about.json says"


@pytest.mark.nightly
def test_the_trials_of_a_search_are_child_runs(copy, server):
    short = {"draws": {"trials": 2, "folds": 2, "epochs": 1}, "grid": None}
    recipe = copy.root / "recipes" / "custom_search.yaml"
    change_yaml(recipe, lambda found: found["search"].update(smoke=short))
    copy.run(*CIFAR, "search", "custom_search")
    copy.run(*CIFAR, "track")
    [parent] = server.named("search around custom_search, smoke")
    children = [run for run in server.runs.values() if run is not parent]
    assert {child["tags"]["mlflow.parentRunId"] for child in children} == {parent["id"]}
    assert {child["name"] for child in children} == {"draws-0000", "draws-0001"}
    assert parent["status"] == "FINISHED"
    assert any(path.endswith("search/index.html") for path in server.artifacts)
