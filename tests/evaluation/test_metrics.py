import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    classification_report,
    f1_score,
    log_loss,
    precision_score,
    top_k_accuracy_score,
)

from cifar_pipeline.dataset.classes import Classes
from cifar_pipeline.dataset.splits import split_rows
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.metrics import (
    Predictions,
    accuracy_with_interval,
    brier_score,
    compute_metrics,
    confusion,
    most_confused,
    negative_log_likelihoods,
    per_class,
    wilson,
)
from cifar_pipeline.evaluation.predictions import write_predictions


@pytest.fixture
def classes(prepared):
    return Classes.of(read_table(prepared.table), "fine")


def predictions_of(probabilities, true):
    probabilities = np.asarray(probabilities)
    return Predictions(
        np.arange(len(true)), np.asarray(true), probabilities, probabilities, "archive", "model"
    )


def random_predictions(n=500, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 100))
    true = rng.permutation(np.arange(n) % 100)
    logits[np.arange(n), true] += 3
    exponential = np.exp(logits)
    return predictions_of(exponential / exponential.sum(axis=1, keepdims=True), true)


def test_against_scikit_learn(classes):
    predictions = random_predictions()
    true, guess, probabilities = predictions.true, predictions.predicted, predictions.probabilities
    metrics = compute_metrics(predictions, classes)
    labels = np.arange(100)
    assert metrics["n"] == 500
    assert metrics["top1"] == pytest.approx((guess == true).mean())
    assert metrics["top5"] == pytest.approx(
        top_k_accuracy_score(true, probabilities, k=5, labels=labels)
    )
    assert metrics["nll"] == pytest.approx(log_loss(true, probabilities, labels=labels))
    assert metrics["brier"] == pytest.approx(
        brier_score_loss(true, probabilities, labels=labels, scale_by_half=False)
    )
    assert metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, guess))
    assert metrics["macro_precision"] == pytest.approx(
        precision_score(true, guess, average="macro", zero_division=0)
    )
    assert metrics["macro_f1"] == pytest.approx(f1_score(true, guess, average="macro"))
    assert metrics["coarse_top1"] == pytest.approx((guess % 20 == true % 20).mean())
    summed = probabilities.reshape(500, 5, 20).sum(
        axis=1
    )  # the generated superclass of a class is its label modulo 20
    assert metrics["coarse_summed"] == pytest.approx((summed.argmax(axis=1) == true % 20).mean())


def by_hand():
    """One image per class, right with certainty except two.

    The class of 7 is the second choice, after one of its superclass; that of 6 is the sixth choice.
    """
    probabilities = np.eye(100)
    probabilities[7, [27, 7]] = 0.75, 0.25  # 7 and 27 share superclass 7
    probabilities[6, [1, 2, 3, 4, 5, 6]] = 0.3, 0.2, 0.2, 0.15, 0.1, 0.05
    return predictions_of(probabilities, np.arange(100))


def test_by_hand(classes):
    metrics = compute_metrics(by_hand(), classes)
    assert (metrics["top1"], metrics["top5"], metrics["coarse_top1"]) == pytest.approx(
        (0.98, 0.99, 0.99)
    )
    assert metrics["nll"] == pytest.approx(-(np.log(0.25) + np.log(0.05)) / 100)
    of_seven, of_six = 0.75**2 + 0.75**2, 0.3**2 + 2 * 0.2**2 + 0.15**2 + 0.1**2 + 0.95**2
    assert metrics["brier"] == pytest.approx((of_seven + of_six) / 100)
    assert (metrics["balanced_accuracy"], metrics["macro_recall"]) == pytest.approx((0.98, 0.98))
    assert metrics["macro_precision"] == pytest.approx(
        (96 + 2 * 0.5) / 100
    )  # of 1 and of 27 every second guess is right; 6 and 7 have none


