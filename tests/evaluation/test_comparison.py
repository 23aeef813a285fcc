import numpy as np
import pytest
from scipy.stats import binom

from cifar_pipeline.evaluation.comparison import compare, compare_all


def of_counts(both, only_first, only_second, neither):
    cells = (
        [(True, True)] * both
        + [(True, False)] * only_first
        + [(False, True)] * only_second
        + [(False, False)] * neither
    )
    first, second = np.array(cells).T
    return first, second


def test_mcnemar_by_hand():
    """Of 8 images that only one model has right, 7 are the first's: 2 (1 + 8) / 256."""
    found = compare(*of_counts(80, 7, 1, 12))
    assert found["p_value"] == pytest.approx(2 * (1 + 8) / 256)
    assert found["difference"] == pytest.approx(0.06)
    assert (found["only_first"], found["only_second"]) == (7, 1)
    assert found["low"] < 0.06 < found["high"]


def test_models_that_agree():
    found = compare(*of_counts(50, 0, 0, 50))
    assert (found["difference"], found["p_value"]) == (0, 1)
    assert found["low"] < 0 < found["high"]


def test_exact_p_is_the_binomials():
    found = compare(*of_counts(700, 90, 60, 150))
    assert found["p_value"] == pytest.approx(2 * binom.cdf(60, 150, 0.5))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    cells = rng.multinomial(500, [0.6, 0.12, 0.08, 0.2], size=1000)
    holds = [
        (found := compare(*of_counts(*counts)))["low"] <= 0.04 <= found["high"] for counts in cells
    ]
    assert np.mean(holds) == pytest.approx(0.95, abs=0.02)


def test_every_pair_once():
    first, second = of_counts(1, 1, 1, 1)
    pairs = compare_all({"a": first, "b": second, "c": second})
    assert pairs[["first", "second"]].to_numpy().tolist() == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert len(compare_all({"a": first})) == 0
