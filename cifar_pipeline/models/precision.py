"""How exactly a network computes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

ROUNDING = {"float32": 1e-4, "bfloat16": 5e-2}
"""By the type that layers compute in: how far two computations of the same network may differ, in
probabilities, or in logits as a fraction of the largest. Instruction sets round differently, layer
after layer: in float32, 2e-6 was seen on AVX-512."""


def rounding(model: "keras.Model") -> float:
    """The part of ROUNDING that holds for a model: that of its least exact layer."""
    return max(ROUNDING[layer.compute_dtype] for layer in model._flatten_layers() if layer.weights)
