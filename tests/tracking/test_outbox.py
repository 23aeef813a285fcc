"""The outbox survives what a training may not."""

import os

import pytest

from cifar_pipeline.tracking.events import Begun, Ended, Figures, Files, Model, Row, Trial
from cifar_pipeline.tracking.outbox import ABOUT, EVENTS, About, Delivery, Outbox, files_in, find

TRACKERS = {"mlflow": {"store": "local"}, "wandb": {"mode": "offline"}}


@pytest.fixture
def outbox(tmp_path):
    about = About("key", "model", "cnn9", "smoke", TRACKERS, ("run-1",))
    return Outbox.create(tmp_path / "runs", about)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "report"
    (folder / "plots").mkdir(parents=True)
    (folder / "plots" / "mistakes.png").write_bytes(b"picture")
    (folder / "index.html").write_text("page")
    return folder


EVENTS_OF_ALL_KINDS = [
    Begun("cnn9", {"optimizer": {"rate": 0.1}}, {"hardware": "é"}, {"data/t": "0"}),
    Row(1, {"loss": 0.5}),
    Figures({"top1": 0.5, "top1_low": 0.4}, {"images": "generated"}),
    Trial("draws-0001", {"rate": 0.1}, {"accuracy": 0.5}, (0.4, 0.5), "pruned"),
    Files("report", ("index.html", "plots/mistakes.png")),
    Model("epoch-0001", ("index.html",), {"epoch": 1}),
    Ended("stopped"),
]


def test_every_event_is_read_as_it_was_written(outbox, source):
    for event in EVENTS_OF_ALL_KINDS:
        outbox.add(event, source)
    assert [sent.event for sent in outbox.events()] == EVENTS_OF_ALL_KINDS
    assert outbox.about.trackers == TRACKERS
    assert outbox.waiting() == {"mlflow": 7, "wandb": 7}


def test_files_are_there_when_their_source_is_gone(outbox, source):
    outbox.add(Files("report", files_in(source)), source)
    inode = (source / "index.html").stat().st_ino
    (source / "index.html").unlink()
    [sent] = outbox.events()
    assert sent.event.files == ("index.html", "plots/mistakes.png")
    assert (sent.folder / "index.html").read_text() == "page"
    assert (sent.folder / "index.html").stat().st_ino == inode, "a link, and no copy"


def test_files_are_kept_until_every_tracker_has_them(outbox, source):
    outbox.add(Files("report", files_in(source)), source)
    outbox.add(Row(1, {"loss": 0.5}))
    [sent, _] = outbox.events()
    outbox.delivered("mlflow", Delivery(sent=2))
    assert sent.folder.is_dir()
    outbox.delivered("wandb", Delivery(sent=1))
    assert not sent.folder.exists()
    assert outbox.waiting() == {"mlflow": 0, "wandb": 1}
    assert (source / "index.html").is_file()


def test_a_line_that_a_kill_cut_short_costs_that_event_alone(outbox):
    outbox.add(Row(1, {"loss": 0.5}))
    outbox.add(Row(2, {"loss": 0.4}))
    path = outbox.folder / EVENTS
    os.truncate(path, path.stat().st_size - 9)
    assert len(outbox.events()) == 1, "it may still be being written"
    outbox.add(Row(3, {"loss": 0.3}))
    first, cut, last = outbox.events()
    assert (first.event.step, cut, last.event.step) == (1, None, 3)


def test_what_is_no_number_is_refused_at_once(outbox):
    with pytest.raises(ValueError, match="JSON"):
        outbox.add(Row(1, {"loss": float("nan")}))


def test_the_run_of_a_model_is_found(outbox, tmp_path):
    runs = outbox.folder.parent
    assert find(runs, "model", "cnn9", "run-1").folder == outbox.folder
    assert find(runs, "model", "cnn9", "run-2") is None
    assert find(runs, "model", "control", "run-1") is None
    assert find(tmp_path / "none", "model", "cnn9", "run-1") is None
    assert (outbox.folder / ABOUT).is_file()
