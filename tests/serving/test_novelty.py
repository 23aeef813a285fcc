"""Images that are none of the classes: the score, and the threshold that is stored with a model."""

import numpy as np
from PIL import Image

from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.serving.exported import ExportedModel
from cifar_pipeline.serving.novelty import COVERAGE, familiarity, fit_threshold
from cifar_pipeline.serving.predictor import Predictor, Source
from tests.serving.hostile import encoded


def test_the_score_orders_answers_by_how_sure_they_are():
    sure, torn, lost = [1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0.25] * 4
    scores = familiarity(np.array([sure, torn, lost], np.float32))
    np.testing.assert_allclose(scores, [0, -np.log(2), -np.log(4)], atol=1e-6)


def test_the_threshold_accepts_its_share():
    probabilities = np.random.default_rng(0).dirichlet(np.full(10, 0.3), 2000)
    threshold = fit_threshold(probabilities)
    assert abs((familiarity(probabilities) >= threshold).mean() - COVERAGE) < 0.002


def test_validation_images_are_mostly_accepted_by_the_stored_threshold(served, exported):
    predictor = Predictor(ExportedModel(exported))
    images = load_images(served.table, served.splits, "validation").pixels
    files = [Source("", encoded(Image.fromarray(image), "PNG")) for image in images]
    accepted = [not found.none_of_these for found in predictor.predict(files)]
    assert abs(np.mean(accepted) - COVERAGE) < 0.02


def test_a_model_without_a_threshold_does_not_say(exported, monkeypatch):
    model = ExportedModel(exported)
    monkeypatch.setattr(model, "threshold", None)
    found = next(Predictor(model).predict([Source("", encoded(Image.new("RGB", (9, 9)), "PNG"))]))
    assert found.none_of_these is None
    assert len(found.guesses) == 5
