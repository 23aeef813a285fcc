"""A model that is called predicts: before and after saving, with this package or without it.

Keras' Resizing made a model that begins with it run in training mode when it was merely called
(keras 3.12 to 3.15.1): dropout was applied, and BatchNorm's statistics moved. It also rounds what
it makes of integers, but only when it is called.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.environment import CAPS
from cifar_pipeline.models.registry import build_classifier
from cifar_pipeline.models.saved import weights_digest
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.keras_file import write_keras_file
from tests.numbers import off

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
CNN9 = {"name": "cnn9", "filters": [4, 4, 8], "units": 16}
CNN = {
    "name": "cnn",
    "blocks": [{"filters": 4, "batch_norm": True}],
    "hidden": [16],
    "dropout": 0.5,
}
PROGRESSIVE = {"progressive": [{"size": 16, "epochs": 1}], "epochs": 2}
CASES = {
    "cnn9": {"architecture": CNN9, "image_size": 16},
    "cnn9_native": {"architecture": CNN9, "image_size": 32},
    "cnn9_progressive": {"architecture": CNN9, "image_size": 32, **PROGRESSIVE},
    "cnn9_half": {"architecture": CNN9, "image_size": 16, "float_policy": "mixed_bfloat16"},
    "cnn": {"architecture": CNN, "image_size": 16},
    "cnn_native": {"architecture": CNN, "image_size": 32},
    **{
        name: {"architecture": {"name": name, "dropout": 0.5}, "image_size": 40}
        for name in ("mobilenet", "resnet50", "efficientnet_b0", "efficientnetv2_b0")
    },
}
ALONE = """
import json, sys
from pathlib import Path
import keras, numpy as np
folder = Path(sys.argv[1])
images, expected = np.load(folder / "images.npy"), np.load(folder / "expected.npz")
for path in sorted(folder.glob("*.keras")):
    model = keras.models.load_model(path, compile=False)
    before = model.get_weights()
    called = [np.asarray(model(images)), np.asarray(model(images))]
    assert all(map(np.array_equal, before, model.get_weights())), f"{path.name} changed"
    logits = expected[path.stem]
    off = [float(np.abs(found - logits).max() / np.abs(logits).max()) for found in called]
    print(json.dumps([path.stem, *off]))
assert not [name for name in sys.modules if name.startswith("cifar_pipeline")]
"""


def recipe_of(case: str) -> Recipe:
    plain = {
        "weights": "none",
        "optimizer": {"name": "adam", "learning_rate": 1e-3},
        "batch_size": 4,
        "epochs": 1,
        "seed": 0,
    }
    return Recipe.model_validate(plain | CASES[case])


def limit(case: str) -> float:
    return 5e-2 if case == HALF else 1e-5


class Prepared:
    """Models as they were built: what they predict, and their files. Each is built once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.expected: dict[str, np.ndarray] = {}
        np.save(folder / "images.npy", IMAGES)

    def __call__(self, case: str) -> keras.Model:
        keras.utils.set_random_seed(0)
        model = build_classifier(recipe_of(case), (0.5, 0.5, 0.4)).model
        self.expected[case] = model.predict(IMAGES, verbose=0)
        write_keras_file(model, self.folder / f"{case}.keras")
        return model


@pytest.fixture(scope="module")
def prepare(tmp_path_factory):
    return Prepared(tmp_path_factory.mktemp("files"))


# These share their module with a case that is fast.
SLOW = ("resnet50", "efficientnetv2_b0")
# Not numeric: where ONEDNN_MAX_CPU_ISA forbids half precision, it is refused.
HALF = "cnn9_half"
FAST = [case for case in CASES if case not in (*SLOW, HALF)]


@pytest.mark.parametrize(
    "case",
    [
        *(pytest.param(case, marks=pytest.mark.numeric) for case in FAST),
        *(pytest.param(case, marks=pytest.mark.slow) for case in SLOW),
        HALF,
    ],
)
def test_a_called_model_predicts_and_stays_as_it_is(prepare, case):
    if case == HALF and any(os.environ.get(name) for name in CAPS):
        with pytest.raises(PipelineError, match="bfloat16"):
            prepare(case)
        return
    model = prepare(case)
    digest, predicted = weights_digest(model), prepare.expected[case]
    assert off(model(IMAGES), predicted) < limit(case)
    assert weights_digest(model) == digest
    assert off(model.predict(IMAGES, verbose=0), predicted) < limit(case)
    # Those who ask for it still train it.
    assert off(model(IMAGES, training=True), predicted) > 2 * limit(case)
    if any(isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers()):
        assert weights_digest(model) != digest


@pytest.mark.numeric
def test_a_file_predicts_the_same_without_this_package(prepare):
    for case in set(FAST) - set(prepare.expected):
        prepare(case)
    np.savez(prepare.folder / "expected.npz", **prepare.expected)
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE, str(prepare.folder)],
        cwd=prepare.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {case: differences for case, *differences in map(json.loads, done.stdout.splitlines())}
    assert set(found) == set(prepare.expected)
    for case, differences in found.items():
        assert max(differences) < limit(case), case
