import ast
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import cifar_pipeline
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.device import gpu_names, is_out_of_memory, require_devices
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.keras_file import write_keras_file
from cifar_pipeline.training.progress import EpochRecord, best_of
from tests.workspaces import CHECKOUT

TINY = {
    "architecture": {
        "name": "cnn9",
        "filters": [4, 4, 4],
        "units": 8,
        "dropout": 0.1,
        "block_dropout": [0, 0, 0.1],
    },
    "image_size": 16,
    "weights": "none",
    "augmentation": {"horizontal_flip": 0.5, "shift_x": 0.1},
    "optimizer": {"name": "adam", "learning_rate": 1e-3},
    "batch_size": 32,
    "epochs": 2,
    "seed": 1,
}
# What an interruption could lose: moments, schedule, averages, mixing and dropout here; the memory
# of the plateau and of the stopping rule below.
SCHEDULED = {
    "optimizer": {
        "name": "adamw",
        "learning_rate": 1e-2,
        "weight_decay": 0.01,
        "ema": 0.9,
        "part_rates": {"head": 2.0},
    },
    "schedule": {"name": "one_cycle"},
    "mixing": {"probability": 0.5, "mixup": 0.4},
    "image_size": 32,
    "progressive": [{"size": 16, "epochs": 2}, {"size": 24, "epochs": 2}],
    "epochs": 5,
}
PLATEAU = {
    "optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.9, "nesterov": True},
    "plateau": {"patience": 1, "factor": 0.5, "minimum": 1e-6},
    "early_stopping": 3,
    "epochs": 12,
}


@pytest.fixture(scope="module")
def splits(prepared):
    return [
        load_images(prepared.table, prepared.splits, split) for split in ("train", "validation")
    ]


def fitted(splits, folder, report=lambda record, left: None, identity="a", **changes):
    return train(
        Recipe.model_validate(TINY | changes), *splits, Checkpoints(folder, identity), report
    )


def same_weights(first, second):
    pairs = zip(first.model.get_weights(), second.model.get_weights(), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)


def interrupted(splits, folder, after, identity="a", **changes):
    """Train until epoch `after` has been reported, which is before its checkpoint is written."""

    def stop(record, left):
        if record.epoch == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(splits, folder, stop, identity, **changes)


@pytest.mark.numeric
def test_the_same_seed_gives_the_same_weights(splits, tmp_path):
    first = fitted(splits, tmp_path / "a")
    assert same_weights(first, fitted(splits, tmp_path / "b"))
    assert not same_weights(first, fitted(splits, tmp_path / "c", seed=2))


@pytest.mark.slow
@pytest.mark.parametrize("changes", [SCHEDULED, PLATEAU], ids=["scheduled", "plateau"])
def test_a_resumed_training_ends_with_the_same_weights(splits, tmp_path, changes, capsys):
    whole = fitted(splits, tmp_path / "whole", **changes)
    interrupted(splits, tmp_path / "cut", 4, **changes)
    after = f"after epoch 3/{changes['epochs']}"
    assert f"interrupted; the next run resumes {after}\n" in capsys.readouterr().err
    trained = []
    resumed = fitted(
        splits, tmp_path / "cut", lambda record, left: trained.append(record.epoch), **changes
    )
    assert f"resuming {after}\n" in capsys.readouterr().err
    assert trained[0] == 4  # the first three were not trained again
    assert same_weights(whole, resumed)
    rows = [
        [record.row() | {"images_per_s": 0, "seconds": 0} for record in result.history]
        for result in (whole, resumed)
    ]
    assert rows[0] == rows[1]
    assert [record.seconds for record in resumed.history] == sorted(
        record.seconds for record in resumed.history
    )


@pytest.mark.nightly
@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_with_the_same_weights(prepared, splits, tmp_path):
    """SIGKILL, wherever it hits, and again."""
    program = """
import json, sys
from pathlib import Path
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.keras_file import write_keras_file
from cifar_pipeline.training.progress import EpochRecord, best_of
table, splits, folder = map(Path, sys.argv[1:4])
images = [load_images(table, splits, split) for split in ("train", "validation")]
train(Recipe.model_validate(json.loads(sys.argv[4])), *images, Checkpoints(folder, "a"))
"""
    changes = SCHEDULED | {"epochs": 9}
    arguments = [
        str(prepared.table),
        str(prepared.splits),
        str(tmp_path / "cut"),
        json.dumps(TINY | changes),
    ]
    kills = 0
    for lines in (3, 4):
        with subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            cwd=CHECKOUT,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ,
        ) as process:
            assert process.stderr is not None
            epochs = (
                line for line in process.stderr if line.startswith("epoch") and "done" in line
            )
            for _ in range(lines):
                assert next(epochs, None)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills == 2
    resumed = fitted(splits, tmp_path / "cut", **changes)
    assert len(resumed.history) == 9
    assert same_weights(fitted(splits, tmp_path / "whole", **changes), resumed)


