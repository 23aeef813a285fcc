import keras
import numpy as np
import pytest

from cifar_pipeline.settings.optimization import Optimizer, Schedule
from cifar_pipeline.training.optimizers import build_optimizer

CONSTANT = Schedule()


def rates(schedule, steps=100, peak=0.1):
    optimizer = build_optimizer(Optimizer(name="sgd", learning_rate=peak), schedule, steps, 1)
    seen = []
    for step in (0, 10, 20, 60, 100):
        optimizer.iterations.assign(step)
        seen.append(float(optimizer.learning_rate))
    return seen


def test_one_cycle_rises_and_falls():
    assert rates(Schedule(name="one_cycle", warmup=0.2)) == pytest.approx(
        [0.0, 0.05, 0.1, 0.05, 0.0], abs=1e-6
    )


def test_cosine_falls_from_the_start_to_what_is_left():
    assert rates(Schedule(name="cosine", final=0.1))[0] == pytest.approx(0.1)
    assert rates(Schedule(name="cosine", final=0.1))[-1] == pytest.approx(0.01)


def test_restarts_begin_anew_at_their_own_rate():
    schedule = Schedule(
        name="one_cycle",
        warmup=0.2,
        restarts=[{"after": 1, "rate": 0.5}, {"after": 3, "rate": 0.1}],
    )
    optimizer = build_optimizer(Optimizer(name="sgd", learning_rate=1.0), schedule, 10, 4)
    seen = []
    for step in (2, 10, 12, 14, 30, 32):
        optimizer.iterations.assign(step)
        seen.append(float(optimizer.learning_rate))
    assert seen == pytest.approx([1.0, 0.0, 0.25, 0.5, 0.0, 0.1], abs=1e-6)


def test_a_constant_rate_stays():
    assert rates(CONSTANT) == pytest.approx([0.1] * 5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"name": "adam"}, keras.optimizers.Adam),
        ({"name": "adamw", "weight_decay": 0.1}, keras.optimizers.AdamW),
        ({"name": "sgd", "momentum": 0.9, "nesterov": True}, keras.optimizers.SGD),
        ({"name": "rmsprop", "momentum": 0.5}, keras.optimizers.RMSprop),
        ({"name": "muon", "weight_decay": 0.1}, keras.optimizers.Muon),
    ],
)
def test_settings_reach_keras(settings, expected):
    optimizer = build_optimizer(
        Optimizer(learning_rate=0.1, clip_norm=1.0, ema=0.9, **settings), CONSTANT, 10, 1
    )
    assert isinstance(optimizer, expected)
    config = optimizer.get_config()
    assert (config["global_clipnorm"], config["use_ema"], config["ema_momentum"]) == (
        1.0,
        True,
        0.9,
    )
    for name in ("momentum", "nesterov", "weight_decay"):
        if name in settings:
            assert config[name] == settings[name]


@pytest.mark.numeric
def test_muon_makes_the_updates_of_convolutions_orthogonal():
    """All singular values of the flattened update are nearly equal, whatever the gradient's are."""
    rng = np.random.default_rng(0)
    kernel = keras.Variable(np.zeros((3, 3, 8, 16), np.float32), name="kernel")
    head = keras.Variable(np.zeros((16, 5), np.float32), name="head")
    bias = keras.Variable(np.zeros(5, np.float32), name="bias")
    head._path = "logits/kernel"
    settings = Optimizer(name="muon", learning_rate=0.1)
    optimizer = build_optimizer(settings, CONSTANT, 10, 1)
    optimizer.build([kernel, head, bias])
    steep = rng.normal(size=(72, 16)) * np.logspace(0, -2, 16)
    gradients = [steep.reshape(3, 3, 8, 16), rng.normal(size=(16, 5)), np.ones(5)]
    optimizer.apply([gradient.astype(np.float32) for gradient in gradients])
    update = np.asarray(kernel).reshape(72, 16)
    values = np.linalg.svd(update, compute_uv=False)
    # 0.7 to 1.2 is how near five steps of Newton and Schulz come; the size is that of AdamW's.
    assert values.max() / values.min() < 2
    assert np.sqrt((update**2).mean()) == pytest.approx(0.2 * 0.1, rel=0.2)
    # AdamW's first step has the same size everywhere.
    for variable in (head, bias):
        assert np.abs(np.asarray(variable)) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.numeric
