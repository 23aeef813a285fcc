"""Keras as this project needs it, whatever the machine's user has configured.

Personal settings of Keras (`~/.keras/keras.json`) have no effect. Environment variables that would
change what is trained are refused here. Those that choose between ways of computing the same
thing, such as the instruction set, are recorded (`numeric_settings` in provenance.py).
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

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

CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Environment variables that keep oneDNN from instructions that the CPU has."""
WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")
"""Their values under which oneDNN does not compute in bfloat16."""

BANNERS = (
    "All log messages before absl::InitializeLog() is called are written to STDERR",
    "oneDNN custom operations are on",
    "This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions",
)
"""Lines that TensorFlow writes whenever it is imported, about nothing that is wrong."""


def import_keras() -> None:
    """Import Keras and its backend, without the backend's banners.

    TensorFlow 2.21 writes some of them before any of its settings for logging apply.

    Raises: PipelineError when the machine's configuration of Keras does not let it start.
    """
    if "keras" in sys.modules:
        return
    try:
        with _without_banners():
            import keras  # noqa: F401, PLC0415  # so that models/saved.py is light to import
    except (ValueError, ImportError) as error:
        raise PipelineError(
            f"Keras cannot be imported ({error}). Correct or remove the file keras.json in "
            "~/.keras, and unset environment variables whose names begin with KERAS_; if that does "
            "not help, run `make setup` again"
        ) from error


@contextmanager
def _without_banners() -> Iterator[None]:
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        stderr = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            said.seek(0)
            for line in said.read().decode("utf-8", errors="replace").splitlines():
                if not any(banner in line for banner in BANNERS):
                    print(line, file=sys.stderr)


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
    import_keras()
    import keras  # noqa: PLC0415  # as above

    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


def require_bfloat16() -> None:
    """Refuse an environment under which TensorFlow leaves bfloat16 to a oneDNN that refuses it.

    Raises: PipelineError.
    """
    for name in CAPS:
        if os.environ.get(name, "").upper() in WITHOUT_BFLOAT16:
            raise PipelineError(
                f"the recipe computes in bfloat16, which {name}={os.environ[name]} does not allow; "
                f"run `unset {name}`, or give the recipe `float_policy: float32`"
            )
