"""Muon (Keller Jordan 2024, https://kellerjordan.github.io/posts/muon/) for convolutions too."""

from typing import Any

import keras
from keras import ops


class Muon(keras.optimizers.Muon):
    """Keras' Muon, which also makes the updates of convolution kernels orthogonal.

    Keras leaves every kernel that is not a matrix to AdamW. Muon's author and the records on CIFAR
    flatten the kernel of a convolution to (height · width · channels, filters), which is done here.
    Biases, BatchNorm and the output layer are AdamW's, and both take the same learning rate and
    weight decay, because an update of Muon is scaled to the size of one of AdamW's (Liu et al.
    2025, https://arxiv.org/abs/2502.16982).
    """

    def _should_use_adamw(self, variable: Any) -> bool:
        return len(variable.shape) not in (2, 4) or variable.path.startswith("logits/")

    def zeropower_via_newtonschulz5(self, x: Any, steps: int) -> Any:
        """The nearest orthogonal matrix, nearly, in the shape of `x`."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(super().zeropower_via_newtonschulz5(matrix, steps), x.shape)

    def lr_adjust(self, x: Any) -> Any:
        """`x` at the size of an update of AdamW."""
        matrix = ops.reshape(x, (-1, x.shape[-1]))
        return ops.reshape(super().lr_adjust(matrix), x.shape)