def test_muon_and_adamw_decay_alike_and_biases_not_at_all():
    settings = Optimizer(name="muon", learning_rate=0.1, weight_decay=0.5)
    variables = [
        keras.Variable(np.ones(shape, np.float32), name=name)
        for shape, name in (((3, 3, 2, 4), "kernel"), ((4, 2), "last"), ((4,), "bias"))
    ]
    variables[1]._path = "logits/kernel"
    optimizer = build_optimizer(settings, CONSTANT, 10, 1)
    optimizer.build(variables)
    optimizer.apply([np.zeros(variable.shape, np.float32) for variable in variables])
    assert [float(np.asarray(variable).ravel()[0]) for variable in variables] == pytest.approx(
        [0.95, 0.95, 1.0]
    )


def test_adamw_without_decay_has_none():
    assert (
        build_optimizer(Optimizer(name="adamw", learning_rate=0.1), CONSTANT, 10, 1).weight_decay
        == 0
    )


def test_biases_and_batch_norm_do_not_decay():
    optimizer = build_optimizer(
        Optimizer(name="sgd", learning_rate=0.1, weight_decay=0.5), CONSTANT, 10, 1
    )
    kernel, bias = (
        keras.Variable(np.ones(2, np.float32), name=name) for name in ("kernel", "bias")
    )
    optimizer.build([kernel, bias])
    optimizer.apply([np.zeros(2, np.float32)] * 2)
    assert np.asarray(kernel) == pytest.approx([0.95, 0.95])
    assert np.asarray(bias) == pytest.approx([1.0, 1.0])


@pytest.mark.numeric
def test_each_part_moves_at_its_rate():
    pixels = keras.Input((2,))
    hidden = keras.layers.Dense(2, name="stem_dense")(pixels)
    model = keras.Model(
        pixels, keras.layers.Dense(2, name="logits")(keras.layers.Dense(2, name="middle")(hidden))
    )
    settings = Optimizer(name="sgd", learning_rate=0.1, part_rates={"stem": 0.5, "head": 10.0})
    optimizer = build_optimizer(settings, CONSTANT, 10, 1, stem_layers=("stem_",))
    optimizer.build(model.trainable_variables)
    before = [np.array(variable) for variable in model.trainable_variables]
    optimizer.apply([np.ones(variable.shape, np.float32) for variable in model.trainable_variables])
    moved = [
        float((old - np.array(new)).max())
        for old, new in zip(before, model.trainable_variables, strict=True)
    ]
    assert moved == pytest.approx([0.05, 0.05, 0.1, 0.1, 1.0, 1.0], rel=1e-5)
    assert float(optimizer.learning_rate) == pytest.approx(0.1)


def test_what_is_frozen_is_left_out():
    kernels = [keras.Variable(np.ones(2, np.float32), name=name) for name in ("kernel", "other")]
    optimizer = build_optimizer(
        Optimizer(name="adamw", learning_rate=0.1, ema=0.5, part_rates={"body": 2.0}),
        CONSTANT,
        10,
        1,
    )
    optimizer.build(kernels)
    optimizer.apply([np.ones(2, np.float32)], kernels[:1])
    assert (np.asarray(kernels[0]) < 1).all()
    assert np.asarray(kernels[1]) == pytest.approx([1.0, 1.0])


@pytest.mark.numeric
def test_the_schedule_is_asked_once_a_step_which_stays_keras_own(monkeypatch):
    def trained(optimizer):
        kernels = [
            keras.Variable(np.full(3, value, np.float32), name=f"kernel{value}")
            for value in (1, 2, 3)
        ]
        for _ in range(4):
            optimizer.apply_gradients(
                [(keras.ops.square(kernel) - 2.0, kernel) for kernel in kernels]
            )
        return np.array(kernels)

    asked = []
    ask = keras.optimizers.schedules.CosineDecay.__call__
    monkeypatch.setattr(
        keras.optimizers.schedules.CosineDecay,
        "__call__",
        lambda *step: asked.append(step) or ask(*step),
    )
    settings = Optimizer(name="adamw", learning_rate=0.1, weight_decay=0.5)
    ours = trained(build_optimizer(settings, Schedule(name="cosine"), 10, 1))
    assert len(asked) == 4
    theirs = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(0.1, 10), weight_decay=0.5
    )
    assert np.array_equal(ours, trained(theirs))
    assert len(asked) > 8  # once for each kernel and step: should Keras stop, ours can go
