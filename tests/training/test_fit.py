import keras
import numpy as np
import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.recipes import Optimizer, Recipe, Schedule
from cifar_pipeline.training.device import gpu_names, require_device
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.schedules import build_optimizer

TINY = {
    "architecture": {"name": "cnn9", "filters": [4, 4, 4], "units": 8, "dropout": 0.0, "block_dropout": [0, 0, 0]},
    "image_size": 16,
    "weights": "none",
    "optimizer": {"name": "adam", "learning_rate": 1e-3},
    "batch_size": 32,
    "epochs": 2,
    "seed": 1,
}


@pytest.fixture(scope="module")
def splits(prepared):
    return [load_images(prepared.table, prepared.splits, split) for split in ("train", "validation")]


def fitted(splits, tmp_path, **changes):
    return train(Recipe.model_validate(TINY | changes), *splits, tmp_path / "checkpoints")


def test_the_same_seed_gives_the_same_weights(splits, tmp_path):
    first, second = (fitted(splits, tmp_path / name).model.get_weights() for name in ("a", "b"))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    other = fitted(splits, tmp_path / "c", seed=2).model.get_weights()
    assert not np.array_equal(first[0], other[0])


def test_augmenting_after_resizing_trains_the_same_model(splits, tmp_path):
    """The papers' order: batches of the network's size in training, 32 pixels in validation and in what is saved."""
    result = fitted(splits, tmp_path, augmentation={"order": "resized", "horizontal_flip": 0.5}, epochs=1)
    assert result.model.input_shape == (None, 32, 32, 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        splits[1].fine_label, result.model.predict(splits[1].pixels, verbose=0)
    )
    assert float(loss) == pytest.approx(result.best.val_loss, rel=1e-4)


def test_a_loss_that_is_not_finite_stops_the_training(splits, tmp_path):
    with pytest.raises(PipelineError, match=r"loss became (nan|inf) in epoch \d, step \d+, at learning rate 1e\+"):
        fitted(splits, tmp_path, optimizer={"name": "adam", "learning_rate": 1e25})


def test_early_stopping_keeps_the_best_epoch(splits, tmp_path):
    result = fitted(splits, tmp_path, optimizer={"name": "adam", "learning_rate": 0.05}, epochs=30, early_stopping=2)
    assert len(result.history) < 30
    assert len(result.history) == result.best.epoch + 2


def test_a_gpu_that_is_asked_for_and_missing_is_an_error(splits, tmp_path):
    if gpu_names():
        assert require_device("gpu") != "cpu"
        return
    with pytest.raises(PipelineError, match="asks for a GPU and the Keras backend sees none"):
        fitted(splits, tmp_path, device="gpu")


def test_one_cycle_rises_and_falls():
    schedule = build_optimizer(
        Optimizer(name="adamw", learning_rate=0.1, weight_decay=0.01), Schedule(name="one_cycle", warmup=0.2), steps=100
    )._learning_rate
    rates = [float(schedule(step)) for step in (0, 10, 20, 60, 100)]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-6)


def test_training_and_search_cannot_reach_the_test_split():
    """The test split is sealed: only evaluation names it."""
    import ast
    from pathlib import Path

    import cifar_pipeline

    package = Path(cifar_pipeline.__file__).parent
    for folder in ("training", "inputs", "models"):
        for path in (package / folder).glob("*.py"):
            strings = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
            assert "test" not in strings, path
