"""Training on more than one device: a CPU divided in two.

Each test needs a process of its own, because TensorFlow divides devices only at its start.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.training.device import data_parallel, gpu_names, input_workers, require_devices
from tests.workspaces import CHECKOUT

START = """
import json, sys
from pathlib import Path
import keras, numpy as np
from cifar_pipeline.inputs.batches import Images
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.device import divide_cpu
from cifar_pipeline.training.fit import train
divide_cpu(2)
divide_cpu(2)  # as a second training in the same process does
assert keras.distribution.list_devices("cpu") == ["cpu:0", "cpu:1"]
rng = np.random.default_rng(0)
pixels = rng.integers(0, 256, (320, 32, 32, 3), np.uint8)
images = Images(np.arange(320), pixels, np.arange(320) % 100)
folder = Path(sys.argv[1])
recipe = Recipe.model_validate(json.loads(sys.argv[2]))
"""
SHARED_STATISTICS = """
results = {}
for devices in (["cpu:0"], ["cpu:0", "cpu:1"]):
    name = str(len(devices))
    result = train(recipe, images, images, Checkpoints(folder / name, "a"), devices=devices)
    variables = result.model.variables
    results[name] = {one.path: float(np.abs(np.asarray(one)).sum()) for one in variables}
print(json.dumps(results))
"""
OWN_STATISTICS = """
def interrupt(record, left):
    if record.epoch == 2:
        raise KeyboardInterrupt
# Without validation, so that the last epoch is kept, not the best.
whole, cut = folder / "whole", folder / "cut"
result = train(recipe, images, None, Checkpoints(whole, "a"))
try:
    train(recipe, images, None, Checkpoints(cut, "a"), interrupt)
except KeyboardInterrupt:
    pass
trained = []
def note(record, left):
    trained.append(record.epoch)
resumed = train(recipe, images, None, Checkpoints(cut, "a"), note)
pairs = zip(result.model.get_weights(), resumed.model.get_weights(), strict=True)
same = [np.array_equal(*values) for values in pairs]
optimizer = recipe.optimizer.model_copy(update={"learning_rate": 1e-9})
still = recipe.model_copy(update={"optimizer": optimizer})
undivided = still.model_copy(update={"cpu_devices": 1})
means = []
for name, one in (("two", still), ("one", undivided)):
    variables = train(one, images, None, Checkpoints(folder / name, "a")).model.variables
    found = [variable.numpy() for variable in variables if variable.path.endswith("moving_mean")]
    means.append(np.concatenate(found).tolist())
print(json.dumps([result.devices, trained, same, *means]))
"""

PLAIN = {
    "architecture": {
        "name": "cnn9",
        "filters": [4, 4, 4],
        "units": 8,
        "dropout": 0,
        "block_dropout": [0, 0, 0],
    },
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


def output(program: str, folder: Path, recipe: dict) -> Any:
    """What a program prints at last."""
    arguments = [sys.executable, "-c", START + program, str(folder), json.dumps(recipe)]
    done = subprocess.run(arguments, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.numeric
@pytest.mark.parametrize("recipe", [PLAIN, BATCH_NORM], ids=["plain", "batch_norm"])
def test_two_devices_train_what_one_trains(tmp_path, recipe):
    results = output(SHARED_STATISTICS, tmp_path, recipe)
    assert len(results["1"]) > 4
    assert (recipe is BATCH_NORM) == any("moving_variance" in path for path in results["1"])
    for path, total in results["1"].items():
        assert results["2"][path] == pytest.approx(total, rel=1e-3), path


@pytest.mark.slow
def test_a_divided_cpu_resumes_to_the_same_weights(tmp_path):
    """Each device's moving statistics are its own during an epoch. What is kept is their mean,
    which is what one device has."""
    devices, trained, same, of_two, of_one = output(
        OWN_STATISTICS, tmp_path, BATCH_NORM | {"epochs": 3, "cpu_devices": 2}
    )
    assert devices == ["cpu:0", "cpu:1"]
    assert trained == [2, 3]
    assert same == [True] * 10
    assert of_two == pytest.approx(of_one, rel=1e-4)


def test_a_cpu_that_has_computed_is_not_divided():
    keras.ops.zeros(1)
    if gpu_names():  # which are used instead
        assert require_devices("any", 3) == gpu_names()
        return
    with pytest.raises(PipelineError, match="has computed with TensorFlow already"):
        require_devices("any", 3)


def test_a_batch_that_cannot_be_shared_is_an_error():
    with (
        pytest.raises(PipelineError, match="a batch of 33 cannot be shared equally by 2 devices"),
        data_parallel(["gpu:0", "gpu:1"], 33),
    ):
        pass


def test_a_gpu_gets_processes_that_make_its_batches():
    assert input_workers(["cpu:0"]) == 0
    assert input_workers(["gpu:0"]) >= 1