def test_a_checkpoint_cut_short_is_passed_over(splits, tmp_path):
    changes = SCHEDULED | {"image_size": 16, "progressive": []}
    whole = fitted(splits, tmp_path / "whole", **changes)
    interrupted(splits, tmp_path / "cut", 5, **changes)
    (tmp_path / "cut/epoch-0004/state.npz").write_bytes(
        (tmp_path / "cut/epoch-0004/state.npz").read_bytes()[:-100]
    )
    trained = []
    assert same_weights(
        whole,
        fitted(
            splits, tmp_path / "cut", lambda record, left: trained.append(record.epoch), **changes
        ),
    )
    assert trained == [4, 5]


def test_another_recipe_or_input_does_not_go_on(splits, tmp_path):
    interrupted(splits, tmp_path, 2)
    trained = []
    fitted(splits, tmp_path, lambda record, left: trained.append(record.epoch), identity="b")
    assert trained == [1, 2]


def test_the_checkpoints_of_another_recipe_are_not_in_the_way(splits, tmp_path):
    """Those of a longer training, by their numbers later than any of this one."""
    interrupted(splits, tmp_path, 5, epochs=6)
    (tmp_path / ".part.1.best-0009.weights.h5").write_bytes(b"half-written when it was killed")
    interrupted(splits, tmp_path, 3, identity="b", epochs=3)
    trained = []
    fitted(
        splits, tmp_path, lambda record, left: trained.append(record.epoch), identity="b", epochs=3
    )
    assert trained == [3]
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"best", "epoch"}


def test_a_checkpoint_of_other_code_is_not_used(splits, tmp_path):
    """The same recipe, whose variables have other shapes now."""
    interrupted(splits, tmp_path, 2, architecture=TINY["architecture"] | {"units": 9})
    trained = []
    fitted(splits, tmp_path, lambda record, left: trained.append(record.epoch))
    assert trained == [1, 2]


FROZEN = {
    "architecture": {"name": "efficientnet_b0", "dropout": 0.1},
    "image_size": 32,
    "progressive": [{"size": 32, "epochs": 1, "freeze_batch_norm": False, "freeze_blocks": 0}],
    "freeze_batch_norm": True,
    "freeze_blocks": 5,
    "optimizer": {
        "name": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 0.05,
        "ema": 0.9,
        "part_rates": {"stem": 0.5, "head": 2.0},
    },
    "schedule": {"name": "one_cycle"},
    "batch_size": 50,
    "epochs": 2,
}


@pytest.mark.slow
@pytest.mark.nightly
def test_frozen_parts_stay_and_a_resumed_training_with_batch_norm_is_the_same(prepared, tmp_path):
    splits = [
        load_images(prepared.table, prepared.splits, split, per_class=1)
        for split in ("train", "validation")
    ]
    whole = fitted(splits, tmp_path, **FROZEN)
    before, after = (np.load(tmp_path / f"epoch-000{epoch}/state.npz") for epoch in (1, 2))
    paths = [variable.path for variable in whole.model.variables]
    # Close, not equal: Keras swaps weights and averages by adding and subtracting them.
    pairs = {
        path: (before[f"arr_{index}"], after[f"arr_{index}"]) for index, path in enumerate(paths)
    }
    same = {
        path: np.abs(new - old).max() <= 1e-5 * np.abs(old).max()
        for path, (old, new) in pairs.items()
    }
    frozen = [
        path
        for path in paths
        if path.startswith(("stem", "block1", "block5")) or path.endswith("moving_mean")
    ]
    trained = [
        path
        for path in paths
        if path.startswith(("block6", "block7", "top", "logits")) and path.endswith("kernel")
    ]
    assert len(frozen) > 50
    assert all(same[path] for path in frozen)
    assert len(trained) > 20
    assert not any(same[path] for path in trained)
    shutil.rmtree(tmp_path / "epoch-0002")  # as if it had been killed in its second epoch
    assert same_weights(whole, fitted(splits, tmp_path, **FROZEN))


def test_a_finished_training_is_not_trained_again(splits, tmp_path):
    """Killed between the last epoch and the saving of the model."""
    first = fitted(splits, tmp_path)
    trained = []
    assert same_weights(
        first, fitted(splits, tmp_path, lambda record, left: trained.append(record.epoch))
    )
    assert trained == []


def test_each_phase_is_traced_once(splits, tmp_path, monkeypatch):
    traced = []
    step = keras.Model.train_step
    monkeypatch.setattr(
        keras.Model, "train_step", lambda *arguments: traced.append(1) or step(*arguments)
    )
    fitted(splits, tmp_path, progressive=[{"size": 16, "epochs": 1}], image_size=32, epochs=2)
    assert len(traced) == 2


def test_graphs_of_ended_trainings_do_not_pile_up(splits, tmp_path):
    def graphs() -> int:
        gc.collect()
        # The type of each, because asking a weak proxy for its class fails when its object is gone.
        return sum(type(thing).__name__ == "FuncGraph" for thing in gc.get_objects())

    left = []
    for number in range(3):
        fitted(splits, tmp_path / str(number), epochs=1, seed=number)
        left.append(graphs())
    assert left[2] <= left[0]


