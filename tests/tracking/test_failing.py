"""Trackers that hang, refuse, deny and die: the training does not notice, and nothing is lost."""

import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner

from cifar_pipeline.cli import main
from cifar_pipeline.tracking.session import SPARE_S, send_waiting

EPOCHS, EACH_S, WAIT_S = range(1, 11), 0.4, 2.0
PASSWORD, TOKEN = "correct-horse-battery", "staple-0123456789"


def fail(server, behaviour):
    if behaviour == "refuses":
        server.stop()
    elif behaviour == "dies":
        server.dies_after = 12
    else:
        server.behaviour = behaviour


def repair(server):
    server.behaviour, server.dies_after = "works", None
    server.stop()
    server.start()


def steps(run):
    return sorted(step for key, step, _ in run["metrics"] if key == "loss")


@pytest.mark.slow
@pytest.mark.parametrize("behaviour", ["hangs", "refuses", "dies"])
def test_a_tracker_that_fails_costs_no_time_and_is_sent_everything_later(
    workspace, server, behaviour
):
    workspace.track(mlflow={"store": server.address}, wait_s=WAIT_S)
    fail(server, behaviour)
    follower, hooks = workspace.train(EPOCHS, each_s=EACH_S)
    assert hooks < 0.1 * len(EPOCHS) * EACH_S, "what ten epochs cost"
    began = time.monotonic()
    follower.abandon("stopped")
    assert time.monotonic() - began < WAIT_S + SPARE_S + 1
    said = workspace.told[-1]
    assert "MLflow has " in said
    assert "`cifar track` sends the rest" in said
    assert follower.shown["tracked by MLflow"] == said
    repair(server)
    [line] = send_waiting(workspace.home.tracking / "runs", ["mlflow"], 60)
    assert line.startswith("model/cnn9, smoke: MLflow has all ")
    [run] = server.runs.values()
    assert steps(run) == list(EPOCHS)
    assert run["status"] == "KILLED"
    weights = [path for path in server.artifacts if path.endswith(".weights.h5")]
    assert len(weights) == len(EPOCHS)
    [outbox] = workspace.outboxes
    assert not any((outbox.folder / "files").iterdir()), "sent, and so removed"


def test_a_tracker_that_comes_back_is_sent_everything_at_once(workspace, server):
    workspace.track(mlflow={"store": server.address}, wait_s=20)
    server.behaviour = "denies"

    def repaired(epoch):
        if epoch == 8:
            assert "MLflow does not take what it is sent" in workspace.told[0]
            server.behaviour = "works"

    follower, _ = workspace.train(EPOCHS, each_s=0.6, after_epoch=repaired)
    follower.abandon("failed")
    assert follower.shown["tracked by MLflow"].startswith("MLflow has all 22 events: http://")
    [run] = server.runs.values()
    assert steps(run) == list(EPOCHS)


def test_secrets_are_in_no_file_and_in_no_word(workspace, server, monkeypatch, capfd):
    """The server repeats the credentials that it was sent, as careless proxies do."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    monkeypatch.setenv("WANDB_API_KEY", TOKEN * 3)
    host = server.address.removeprefix("http://")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:{PASSWORD}@{host}")
    workspace.track(mlflow={"store": "https://mlflow.example.org"}, wait_s=0)
    server.behaviour = "denies"
    follower, _ = workspace.train((1, 2))
    follower.abandon("failed")
    lines = send_waiting(workspace.home.tracking / "runs", ["mlflow"], 60)
    said = " ".join([*lines, *workspace.told, *follower.shown.values(), *capfd.readouterr()])
    assert server.requests
    assert "401" in said or "not allowed" in said
    files = [path for path in workspace.home.root.rglob("*") if path.is_file()]
    written = " ".join(path.read_bytes().decode(errors="replace") for path in files)
    for secret in (PASSWORD, TOKEN):
        assert secret not in said
        assert secret not in written


def test_a_sender_ends_when_the_process_that_it_belongs_to_is_killed(workspace, server):
    workspace.track(mlflow={"store": server.address}, wait_s=1)
    server.behaviour = "hangs"
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from cifar_pipeline.tracking.events import Row\n"
        "from cifar_pipeline.tracking.outbox import About, Outbox\n"
        "from cifar_pipeline.tracking.session import Session\n"
        f"settings = {{'mlflow': {{'store': {server.address!r}, 'experiment': 'e'}}}}\n"
        "outbox = Outbox.create(Path(sys.argv[1]), About('k', 'model', 'm', 'smoke', settings))\n"
        "session = Session(outbox, 1, print)\n"
        "session.add(Row(1, {'loss': 1.0}))\n"
        "print(session._senders['mlflow'].pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    runs = workspace.home.tracking / "runs"
    command = [sys.executable, "-c", code, str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        sender = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + 10
    while is_running(sender) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(sender)


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_command_sends_what_waits_and_says_how_to_see_it(workspace, server):
    workspace.track(mlflow={"store": server.address}, wait_s=0)
    follower, _ = workspace.train((1, 2))
    follower.abandon("stopped")
    done = CliRunner().invoke(main, ["track"])
    assert done.exit_code == 0
    assert "model/cnn9, smoke: MLflow has all 6 events: http" in done.output
    assert "MLflow: they are on the server's page" in done.output


def test_the_command_says_that_nothing_is_tracked_yet(workspace):
    workspace.track(mlflow={"store": "local"})
    done = CliRunner().invoke(main, ["track"])
    assert done.exit_code == 0
    assert "no training has been tracked yet" in done.output
    assert CliRunner().invoke(main, ["track", "--wait", "-1"]).exit_code == 2


def test_the_command_says_how_to_switch_a_tracker_on(workspace):
    done = CliRunner().invoke(main, ["track"])
    assert done.exit_code == 1
    assert (
        "`tracking: {mlflow: {store: local}}` switches on one that needs no account" in done.output
    )


def test_a_local_store_has_a_page_by_a_command(workspace):
    workspace.track(mlflow={"store": "local"}, wandb={"mode": "offline"})
    done = CliRunner().invoke(main, ["track"])
    assert "mlflow ui --backend-store-uri sqlite:////" in done.output
    assert "wandb sync" in done.output
