"""Defaults that must stand before Keras and TensorFlow are first imported, wherever that happens.

What is set in the environment already is kept: `models/environment.py` refuses or records it.
"""

import os

if not os.environ.get("KERAS_BACKEND"):
    os.environ["KERAS_BACKEND"] = "tensorflow"  # a personal keras.json could name another
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # no banners about oneDNN and instruction sets
