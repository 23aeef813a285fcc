"""Defaults that must stand before Keras, TensorFlow and onnxruntime are first imported, wherever
that happens.

What is set in the environment already is kept: `models/environment.py` refuses or records it.
"""

import os

# A personal keras.json could name another backend, or a library that is not installed.
if not os.environ.get("KERAS_BACKEND"):
    os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("KERAS_NNX_ENABLED", "false")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no remarks about instruction sets and memory
# Since 1.29 its wheels tell Microsoft what they are used for, and keep that in ~/.cache meanwhile.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