def test_summed_probabilities_can_be_right_where_the_likeliest_class_is_not(classes):
    probabilities = np.eye(100)
    probabilities[7, [8, 27, 47, 7]] = 0.4, 0.35, 0.25, 0.0
    metrics = compute_metrics(predictions_of(probabilities, np.arange(100)), classes)
    assert (metrics["coarse_top1"], metrics["coarse_summed"]) == pytest.approx((0.99, 1))


def test_five_of_equal_probabilities_are_five(classes):
    """A model that knows nothing has a top-5 accuracy of 5 %, not of 100 %."""
    metrics = compute_metrics(predictions_of(np.full((100, 100), 0.01), np.arange(100)), classes)
    assert (metrics["top1"], metrics["top5"]) == (0.01, 0.05)


def test_a_probability_of_zero_has_a_finite_loss():
    assert negative_log_likelihoods(
        np.array([[1.0, 0.0]]), np.array([1])
    ).tolist() == pytest.approx([-np.log(1.1754944e-38)])


def test_brier_reaches_from_zero_to_two():
    assert brier_score(np.eye(2), np.array([0, 1])) == 0
    assert brier_score(np.eye(2), np.array([1, 0])) == 2


def test_intervals_hold_what_they_are_of(classes):
    metrics = compute_metrics(random_predictions(), classes)
    for name in ("top1", "top5", "coarse_top1", "coarse_summed", "balanced_accuracy", "nll"):
        assert metrics[f"{name}_low"] < metrics[name] < metrics[f"{name}_high"]
    # Every class has the same n, so balanced accuracy is accuracy.
    for end in ("", "_low", "_high"):
        assert metrics[f"balanced_accuracy{end}"] == pytest.approx(metrics[f"top1{end}"])


def test_classes_of_different_sizes_make_a_wider_interval(classes):
    """99 classes have one image and one has 101: 100² / (99 + 1/101) is half of 200."""
    true = np.concatenate([np.arange(99), np.full(101, 99)])
    probabilities = np.eye(100)[np.where(np.arange(200) % 2, true, (true + 1) % 100)]
    metrics = compute_metrics(predictions_of(probabilities, true), classes)
    low, high = wilson(round(metrics["balanced_accuracy"] * 101), 101)
    assert (metrics["balanced_accuracy_low"], metrics["balanced_accuracy_high"]) == pytest.approx(
        (low, high)
    )


def test_a_model_that_gets_no_image_right_has_metrics_too(classes):
    """scikit-learn counts the images of each class in floats then."""
    true = np.arange(100)
    wrong = np.eye(100)[(true + 1) % 100]
    assert compute_metrics(predictions_of(wrong, true), classes)["top1"] == 0


def test_an_absent_class_is_named(classes):
    probabilities = np.eye(100)[:98]
    with pytest.raises(
        PipelineError, match=r"2 classes have no test images \(generated_98, generated_99\)"
    ):
        compute_metrics(predictions_of(probabilities, np.arange(98)), classes)


def test_wilsons_interval():
    """81 of 263: the worked example of Newcombe (1998), table I."""
    interval = accuracy_with_interval("top1", np.arange(263) < 81)
    assert interval["top1_low"] == pytest.approx(0.2553, abs=5e-5)
    assert interval["top1_high"] == pytest.approx(0.3662, abs=5e-5)


def test_classes_against_scikit_learns_report(classes):
    predictions = random_predictions()
    table = per_class(predictions.true, predictions.predicted, classes.names)
    names = classes.names
    expected = classification_report(
        predictions.true,
        predictions.predicted,
        target_names=names,
        output_dict=True,
        zero_division=0,
    )
    for name in names:
        assert table.loc[name, "precision"] == pytest.approx(expected[name]["precision"])
        assert table.loc[name, "recall"] == pytest.approx(expected[name]["recall"])
        assert table.loc[name, "f1"] == pytest.approx(expected[name]["f1-score"])
        assert (
            table.loc[name, "recall_low"]
            <= table.loc[name, "recall"]
            <= table.loc[name, "recall_high"]
        )
    assert table["n"].sum() == 500


