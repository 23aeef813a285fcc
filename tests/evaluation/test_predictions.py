import re

import keras
import numpy as np
import pytest

from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.evaluation.predictions import predict_test, write_predictions
from tests.conftest import TEST_PER_CLASS


@pytest.mark.parametrize(("target", "classes"), [("fine", 100), ("coarse", 20)])
def test_every_test_image_and_its_mirror_image_are_predicted(
    prepared, tmp_path, capfd, target, classes
):
    """From the file of the weights alone; nothing else of the model's folder is there."""
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((32, 32, 3), dtype="uint8"),
        keras.layers.Rescaling(1 / 255),
        keras.layers.Flatten(),
        keras.layers.Dense(classes),
    ]
    model = keras.Sequential(layers)
    (tmp_path / "model").mkdir()
    model.save(tmp_path / "model" / "model.keras")
    write_predictions(
        predict_test(tmp_path / "model", prepared.table, prepared.splits), tmp_path / "p.parquet"
    )
    said = capfd.readouterr().err
    assert "predicting 200 test images and their mirror images, 2 steps" in said
    assert re.search(r"predicting 200 test images and their mirror images: done in \d+ s", said)
    found = Predictions.read(tmp_path / "p.parquet")
    assert (found.target, len(found.row_id)) == (target, 100 * TEST_PER_CLASS)
    table = read_table(prepared.table)
    assert np.array_equal(found.true, table[f"{target}_label"].to_numpy()[found.row_id])
    images = pixels(table)[found.row_id]
    from_left, from_right = (keras.ops.softmax(model(images[:, :, ::step])) for step in (1, -1))
    assert np.allclose(found.probabilities, from_left, atol=1e-5)
    assert np.allclose(found.mirrored, from_right, atol=1e-5)
    assert not np.allclose(found.mirrored, found.probabilities, atol=1e-3)
