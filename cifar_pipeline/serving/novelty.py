"""Whether an image is like those of the classes at all.

benchmarks/results/none_of_these.md compares the score with others, and says what it is worth.
"""

import numpy as np


def familiarity(logits: np.ndarray) -> np.ndarray:
    """How much an image is like those of the classes: the negative energy of its logits (N,).

    Source: Liu et al., 2020, Energy-based out-of-distribution detection.
    """
    largest = logits.max(axis=1)
    return largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