def test_classes_and_confusion_agree(classes):
    predictions = random_predictions()
    table = per_class(predictions.true, predictions.predicted, classes.names)
    counts = confusion(predictions.true, predictions.predicted, classes.names)
    assert np.allclose(table["recall"], np.diag(counts) / counts.to_numpy().sum(axis=1))


def test_the_most_confused_pair_by_hand():
    true, guess = np.array([0, 0, 0, 1, 1, 2, 2]), np.array([1, 1, 0, 0, 1, 1, 2])
    pairs = most_confused(confusion(true, guess, ["a", "b", "c"]), 2)
    assert pairs.to_numpy().tolist() == [["a", "b", 2, 1, 3], ["b", "c", 0, 1, 1]]


def test_classes_that_are_never_confused_are_not_listed():
    labels = np.arange(3)
    assert most_confused(confusion(labels, labels, ["a", "b", "c"]), 2).empty


def written(tmp_path, **columns):
    base = {
        "row_id": pa.array([0, 1]),
        "fine_label": pa.array([3, 4], pa.uint8()),
        "mirrored": rows_of(np.full((2, 100), 0.01)),
    }
    pq.write_table(pa.table(base | columns), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def rows_of(values):
    values = np.asarray(values, np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, "has the columns"),
        (
            {
                "probabilities": rows_of(np.full((2, 100), 0.01)),
                "mirrored": rows_of(np.full((2, 100), 1.0)),
            },
            "not probabilities",
        ),
        (
            {"probabilities": rows_of(np.full((2, 10), 0.1))},
            r"fixed_size_list<.*>\[10\], expected lists of 100",
        ),
        (
            {
                "probabilities": rows_of(np.full((2, 100), 0.01)),
                "coarse_label": pa.array([1, 2], pa.uint8()),
            },
            "expected lists of 20",
        ),
        ({"probabilities": pa.array([0.1, 0.2])}, "2 rows of double, expected lists of 100"),
        (
            {"probabilities": pa.array([[0.5] * 50, [0.5] * 150])},
            "2 rows of list<.*>, expected lists of 100",
        ),
        ({"probabilities": rows_of([[2.0, -1.0] + [0.0] * 98] * 2)}, "below 0"),
        ({"probabilities": rows_of(np.full((2, 100), np.nan))}, "not probabilities"),
        ({"probabilities": rows_of(np.full((2, 100), 1.0))}, "not probabilities"),
    ],
)
def test_foreign_predictions_are_refused(tmp_path, columns, message):
    with pytest.raises(PipelineError, match=message):
        Predictions.read(written(tmp_path, **columns))


def test_no_predictions_at_all_are_refused(tmp_path):
    table = pa.table(
        {
            "row_id": pa.array([], pa.int32()),
            "fine_label": pa.array([], pa.uint8()),
            **dict.fromkeys(("probabilities", "mirrored"), rows_of(np.zeros((0, 100)))),
        }
    )
    pq.write_table(table, tmp_path / "p.parquet")
    with pytest.raises(PipelineError, match="holds 0 rows"):
        Predictions.read(tmp_path / "p.parquet")


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
        "mirrored": rows_of(expected.probabilities[::-1]),
    }
    write_predictions(pa.table(table), tmp_path / "p.parquet")
    read = Predictions.read(tmp_path / "p.parquet")
    assert np.array_equal(read.row_id, rows)
    assert (read.archive_sha256, read.model_sha256) == ("unknown", "unknown")
    assert np.allclose(read.probabilities, expected.probabilities, atol=1e-6)
    assert np.allclose(read.mirrored, expected.probabilities[::-1], atol=1e-6)


def test_top_is_in_the_order_of_predicted():
    probabilities = np.array([[0.2, 0.3, 0.3, 0.2], [0.25, 0.25, 0.25, 0.25]])
    predictions = Predictions(
        np.arange(2), np.zeros(2, int), probabilities, probabilities, "archive", "model"
    )
    assert predictions.top(2).tolist() == [[1, 2], [0, 1]]
    assert predictions.predicted.tolist() == [1, 0]
