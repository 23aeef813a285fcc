import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from cifar_pipeline.dataset.splits import split_rows
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.metrics import Classes, Predictions, accuracy_with_interval, compute_metrics, confusion, report_table
from cifar_pipeline.evaluation.predictions import write_predictions


@pytest.fixture
def classes(prepared):
    return Classes.of(read_table(prepared.table))


def predictions_of(probabilities, true):
    return Predictions(np.arange(len(true)), np.asarray(true), np.asarray(probabilities))


def random_predictions(n=500, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 100))
    true = rng.integers(0, 100, n)
    logits[np.arange(n), true] += 3
    exponential = np.exp(logits)
    return predictions_of(exponential / exponential.sum(axis=1, keepdims=True), true)


def test_against_scikit_learn(classes):
    predictions = random_predictions()
    metrics = compute_metrics(predictions, classes)
    labels = np.arange(100)
    assert metrics["n"] == 500
    assert metrics["top1"] == pytest.approx((predictions.predicted == predictions.true).mean())
    assert metrics["top5"] == pytest.approx(top_k_accuracy_score(predictions.true, predictions.probabilities, k=5, labels=labels))
    assert metrics["loss"] == pytest.approx(log_loss(predictions.true, predictions.probabilities, labels=labels))
    assert metrics["coarse_top1"] == pytest.approx((predictions.predicted % 20 == predictions.true % 20).mean())


def test_by_hand(classes):
    """Three images: right; second choice in the right superclass; sixth choice."""
    probabilities = np.full((3, 100), 0.0)
    probabilities[0, 7] = 1.0
    probabilities[1, [27, 7]] = 0.75, 0.25  # 7 and 27 share superclass 7
    probabilities[2, [1, 2, 3, 4, 5, 6]] = 0.3, 0.2, 0.2, 0.15, 0.1, 0.05
    metrics = compute_metrics(predictions_of(probabilities, [7, 7, 6]), classes)
    assert (metrics["top1"], metrics["top5"], metrics["coarse_top1"]) == pytest.approx((1 / 3, 2 / 3, 2 / 3))
    assert metrics["loss"] == pytest.approx(-(np.log(1) + np.log(0.25) + np.log(0.05)) / 3)


def test_five_of_equal_probabilities_are_five(classes):
    """A model that knows nothing has a top-5 accuracy of 5 %, not of 100 %."""
    metrics = compute_metrics(predictions_of(np.full((100, 100), 0.01), np.arange(100)), classes)
    assert (metrics["top1"], metrics["top5"]) == (0.01, 0.05)


def test_wilsons_interval():
    """81 of 263: the worked example of Newcombe (1998), table I."""
    interval = accuracy_with_interval("top1", np.arange(263) < 81)
    assert interval["top1_low"] == pytest.approx(0.2553, abs=5e-5)
    assert interval["top1_high"] == pytest.approx(0.3662, abs=5e-5)


def test_class_report_and_confusion_agree(classes):
    predictions = random_predictions()
    table = report_table(predictions, classes)
    counts = confusion(predictions.true, predictions.predicted, classes.fine_names)
    assert list(table.index[:100]) == classes.fine_names
    assert table["superclass"].iloc[27] == "generated_group_07"
    diagonal = np.diag(counts.to_numpy())
    support = counts.to_numpy().sum(axis=1)
    assert np.allclose(table["recall"].iloc[:100], diagonal / np.maximum(support, 1))
    assert support.sum() == 500


def written(tmp_path, **columns):
    base = {"row_id": pa.array([0, 1]), "fine_label": pa.array([3, 4], pa.uint8())}
    pq.write_table(pa.table(base | columns), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def rows_of(values):
    values = np.asarray(values, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "has the columns"),
        ({"probabilities": rows_of(np.full((2, 10), 0.1))}, "holds 10 probabilities a row, expected 100"),
        ({"probabilities": rows_of(np.full((2, 100), np.nan))}, "not probabilities"),
        ({"probabilities": rows_of(np.full((2, 100), 1.0))}, "not probabilities"),
    ],
)
def test_foreign_predictions_are_refused(tmp_path, columns, message):
    with pytest.raises(PipelineError, match=message):
        Predictions.read(written(tmp_path, **columns))


def test_missing_predictions_are_one_message(tmp_path):
    with pytest.raises(PipelineError, match="is missing"):
        Predictions.read(tmp_path / "none.parquet")


def test_predictions_survive_the_disk(tmp_path, prepared):
    expected = random_predictions(200)
    rows = split_rows(read_table(prepared.splits), "test")
    table = {
        "row_id": rows.astype(np.int32),
        "fine_label": expected.true.astype(np.uint8),
        "probabilities": rows_of(expected.probabilities),
    }
    write_predictions(pa.table(table), tmp_path / "p.parquet")
    read = Predictions.read(tmp_path / "p.parquet")
    assert np.array_equal(read.row_id, rows)
    assert np.allclose(read.probabilities, expected.probabilities, atol=1e-6)
