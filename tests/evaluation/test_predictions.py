import re

import keras
import numpy as np
import pytest

from cifar_pipeline.dataset.table import pixels, read_table
from cifar_pipeline.evaluation.attention import read_attention
from cifar_pipeline.evaluation.metrics import Predictions
from cifar_pipeline.evaluation.predictions import predict_test, write_predictions
from cifar_pipeline.models.explanation import explained
from tests.conftest import TEST_PER_CLASS
from tests.serving.networks import CNN9, save_model


@pytest.mark.parametrize("target", ["fine", "coarse"])
def test_every_test_image_and_its_mirror_image_are_predicted(prepared, tmp_path, capfd, target):
    """From the file of the weights alone; nothing else of the model's folder is there."""
    model = save_model(tmp_path / "all", read_table(prepared.table), **CNN9, target=target)
    (tmp_path / "model").mkdir()
    (tmp_path / "all" / "model.keras").rename(tmp_path / "model" / "model.keras")
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
    attention = read_attention(tmp_path / "p.parquet", np.arange(3))
    expected = keras.ops.convert_to_numpy(explained(model)(images[:3], training=False)["attention"])
    assert attention.shape == (3, 8, 8)
    assert np.allclose(attention, expected, atol=0.6 / 255)
