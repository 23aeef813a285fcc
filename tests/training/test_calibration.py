import numpy as np
import pytest
from sklearn.metrics import log_loss

from cifar_pipeline.training.calibration import HOTTEST, fit_temperature


def softmax(logits):
    exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponential / exponential.sum(axis=1, keepdims=True)


def drawn(n=20_000, seed=0):
    """Logits, and labels drawn from their own softmax (Gumbel's trick), so that the logits are
    calibrated by construction."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, 20))
    return logits, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


@pytest.mark.numeric
@pytest.mark.parametrize("factor", [0.4, 1.0, 2.5])
def test_it_finds_the_factor_by_which_logits_were_exaggerated(factor):
    logits, labels = drawn()
    assert fit_temperature(factor * logits, labels).temperature == pytest.approx(factor, rel=0.02)


@pytest.mark.numeric
def test_its_losses_are_scikit_learns():
    logits, labels = drawn(500)
    found = fit_temperature(3 * logits, labels)
    assert found.n == 500
    assert found.loss_before == pytest.approx(
        log_loss(labels, softmax(3 * logits), labels=np.arange(20))
    )
    assert found.loss_after == pytest.approx(
        log_loss(labels, softmax(3 * logits / found.temperature), labels=np.arange(20))
    )
    assert found.loss_after < found.loss_before


def test_a_model_that_knows_nothing_becomes_uniform():
    rng = np.random.default_rng(0)
    found = fit_temperature(rng.normal(0, 5, (5000, 20)), rng.integers(0, 20, 5000))
    assert found.temperature > 0.9 * HOTTEST
    assert found.loss_after == pytest.approx(np.log(20), rel=0.01)
