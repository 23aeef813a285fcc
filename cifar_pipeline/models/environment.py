"""Keras as this project needs it, whatever the machine's user has configured.

Personal settings of Keras (`~/.keras/keras.json`) have no effect. Environment variables that would
change what is trained are refused here. Those that choose between ways of computing the same
thing, such as the instruction set, are recorded (`numeric_settings` in provenance.py).
"""

import os

from cifar_pipeline.errors import PipelineError

REFUSED = {
    "KERAS_MAX_EPOCHS": "ends every training early",
    "KERAS_MAX_STEPS_PER_EPOCH": "ends every epoch, and every prediction, early",
    "TF_ENABLE_AUTO_MIXED_PRECISION": "trains in half precision",
    "TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_LEVEL": "trains in half precision",
    "TF_SET_ONEDNN_FPMATH_MODE": "computes float32 in half precision",
    "ONEDNN_DEFAULT_FPMATH_MODE": "computes float32 in half precision",
    "DNNL_DEFAULT_FPMATH_MODE": "computes float32 in half precision",
    "TF_CONV2D_USE_FP16_ACCUMULATE": "sums convolutions in half precision",
}
"""Environment variables by what they do, which a recipe's `epochs` and `float_policy` decide."""


def configure_keras() -> None:
    """Set all that Keras takes from its user. Called by whatever builds, loads or trains a model.

    Raises: PipelineError for an environment variable that changes what is trained.
    """
    for name, effect in REFUSED.items():
        if os.environ.get(name):
            raise PipelineError(
                f"the environment variable {name}={os.environ[name]} {effect}, which is for the "
                f"recipe to say; run `unset {name}`"
            )
    import keras  # noqa: PLC0415  # so that models/saved.py is light to import

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")