def test_checkpoints_do_not_pile_up(splits, tmp_path):
    fitted(splits, tmp_path, epochs=6)
    assert len(list(tmp_path.glob("epoch-*"))) == 2
    assert 1 <= len(list(tmp_path.glob("best-*"))) <= 2
    assert len(list(tmp_path.iterdir())) <= 4


@pytest.mark.numeric
def test_averaged_weights_are_what_is_validated_and_kept(splits, tmp_path):
    result = fitted(splits, tmp_path, optimizer={"name": "sgd", "learning_rate": 0.01, "ema": 0.99})
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    value = float(loss(splits[1].label, result.model.predict(splits[1].pixels, verbose=0)))
    assert value == pytest.approx(result.best.val_loss, rel=1e-5)
    raw = fitted(splits, tmp_path / "raw", optimizer={"name": "sgd", "learning_rate": 0.01})
    assert not same_weights(result, raw)


def test_the_best_epoch_is_one_of_the_final_size():
    def record(epoch, size, val_loss):
        return EpochRecord(epoch, size, 1.0, 0.5, val_loss, 0.5, 1e-3, 100.0, 1.0)

    history = [record(1, 16, 0.1), record(2, 32, 0.5), record(3, 32, 0.4), record(4, 32, 0.6)]
    assert [best_of(history[:count]).epoch for count in (1, 2, 3, 4)] == [1, 2, 3, 3]


@pytest.mark.numeric
def test_augmenting_after_resizing_trains_the_same_model(splits, tmp_path):
    """The papers' order: training batches have the network's size, validation images 32 pixels."""
    result = fitted(
        splits, tmp_path, augmentation={"order": "resized", "horizontal_flip": 0.5}, epochs=1
    )
    assert result.model.input_shape == (None, 32, 32, 3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(
        splits[1].label, result.model.predict(splits[1].pixels, verbose=0)
    )
    assert float(loss) == pytest.approx(result.best.val_loss, rel=1e-4)


def test_without_validation_images_the_last_epoch_is_kept(splits, tmp_path):
    recipe = Recipe.model_validate(TINY | {"epochs": 3, "fit_on": "train_and_validation"})

    def final_fit(folder, report=lambda record, left: None):
        return train(recipe, splits[0].joined(splits[1]), None, Checkpoints(folder, "a"), report)

    whole = final_fit(tmp_path / "whole")
    assert [(record.val_loss, record.val_accuracy) for record in whole.history] == [
        (None, None)
    ] * 3
    assert whole.best.epoch == 3

    def stop(record, left):
        if record.epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        final_fit(tmp_path / "cut", stop)
    assert same_weights(whole, final_fit(tmp_path / "cut"))


def test_a_loss_that_is_not_finite_stops_the_training(splits, tmp_path):
    with pytest.raises(
        PipelineError, match=r"loss became (nan|inf) in epoch \d, step \d+, at learning rate 1e\+"
    ):
        fitted(splits, tmp_path, optimizer={"name": "adam", "learning_rate": 1e25})


def test_a_full_memory_names_the_batch_size_to_try(splits, tmp_path):
    """The error is TensorFlow's own; a CPU that is out of memory has no such error, it dies."""

    def fill(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    with pytest.raises(
        PipelineError, match=r"batch of 32 images of 16 pixels; try `batch_size: 16"
    ):
        fitted(splits, tmp_path, fill)
    assert is_out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes"))
    assert not is_out_of_memory(RuntimeError("another one"))


def test_early_stopping_keeps_the_best_epoch(splits, tmp_path):
    result = fitted(
        splits,
        tmp_path,
        optimizer={"name": "adam", "learning_rate": 0.05},
        epochs=30,
        early_stopping=2,
    )
    assert len(result.history) < 30
    assert len(result.history) == result.best.epoch + 2


def test_a_gpu_that_is_asked_for_and_missing_is_an_error(splits, tmp_path):
    if gpu_names():
        assert require_devices("gpu") == gpu_names()
        return
    with pytest.raises(PipelineError, match="asks for a GPU and the Keras backend sees none"):
        fitted(splits, tmp_path, device="gpu")


def test_training_and_search_cannot_reach_the_test_split():
    """The test split is sealed: only evaluation names it."""
    package = Path(cifar_pipeline.__file__).parent
    for folder in ("training", "inputs", "models", "search"):
        for path in (package / folder).glob("*.py"):
            strings = {
                node.value
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Constant)
            }
            assert "test" not in strings, path


def test_a_retraining_leaves_the_same_file(splits, tmp_path):
    """Whatever else this process has built in between."""
    files = []
    for name in ("a", "b"):
        write_keras_file(fitted(splits, tmp_path / name, epochs=1).model, tmp_path / "m.keras")
        files.append((tmp_path / "m.keras").read_bytes())
    assert files[0] == files[1]
