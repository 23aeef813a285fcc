"""What a training says while it runs, by a clock that the tests set."""

import re
from types import SimpleNamespace

import keras
import pytest

from cifar_pipeline.saying import about
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training import progress as module
from cifar_pipeline.training.progress import EpochRecord, Progress

STEPS, TRACING, EACH, VALIDATION = 100, 60.0, 1.0, 10.0
LOGS = {"loss": 1.0, "accuracy": 0.5}
VALIDATED = LOGS | {"val_loss": 1.0, "val_accuracy": 0.5}
RECIPE = Recipe.model_validate(
    {
        "architecture": {"name": "cnn9"},
        "image_size": 32,
        "weights": "none",
        "optimizer": {"name": "sgd", "learning_rate": 0.1},
        "batch_size": 10,
        "epochs": 3,
        "seed": 0,
    }
)


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def trained(clock, recipe=RECIPE, history=(), epochs=1, work=(1.0, 1.0, 1.0)):
    """Go through epochs whose steps take EACH seconds, and the first one TRACING more."""
    left = []
    progress = Progress(
        recipe,
        STEPS * recipe.batch_size,
        work,
        lambda record, seconds: left.append(seconds),
        history,
    )
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    progress.set_model(model)
    progress.set_params({"steps": STEPS})
    progress.on_train_begin()
    first = len(history)
    for epoch in range(first, first + epochs):
        progress.on_epoch_begin(epoch)
        for batch in range(STEPS):
            clock.now += EACH + (TRACING if epoch == first and batch == 0 else 0)
            progress.on_train_batch_end(batch, LOGS)
        progress.on_test_begin()
        clock.now += VALIDATION
        progress.on_epoch_end(epoch, VALIDATED)
    return progress, left


def test_no_estimate_before_there_are_steps_to_estimate_from(clock, capsys):
    """The first step traces for a minute, which made the rest look a hundred times as long."""
    trained(clock)
    begin, first, *_ = lines = capsys.readouterr().err.splitlines()
    assert begin == (
        "epoch 1/3 begins: 100 steps at 32×32 pixels, of which the first takes longest"
    )
    assert first == "epoch 1/3  step 2 of 100  loss 1.000  10 images/s  5.0 min left"
    assert lines[2] == "epoch 1/3  step 12 of 100  loss 1.000  10 images/s  4.8 min left"
    minutes = [float(re.search(r"([\d.]+) min left", line)[1]) for line in lines[1:]]
    assert max(minutes) < 5.1


def test_the_time_left_after_an_epoch_leaves_tracing_out(clock):
    _, left = trained(clock, epochs=3)
    once = STEPS * EACH + VALIDATION
    assert left == pytest.approx([2 * once, once, 0], rel=1e-6)


def test_the_time_left_counts_what_the_epochs_to_come_cost(clock):
    _, left = trained(clock, work=(1.0, 4.0, 3.0))
    assert left == pytest.approx([7 * (STEPS * EACH + VALIDATION)], rel=1e-6)


def test_an_interrupted_training_says_where_it_resumes(capsys):
    module.say_interrupted(2, 15)
    module.say_interrupted(0, 15)
    assert capsys.readouterr().err.splitlines() == [
        "interrupted; the next run resumes after epoch 2/15",
        "interrupted before the end of epoch 1/15; the next run starts anew",
    ]


def test_a_resumed_training_says_after_which_epoch(clock, capsys):
    history = [EpochRecord(1, 32, 1.0, 0.5, 1.0, 0.5, 0.1, 10.0, 500.0)]
    progress, _ = trained(clock, history=history)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "resuming after epoch 1/3"
    assert [record.epoch for record in progress.records] == [1, 2]
    assert progress.records[-1].seconds == pytest.approx(500 + TRACING + STEPS * EACH + VALIDATION)


def test_another_image_size_is_announced(clock, capsys):
    recipe = Recipe.model_validate(
        RECIPE.model_dump() | {"progressive": [{"size": 16, "epochs": 1}]}
    )
    trained(clock, recipe, epochs=3)
    begins = [line for line in capsys.readouterr().err.splitlines() if "begins" in line]
    assert [line.split(" pixels")[0] for line in begins] == [
        "epoch 1/3 begins: 100 steps at 16×16",
        "epoch 2/3 begins: 100 steps at 32×32",
    ]


def test_lines_name_what_is_trained(clock, capsys):
    """Two trainings at once share a terminal."""
    with about("model/cnn9"):
        trained(clock)
    module.say_interrupted(1, 3)
    *lines, last = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.startswith("model/cnn9: epoch 1/3 ") for line in lines)
    assert last.startswith("interrupted; ")
