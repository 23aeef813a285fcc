"""More than one device: two virtual CPUs, in a process of their own, because TensorFlow divides devices only at its start."""

import json
import subprocess
import sys

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.training.device import data_parallel, input_workers
from tests.workspaces import CHECKOUT

PROGRAM = """
import json, sys
from pathlib import Path
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np
from cifar_pipeline.inputs.batches import Images
from cifar_pipeline.recipes import Recipe
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
assert keras.distribution.list_devices("cpu") == ["cpu:0", "cpu:1"]
rng = np.random.default_rng(0)
images = Images(np.arange(320), rng.integers(0, 256, (320, 32, 32, 3), np.uint8), np.arange(320) % 100)
recipe = Recipe.model_validate(json.loads(sys.argv[2]))
results = {}
for devices in (["cpu:0"], ["cpu:0", "cpu:1"]):
    name = str(len(devices))
    result = train(recipe, images, images, Checkpoints(Path(sys.argv[1], name), "a"), devices=devices)
    results[name] = {variable.path: float(np.abs(np.asarray(variable)).sum()) for variable in result.model.variables}
print(json.dumps(results))
"""


PLAIN = {
    "architecture": {"name": "cnn9", "filters": [4, 4, 4], "units": 8, "dropout": 0, "block_dropout": [0, 0, 0]},
    "image_size": 16,
    "weights": "none",
    "augmentation": {"horizontal_flip": 0.5},
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9},
    "batch_size": 32,
    "epochs": 2,
    "seed": 1,
}
BATCH_NORM = PLAIN | {
    "architecture": {"name": "cnn", "blocks": [{"filters": 4, "batch_norm": True}], "hidden": [8]},
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "weight_decay": 0.5},
    "schedule": {"name": "one_cycle"},
}


@pytest.mark.parametrize("recipe", [PLAIN, BATCH_NORM], ids=["plain", "batch_norm"])
def test_two_devices_train_what_one_trains(tmp_path, recipe):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(recipe)], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads(done.stdout.splitlines()[-1])
    assert len(results["1"]) > 4
    assert (recipe is BATCH_NORM) == any("moving_variance" in path for path in results["1"])
    for path, total in results["1"].items():
        assert results["2"][path] == pytest.approx(total, rel=1e-3), path


def test_a_batch_that_cannot_be_shared_is_an_error():
    with pytest.raises(PipelineError, match="a batch of 33 cannot be shared equally by 2 devices"), data_parallel(["gpu:0", "gpu:1"], 33):
        pass


def test_a_gpu_gets_processes_that_make_its_batches():
    assert input_workers(["cpu:0"]) == 0
    assert input_workers(["gpu:0"]) >= 1
