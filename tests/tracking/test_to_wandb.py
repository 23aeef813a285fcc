"""Weights & Biases' own offline files, written by the adapter and read back record by record."""

import json
import struct

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from cifar_pipeline.tracking.events import Begun, Ended, Figures, Files, Model, Row, Trial
from cifar_pipeline.tracking.outbox import About, Outbox
from cifar_pipeline.tracking.to_wandb import WandbTracker

SETTINGS = {"wandb": {"mode": "offline", "project": "here", "entity": None}}
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def records(path):
    """The records of a run's file: a header of 7 bytes, then LevelDB's log format."""
    content, at, found, part = path.read_bytes(), 7, [], b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            found.append(Record.FromString(part))
            part = b""
    return found


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """Where a training, its report and a trial have been written to."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_API_KEY", "0123456789" * 4)
        folder = tmp_path_factory.mktemp("tracking")
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            environment.setenv(name, str(folder / "wandb"))
        source = folder / "source"
        source.mkdir()
        (source / "mistakes.png").write_bytes(PNG)
        (source / "index.html").write_text("<p>page")
        (source / "best-0002.weights.h5").write_bytes(b"weights")
        about = About("0123456789ab", "model", "cnn9", "smoke", SETTINGS)
        outbox = Outbox.create(folder / "runs", about)
        outbox.add(Begun("cnn9", {"optimizer": {"rate": 0.1}}, {"dagster_run": "run-1"}))
        for step in (1, 2):
            outbox.add(Row(step, {"loss": 1 / step}))
        outbox.add(Model("epoch-0002", ("best-0002.weights.h5",), {"epoch": 2}), source)
        outbox.add(Trial("draws-0001", {"rate": "0.1"}, {"accuracy": 0.5}, (0.4, 0.5), "pruned"))
        outbox.add(Figures({"test/top1": 0.5}, {"test/images": "generated"}))
        outbox.add(Files("report", ("index.html", "mistakes.png")), source)
        outbox.add(Ended("finished"))
        tracker = WandbTracker(outbox.about, folder)
        for sent in outbox.events():
            tracker.take(sent)
        tracker.confirm()
        yield folder


def values(items):
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def run_of(tracking, key):
    [path] = tracking.glob(f"wandb/offline-run-*-{key}/run-{key}.wandb")
    return path.parent, records(path)


def test_all_of_a_run_is_in_its_file(tracking):
    folder, found = run_of(tracking, "0123456789ab")
    [run] = [record.run for record in found if record.HasField("run")][:1]
    assert (run.run_id, run.display_name, run.project) == ("0123456789ab", "cnn9", "here")
    configured = {
        update.key: json.loads(update.value_json)
        for record in found
        for update in (*record.config.update, *record.run.config.update)
        if update.key
    }
    assert configured["optimizer"] == {"rate": 0.1}
    assert configured["facts"]["dagster_run"] == "run-1"
    rows = [values(record.history.item) for record in found if record.HasField("history")]
    assert [(row["_step"], row["loss"]) for row in rows if "loss" in row] == [(1, 1.0), (2, 0.5)]
    assert rows[-1]["report/mistakes._type"] == "image-file"
    assert rows[-1]["report/page._type"] == "html-file"
    summary = values(item for record in found for item in record.summary.update)
    assert summary["test/top1"] == 0.5
    assert summary["test/images"] == "generated"
    kept = [record.artifact for record in found if record.HasField("artifact")]
    artefacts = {artefact.name: artefact for artefact in kept}
    assert set(artefacts) == {"model-0123456789ab", "report-0123456789ab"}
    model = artefacts["model-0123456789ab"]
    assert json.loads(model.metadata) == {"epoch": 2}
    assert "epoch-0002" in model.aliases
    assert [file.path for file in model.manifest.contents] == ["best-0002.weights.h5"]
    [picture] = folder.glob("files/media/images/report/mistakes*.png")
    assert picture.read_bytes() == PNG


def test_a_trial_is_a_run_of_its_own(tracking):
    _, found = run_of(tracking, "0123456789ab-draws-0001")
    run = next(record.run for record in found if record.HasField("run"))
    assert (run.display_name, run.job_type) == ("draws-0001", "trial")


def test_the_key_is_in_no_file(tracking):
    files = [path for path in tracking.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if b"0123456789012345" in path.read_bytes()] == []
