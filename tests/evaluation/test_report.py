import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.predictions import write_predictions
from cifar_pipeline.evaluation.report import FILES, check_report, write_leaderboard, write_report

PROVENANCE = {
    "profile": "smoke",
    "generated": True,
    "weights": {"name": "none"},
    "parameters": 12,
    "training_s": 3.5,
    "archive_sha256": "abc",
}


@pytest.fixture
def inputs(prepared, tmp_path):
    """Predictions of the test split that are right three times in four, and a model's folder."""
    labels = read_table(prepared.table)["fine_label"].to_numpy()[1000:]
    probabilities = np.full((200, 100), 0.001, np.float32)
    guess = np.where(np.arange(200) % 4, labels, (labels + 1) % 100)
    probabilities[np.arange(200), guess] = 0.901
    columns = {
        "row_id": pa.array(np.arange(1000, 1200, dtype=np.int32)),
        "fine_label": pa.array(labels),
        "probabilities": pa.FixedSizeListArray.from_arrays(pa.array(probabilities.ravel()), 100),
    }
    write_predictions(pa.table(columns), tmp_path / "predictions.parquet")
    model = tmp_path / "model"
    model.mkdir()
    (model / "provenance.json").write_text(json.dumps(PROVENANCE))
    history = {
        "epoch": [1, 2],
        "image_size": [16, 32],
        "loss": [4.0, 3.0],
        "accuracy": [0.1, 0.2],
        "val_loss": [4.1, 3.2],
        "val_accuracy": [0.1, 0.2],
    }
    pd.DataFrame(history).to_csv(model / "history.csv", index=False)
    return tmp_path / "predictions.parquet", model, prepared.table


@pytest.fixture
def report(inputs, tmp_path):
    folder = tmp_path / "report"
    write_report("some_model", *inputs, folder)
    return folder


def test_a_whole_report(report):
    assert {path.relative_to(report).as_posix() for path in report.rglob("*") if path.is_file()} == set(FILES)
    metrics = json.loads((report / "metrics.json").read_text())
    assert (metrics["n"], metrics["top1"]) == (200, 0.75)
    assert metrics["top1_low"] < 0.75 < metrics["top1_high"]
    assert pd.read_csv(report / "classification_report.csv", index_col=0).shape[0] >= 102
    assert pd.read_csv(report / "confusion_coarse.csv", index_col=0).to_numpy().sum() == 200
    assert all(check.passed for check in check_report(report))


def test_the_page_needs_nothing_else_and_owns_up_to_generated_images(report):
    page = (report / "index.html").read_text()
    assert "Generated images, not CIFAR-100" in page
    assert not re.findall(r"src=\"(?!data:)", page)
    assert re.findall(r"href=\"(.+?)\"", page) == ["../../leaderboard/index.html"]
    assert "://" not in page
    assert page.count('<img alt="') == page.count("<img") == 4
    assert "75.00 %" in page


def test_a_page_of_real_images_does_not_say_generated(inputs, tmp_path):
    (inputs[1] / "provenance.json").write_text(json.dumps(PROVENANCE | {"generated": False}))
    write_report("some_model", *inputs, tmp_path / "report")
    assert "Generated images" not in (tmp_path / "report" / "index.html").read_text()


def test_the_same_input_gives_the_same_bytes(inputs, report, tmp_path):
    write_report("some_model", *inputs, tmp_path / "again")
    assert all((report / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in FILES)


def test_an_incomplete_report_is_found(report):
    (report / "plots" / "curves.png").unlink()
    (check,) = check_report(report)
    assert not check.passed
    assert check.details == {"missing": ["plots/curves.png"]}


def test_predictions_of_another_table_are_refused(inputs, prepared, tmp_path, make_archive, content):
    from cifar_pipeline.dataset.table import build_table, write_table

    labels = [(label + 1) % 100 for label in content["test"][b"fine_labels"]]
    other = build_table(make_archive(test={b"fine_labels": labels, b"coarse_labels": [label % 20 for label in labels]}))
    write_table(other, tmp_path / "other.parquet")
    with pytest.raises(PipelineError, match="was not made from"):
        write_report("some_model", inputs[0], inputs[1], tmp_path / "other.parquet", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


def test_a_leaderboard_orders_and_refuses_what_cannot_be_compared(report, inputs, tmp_path):
    board = write_leaderboard({"a": report, "b": report}, {"a": inputs[1], "b": inputs[1]}, tmp_path / "board")
    assert list(board["top1"]) == [0.75, 0.75]
    assert "Generated images" in (tmp_path / "board" / "index.html").read_text()
    other = tmp_path / "other"
    other.mkdir()
    (other / "provenance.json").write_text(json.dumps(PROVENANCE | {"profile": "quick"}))
    with pytest.raises(PipelineError, match=r"differ in profile: {'a': 'smoke', 'b': 'quick'}"):
        write_leaderboard({"a": report, "b": report}, {"a": inputs[1], "b": other}, tmp_path / "board")
    with pytest.raises(PipelineError, match="materialize the report of 'b'"):
        write_leaderboard({"a": report, "b": other}, {"a": inputs[1], "b": inputs[1]}, tmp_path / "board")
