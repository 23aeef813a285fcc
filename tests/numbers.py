"""Comparing numbers that a CPU may round differently: relative to the largest of them."""

from typing import Any

import numpy as np


def off(found: Any, expected: Any) -> float:
    """The largest difference between two arrays, as a fraction of the largest value expected."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())
