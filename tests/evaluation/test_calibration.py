import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc

from cifar_pipeline.evaluation.calibration import (
    BINS,
    Confidence,
    area_under_risk_coverage,
    expected_calibration_error,
    reliability,
    risk_coverage,
    scale,
)


def drawn(n=5000, seed=0, factor=2.0):
    """Probabilities of an overconfident model, and labels from the distribution it exaggerates."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 20))
    true = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return softmax(factor * logits, axis=1).astype(np.float32), true


def confidence_of(confidence, correct):
    return Confidence(np.array(confidence), np.array(correct, bool))


def test_bins_by_hand():
    """.1 in the second of 15 bins, .9 and .93 in the fourteenth."""
    bins = reliability(confidence_of([0.1, 0.9, 0.93], [0, 1, 0]))
    assert bins["low"].tolist() == pytest.approx([1 / 15, 13 / 15])
    assert bins["high"].tolist() == pytest.approx([2 / 15, 14 / 15])
    assert bins["n"].tolist() == [1, 2]
    assert bins["confidence"].tolist() == pytest.approx([0.1, 0.915])
    assert bins["accuracy"].tolist() == pytest.approx([0, 0.5])
    assert expected_calibration_error(bins) == pytest.approx((0.1 + 2 * 0.415) / 3)


def test_confidences_on_the_edges_have_a_bin():
    assert reliability(confidence_of([0.0, 1.0, 1 / 15], [0, 1, 0]))["n"].tolist() == [2, 1]


def test_against_scikit_learns_calibration_curve():
    predicted = Confidence.of(*drawn())
    bins = reliability(predicted)
    accuracy, confidence = calibration_curve(
        predicted.correct, predicted.confidence, n_bins=BINS, strategy="uniform"
    )
    assert bins["accuracy"].to_numpy() == pytest.approx(accuracy)
    assert bins["confidence"].to_numpy() == pytest.approx(confidence)
    assert expected_calibration_error(bins) == pytest.approx(
        (np.abs(accuracy - confidence) * bins["n"] / 5000).sum()
    )


def test_scaling_undoes_what_exaggerated():
    probabilities, true = drawn(20_000)
    before = expected_calibration_error(reliability(Confidence.of(probabilities, true)))
    after = expected_calibration_error(reliability(Confidence.of(scale(probabilities, 2.0), true)))
    assert before > 0.1
    assert after < 0.02


def test_scaling_changes_no_decision_and_survives_probabilities_of_zero():
    probabilities = np.array([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]], np.float32)
    scaled = scale(probabilities, 3.0)
    assert scaled.sum(axis=1) == pytest.approx(1)
    assert np.isfinite(scaled).all()
    assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    assert scale(probabilities, 1.0) == pytest.approx(probabilities, abs=1e-6)


def test_risk_and_coverage_by_hand():
    curve = risk_coverage(confidence_of([0.9, 0.6, 0.8, 0.7], [1, 0, 1, 0]))
    assert curve["coverage"].tolist() == [0.25, 0.5, 0.75, 1]
    assert curve["risk"].tolist() == pytest.approx([0, 0, 1 / 3, 1 / 2])
    assert area_under_risk_coverage(curve) == pytest.approx((0 + 0 + 1 / 3 + 1 / 2) / 4)


def test_equal_confidences_are_decided_together():
    curve = risk_coverage(confidence_of([0.9, 0.5, 0.5], [1, 0, 1]))
    assert curve["coverage"].tolist() == pytest.approx([1 / 3, 1])
    assert curve["risk"].tolist() == pytest.approx([0, 1 / 3])


def test_area_is_near_scikit_learns_trapezoids():
    curve = risk_coverage(Confidence.of(*drawn()))
    assert area_under_risk_coverage(curve) == pytest.approx(
        auc(curve["coverage"], curve["risk"]), abs=1e-3
    )
