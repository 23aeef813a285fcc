import numpy as np

from cifar_pipeline.serving.exported import ExportedModel


def test_an_exported_model_answers(exported):
    model = ExportedModel(exported)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    answers = model.answer(images)
    assert answers.probabilities.shape == (3, 100)
    assert np.allclose(answers.probabilities.sum(axis=1), 1)
