"""What is written is what was trained, and the same weights give the same file."""

import json
import os
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from cifar_pipeline.models.registry import build_classifier, count_parameters
from cifar_pipeline.models.saved import MODEL, Labels, load_labels, weights_digest
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.calibration import UNCALIBRATED
from cifar_pipeline.training.fit import Training
from cifar_pipeline.training.keras_file import write_keras_file
from cifar_pipeline.training.progress import EpochRecord
from cifar_pipeline.training.saving import check_saved, save_training
from tests.workspaces import CHECKOUT

IMAGES = np.random.default_rng(0).integers(0, 256, (16, 32, 32, 3), np.uint8)
LABELS = Labels(["apple", "whale"], ["fruit", "müsli"], [0, 1])
RECORD = EpochRecord(1, 32, 1.0, 0.5, 1.0, 0.5, 1e-3, 100.0, 1.0)
CNN9 = {"architecture": {"name": "cnn9", "filters": [4, 4, 8], "units": 16}, "image_size": 16}
EFFICIENTNET = {"architecture": {"name": "efficientnet_b0"}, "image_size": 32}


def built(settings: dict) -> keras.Model:
    keras.utils.clear_session()  # as a training does
    keras.utils.set_random_seed(0)
    plain = {"optimizer": {"name": "adam", "learning_rate": 1e-3}, "weights": "none"}
    rest = {"batch_size": 4, "epochs": 1, "seed": 0}
    recipe = Recipe.model_validate(plain | rest | settings)
    return build_classifier(recipe, (0.5, 0.5, 0.4)).model


@pytest.fixture(scope="module", params=[CNN9, EFFICIENTNET], ids=["cnn9", "efficientnet_b0"])
def saved(request, tmp_path_factory):
    model, folder = built(request.param), tmp_path_factory.mktemp("saved") / "model"
    training = Training(model, [RECORD], ["cpu:0"], count_parameters(model))
    save_training(training, UNCALIBRATED, LABELS, {"profile": "smoke"}, folder)
    return training, folder


@pytest.mark.numeric
def test_a_sound_file_passes(saved):
    checks = check_saved(*saved, IMAGES)
    assert [check.name for check in checks] == [
        "finite_weights",
        "saved_predicts_as_trained",
        "called_predicts_as_trained",
    ]
    assert all(check.passed for check in checks), checks


@pytest.mark.numeric
@pytest.mark.parametrize("place", [0.1, 0.5, 0.99])
def test_one_changed_weight_is_refused(saved, tmp_path, place):
    """By a tenth, which the answers of a large network hardly show."""
    training, _ = saved
    weights = training.model.get_weights()
    kernels = [index for index, weight in enumerate(weights) if weight.ndim > 1]
    changed = weights[kernels[int(place * len(kernels))]]
    changed[(0,) * changed.ndim] *= 1.1
    other = keras.models.clone_model(training.model)
    other.set_weights(weights)
    other.save(tmp_path / MODEL)
    finite, predicts, called = check_saved(training, tmp_path, IMAGES)
    assert finite.passed
    assert not predicts.passed
    assert not called.passed
    message = predicts.message("The model predicts the same.")
    assert "Found other weights, and logits that differ by up to" in message
    assert "expected the same weights, and a difference of at most" in message
    assert "Train the model again." in message


@pytest.mark.numeric
def test_answers_that_differ_are_refused_though_the_weights_are_the_same(saved, tmp_path):
    """As when a layer between them is lost."""
    training, _ = saved
    network = training.model.layers[-1]
    image = keras.Input((32, 32, 3), dtype="uint8")
    size = network.input_shape[1]
    nearest = keras.layers.Resizing(size, size, "nearest")(image, training=False)
    flipped = nearest[:, :, ::-1]
    keras.Model(image, network(keras.ops.cast(flipped, "float32"))).save(tmp_path / MODEL)
    _, predicts, _ = check_saved(training, tmp_path, IMAGES)
    assert predicts.details["same_weights"]
    assert not predicts.passed


def test_weights_that_are_not_finite_are_refused(saved, tmp_path):
    training, _ = saved
    other = keras.models.clone_model(training.model)
    weights = training.model.get_weights()
    weights[0] = np.full_like(weights[0], np.nan)
    other.set_weights(weights)
    other.save(tmp_path / MODEL)
    assert not any(check.passed for check in check_saved(training, tmp_path, IMAGES))


def test_the_classes_are_stored_beside_the_model(saved):
    _, folder = saved
    assert load_labels(folder) == LABELS
    content = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    assert content["superclasses"] == ["fruit", "müsli"]


WRITE = """
import json, sys
from pathlib import Path
from cifar_pipeline.training.keras_file import write_keras_file
from tests.training.test_saving import built
write_keras_file(built(json.loads(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_the_same_weights_give_the_same_bytes(tmp_path):
    """Seconds later, with other objects at other addresses, in another process."""
    written = [tmp_path / f"{name}.keras" for name in ("first", "again", "elsewhere")]
    model = built(EFFICIENTNET)  # which has layers that Keras names
    write_keras_file(model, written[0])
    time.sleep(2)  # the resolution of times in a zip file
    write_keras_file(model, written[1])
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    arguments = [json.dumps(EFFICIENTNET), str(written[2])]
    subprocess.run(
        [sys.executable, "-c", WRITE, *arguments],
        cwd=CHECKOUT,
        env=environment,
        umask=0o077,
        check=True,
    )
    first, *others = (path.read_bytes() for path in written)
    assert others == [first, first]
    assert weights_digest(keras.models.load_model(written[2])) == weights_digest(model)
