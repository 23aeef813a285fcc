"""What every model passes, in its `smoke` form."""

import json
import zipfile

import keras
import numpy as np
import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.models.backbone import _scaled
from cifar_pipeline.models.construction import Construction
from cifar_pipeline.models.cost import epoch_costs
from cifar_pipeline.models.efficientnet import backbone, features
from cifar_pipeline.models.registry import build_classifier, count_parameters, part_of, set_phase
from cifar_pipeline.models.saved import Labels, load_model, weights_digest
from cifar_pipeline.settings.architectures import Backbone, EfficientNet
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.settings.recipe import Phase, Recipe
from cifar_pipeline.training.calibration import fit_temperature
from cifar_pipeline.training.checkpoints import Checkpoints
from cifar_pipeline.training.fit import train
from cifar_pipeline.training.saving import check_saved, save_training
from cifar_pipeline.training.train_and_save import weights_of
from tests.numbers import off

MEAN = (0.5, 0.5, 0.4)
AT_EVERY_PUSH = {"cnn9", "custom_norm", "efficientnet_b0", "ladder1_coarse", "resnet9"}
"""Recipes that are trained at every push, one of each kind of network and target."""
COPIES = {"ladder7", "ladder7_final", "ladder7_coarse", "efficientnet_b0_twice_scaled"}
"""Recipes whose networks others have."""
NAMES = (
    *("cnn9", "efficientnetv2_b0", "efficientnet_b0", "efficientnet_b0_twice_scaled"),
    *(
        "ladder1",
        "ladder2",
        "ladder3",
        "ladder4",
        "ladder5",
        "ladder6",
        "ladder7",
        "ladder7_final",
        "ladder1_coarse",
        "ladder7_coarse",
    ),
    *("custom", "custom_norm", "custom_search", "resnet50", "control", "resnet9"),
)


def recipe_of(params_file, name: str, profile: str = "paper", **changes) -> Recipe:
    select_profile(params_file, profile)
    recipe = load_params(params_file).recipe(name)
    return Recipe.model_validate(recipe.model_dump() | changes)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_b3", "efficientnetv2_b3"])
def test_larger_sizes_build(params_file, name):
    recipe = recipe_of(params_file, "efficientnetv2_b0", "smoke", architecture={"name": name})
    assert build_classifier(recipe, MEAN).model.output_shape == (None, 100)


def test_the_battery_leaves_no_model_out(smoke):
    assert set(NAMES) == set(smoke.recipes)


@pytest.mark.numeric
@pytest.mark.parametrize("name", NAMES)
def test_uint8_images_to_float32_logits(params_file, name):
    recipe = recipe_of(params_file, name, "smoke")
    model = build_classifier(recipe, MEAN).model
    assert model.input_shape == (None, 32, 32, 3)
    assert model.input.dtype == "uint8"
    assert model.output_shape == (None, {"fine": 100, "coarse": 20}[recipe.target])
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    logits = model.predict(images, verbose=0)
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    # Told apart, whatever the scale of logits from random weights is.
    assert np.abs(logits[0] - logits[1]).max() > 1e-3 * np.abs(logits).max()


@pytest.mark.slow
# Without copies, but with ladder1_coarse, which has 20 classes.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in AT_EVERY_PUSH else pytest.mark.nightly)
        for name in sorted(set(NAMES) - COPIES)
    ],
)
def test_training_learns_and_what_is_saved_predicts_the_same(params_file, prepared, tmp_path, name):
    recipe = recipe_of(params_file, name, "smoke", epochs=2, label_smoothing=0.0)
    training, validation = (
        load_images(prepared.table, prepared.splits, split, recipe.target)
        for split in ("train", "validation")
    )
    seen = []
    result = train(
        recipe,
        training,
        validation,
        Checkpoints(tmp_path / "checkpoints", "a"),
        lambda record, left: seen.append((record, left)),
    )
    assert [record.epoch for record, _ in seen] == [1, 2]
    assert seen[-1][1] == 0
    assert result.history[1].loss < result.history[0].loss
    if (
        name == "resnet50"
    ):  # its 2,048 features make the first steps worse than chance; at the end it must be better
        assert result.best.val_loss < np.log(100)
    else:
        assert result.history[0].loss < np.log(100) + 1
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    validation_loss = float(
        loss(validation.label, result.model.predict(validation.pixels, verbose=0))
    )
    assert validation_loss == pytest.approx(
        result.best.val_loss, rel=1e-3
    )  # the best epoch's weights, and a mean over images
    calibration = fit_temperature(
        result.model.predict(validation.pixels, verbose=0), validation.label
    )
    labels = Labels(["apple"], ["fruit"], [0])
    save_training(result, calibration, labels, {"profile": "smoke"}, tmp_path / "model")
    assert all(
        check.passed for check in check_saved(result, tmp_path / "model", validation.pixels[:64])
    )
    assert weights_digest(load_model(tmp_path / "model")) == weights_digest(result.model)


def test_k1_has_the_papers_parameters(params_file):
    model = build_classifier(recipe_of(params_file, "cnn9"), MEAN).model
    assert count_parameters(model) == (13_870_484, 13_870_484)
    dropouts = [
        layer.rate
        for layer in model.get_layer("cnn9").layers
        if isinstance(layer, keras.layers.Dropout)
    ]
    assert dropouts == [0.2, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("number", "parameters"), [(1, 256_230), (2, 340_838), (3, 342_694), (4, 342_694), (5, 342_694)]
)
def test_the_ladder_counted_by_hand(params_file, number, parameters):
    """The convolution has 130 parameters and leaves 2,560 features. The dense layers have 256,100,
    or 327,808 + 12,900, or 327,808 + 8,256 + 6,500."""
    model = build_classifier(recipe_of(params_file, f"ladder{number}"), MEAN).model
    assert count_parameters(model) == (parameters, parameters)
    dropouts = [
        layer.rate
        for layer in model.get_layer("cnn").layers
        if isinstance(layer, keras.layers.Dropout) and layer.rate
    ]
    assert dropouts == ([0.2] if number >= 4 else [])


@pytest.mark.numeric
@pytest.mark.parametrize(("name", "module"), [("mobilenet", "mobilenet"), ("resnet50", "resnet")])
def test_pixels_are_scaled_as_the_weights_were_trained_on(name, module):
    pixels = keras.Input((4, 4, 3))
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    ours = keras.Model(pixels, _scaled(pixels, Backbone(name=name))).predict(images, verbose=0)
    theirs = getattr(keras.applications, module).preprocess_input(images.copy())
    assert off(ours, theirs) < 1e-6
    as_reported = keras.Model(pixels, _scaled(pixels, Backbone(name=name, scaling="unit"))).predict(
        images, verbose=0
    )
    assert off(as_reported, images / 255) < 1e-6


@pytest.mark.numeric
def test_s2_sees_the_255th_part_of_what_k2_sees(params_file):
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    pooled = {}
    for scaling, pixels in (("imagenet", images), ("unit", images * 255)):
        keras.utils.set_random_seed(0)
        x = keras.Input((32, 32, 3))
        architecture = EfficientNet(name="efficientnet_b0", scaling=scaling)
        pooled_features = features(x, architecture, Construction(32, "none", MEAN))
        pooled[scaling] = keras.Model(x, pooled_features).predict(pixels, verbose=0)
    assert off(pooled["unit"], pooled["imagenet"]) < 1e-5


@pytest.mark.numeric
def test_k1_of_any_size_is_k1_at_32_pixels(params_file):
    keras.utils.set_random_seed(0)
    plain = build_classifier(recipe_of(params_file, "cnn9"), MEAN).model
    any_size = build_classifier(
        recipe_of(
            params_file, "cnn9", early_stopping=None, progressive=[{"size": 16, "epochs": 1}]
        ),
        MEAN,
    ).model
    assert any_size.count_params() == 13_870_484
    any_size.set_weights(plain.get_weights())
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected = np.asarray(plain(images, training=False))
    assert off(any_size(images, training=False), expected) < 1e-5
    set_phase(any_size, Phase(size=16))
    assert off(any_size(images, training=False), expected) > 1e-2


@pytest.mark.numeric
def test_k1_is_centred_by_the_training_mean(params_file):
    network = build_classifier(recipe_of(params_file, "cnn9"), MEAN).trainer.get_layer("cnn9")
    centred = network.get_layer("centre")(np.full((1, 2, 2, 3), 255.0, np.float32))
    assert off(np.asarray(centred)[0, 0, 0], 1 - np.array(MEAN)) < 1e-6


def test_k2_has_the_papers_parameters(params_file):
    model = build_classifier(recipe_of(params_file, "efficientnet_b0", weights="none"), MEAN).model
    assert count_parameters(model) == (4_177_664, 4_135_648)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.get_layer("efficientnet_b0").input_shape == (None, 224, 224, 3)


def test_frozen_batch_norm_does_not_train(params_file):
    recipe = recipe_of(
        params_file, "efficientnet_b0", weights="none", image_size=32, freeze_batch_norm=True
    )
    model = build_classifier(recipe, MEAN).model
    set_phase(model, recipe.phase_at(0))
    names = {weight.name for weight in model.trainable_weights}
    assert "kernel" in names
    assert not {"gamma", "beta"} & names


def test_frozen_blocks_do_not_train(params_file):
    frozen = recipe_of(
        params_file, "efficientnet_b0", weights="none", image_size=32, freeze_blocks=2
    )
    model = build_classifier(frozen, MEAN).model
    set_phase(model, frozen.phase_at(0))
    paths = {weight.path for weight in model.trainable_weights}
    assert not [path for path in paths if path.startswith(("stem", "block1", "block2"))]
    assert [path for path in paths if path.startswith("block3")]
    assert "logits/kernel" in paths
    set_phase(model, Phase(size=32))
    assert {weight.path for weight in model.trainable_weights} > paths


def test_epochs_cost_as_their_pixels_and_what_trains(params_file):
    steps = [
        {"size": 32},
        {"size": 64},
        {"size": 64, "freeze_blocks": 3},
        {"size": 64, "freeze_batch_norm": True},
    ]
    progressive = [step | {"epochs": 1} for step in steps]
    recipe = recipe_of(
        params_file,
        "efficientnetv2_b0",
        weights="none",
        image_size=64,
        progressive=progressive,
        epochs=5,
    )
    small, large, blocks, norms, last = epoch_costs(build_classifier(recipe, MEAN).trainer, recipe)
    assert large == last == pytest.approx(4 * small, rel=0.1)
    assert large / 3 < blocks < norms < large


def test_epochs_cost_what_they_took(params_file):
    """Ratios of the images/s in benchmarks/results/laptop.md, the best of each image size, for a
    recipe of EfficientNet-B0 that has been taken out."""
    phases = {
        "progressive": [
            {"size": 64, "epochs": 3, "freeze_blocks": 0},
            {"size": 96, "epochs": 2, "freeze_blocks": 2},
        ],
        **{"image_size": 128, "epochs": 7, "freeze_blocks": 3, "freeze_batch_norm": False},
    }
    recipe = recipe_of(params_file, "efficientnet_b0", "laptop", weights="none", **phases)
    costs = epoch_costs(build_classifier(recipe, MEAN).trainer, recipe)
    assert [recipe.phase_at(epoch).size for epoch in (0, 3, 6)] == [64, 96, 128]
    assert [costs[epoch] / costs[0] for epoch in (3, 6)] == pytest.approx(
        [165 / 114, 165 / 73], rel=0.1
    )


def test_parts_are_told_apart(params_file):
    recipe = recipe_of(params_file, "efficientnet_b0", weights="none", image_size=32)
    stem = recipe.architecture.stem_layers
    parts = {
        weight.path: part_of(weight.path, stem)
        for weight in build_classifier(recipe, MEAN).model.trainable_weights
    }
    assert {path for path, part in parts.items() if part == "head"} == {
        "logits/kernel",
        "logits/bias",
    }
    assert {path for path, part in parts.items() if part == "stem"} == {
        "stem_conv/kernel",
        "stem_bn/gamma",
        "stem_bn/beta",
    }
    k1 = recipe_of(params_file, "cnn9")
    weights = build_classifier(k1, MEAN).model.trainable_weights
    stem = {
        weight.path
        for weight in weights
        if part_of(weight.path, k1.architecture.stem_layers) == "stem"
    }
    assert stem == {"conv1a/kernel", "conv1a/bias"}


@pytest.mark.slow
def test_a_progressive_model_sees_each_size_with_the_same_weights(params_file):
    progressive = [{"size": 32, "epochs": 1}, {"size": 48, "epochs": 1}]
    recipe = recipe_of(
        params_file, "efficientnetv2_b0", weights="none", image_size=64, progressive=progressive
    )
    assert [recipe.phase_at(epoch).size for epoch in range(4)] == [32, 48, 64, 64]
    model = build_classifier(recipe, MEAN).model
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    full = np.asarray(model(images, training=False))
    set_phase(model, recipe.phase_at(0))
    native = np.asarray(
        model.get_layer("efficientnetv2_b0")(images.astype(np.float32), training=False)
    )
    assert off(model(images, training=False), native) < 1e-5
    set_phase(model, recipe.phase_at(2))
    assert off(model(images, training=False), full) < 1e-5


def test_half_precision_keeps_its_ends_in_single(params_file):
    model = build_classifier(
        recipe_of(params_file, "cnn9", float_policy="mixed_bfloat16"), MEAN
    ).model
    network = model.get_layer("cnn9")
    assert network.get_layer("conv1a").compute_dtype == "bfloat16"
    assert network.get_layer("conv1a").kernel.dtype == "float32"
    assert {network.get_layer(name).compute_dtype for name in ("centre", "logits")} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory):
    """Random weights behind ImageNet's normalisation, as Keras' own file has it."""
    keras.utils.set_random_seed(0)
    model = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    (normalization,) = (
        layer for layer in model.layers if isinstance(layer, keras.layers.Normalization)
    )
    _, variance, count = normalization.get_weights()
    mean, std = (
        np.array(values, np.float32).reshape(variance.shape)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    normalization.set_weights([mean, std**2, count])
    path = tmp_path_factory.mktemp("weights") / "efficientnetb0_notop.weights.h5"
    model.save_weights(path)
    return path


@pytest.mark.numeric
def test_weights_from_a_file_compute_what_keras_own_loading_does(
    weights_file, monkeypatch, tmp_path
):
    """tensorflow #49930, #62193. Only the download is replaced: Keras builds and loads its
    `imagenet` form itself."""
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(weights_file))
    keras_own, ours = (
        backbone(EfficientNet(name="efficientnet_b0"), Construction(32, weights, MEAN))
        for weights in ("imagenet", str(weights_file))
    )
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.float32)
    expected = keras_own.predict(images, verbose=0)
    assert off(ours.predict(images, verbose=0), expected) < 1e-4
    naive = keras.applications.EfficientNetB0(
        include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg"
    )
    naive.load_weights(weights_file)
    assert off(naive.predict(images, verbose=0), expected) > 1e-2  # the trap is real
    ours.save(tmp_path / "m.keras")
    reloaded = keras.models.load_model(tmp_path / "m.keras")
    assert off(reloaded.predict(images, verbose=0), expected) < 1e-4


def test_missing_weights_are_an_error(params_file, tmp_path):
    recipe = recipe_of(
        params_file, "efficientnet_b0", image_size=32, weights=str(tmp_path / "none.h5")
    )
    with pytest.raises(PipelineError, match=r"no pretrained weights at .*none\.h5"):
        build_classifier(recipe, MEAN)


def test_foreign_weights_are_an_error(params_file, tmp_path):
    path = tmp_path / "other.weights.h5"
    keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]).save_weights(path)
    with pytest.raises(PipelineError, match="does not hold the weights of efficientnet_b0"):
        build_classifier(
            recipe_of(params_file, "efficientnet_b0", image_size=32, weights=str(path)), MEAN
        )
    path.write_bytes(b"no hdf5")
    with pytest.raises(PipelineError, match="does not hold the weights of efficientnet_b0"):
        build_classifier(
            recipe_of(params_file, "efficientnet_b0", image_size=32, weights=str(path)), MEAN
        )


def test_imagenet_weights_that_cannot_be_fetched_are_an_error(params_file, monkeypatch):
    def unreachable(*_, **__):
        raise Exception("URL fetch failure")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", unreachable)
    with pytest.raises(PipelineError, match=r"cannot be fetched.*CIFAR_WEIGHTS_EFFICIENTNET_B0"):
        build_classifier(recipe_of(params_file, "efficientnet_b0"), MEAN)


def test_no_saved_model_is_one_message(tmp_path):
    with pytest.raises(PipelineError, match="no trained model at"):
        load_model(tmp_path)
    (tmp_path / "model.keras").write_bytes(b"half")
    with pytest.raises(PipelineError, match="is damaged or not a Keras model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: None,
        lambda config: [config],
        lambda config: config | {"module": 1},
        lambda config: config | {"class_name": {}},
        lambda config: config | {"class_name": "Sequential", "config": {"layers": [None]}},
    ],
)
def test_a_hostile_configuration_is_one_message(tmp_path, change):
    keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten()]).save(
        tmp_path / "good.keras"
    )
    with (
        zipfile.ZipFile(tmp_path / "good.keras") as good,
        zipfile.ZipFile(tmp_path / "model.keras", "w") as hostile,
    ):
        config = json.loads(good.read("config.json"))
        hostile.writestr("config.json", json.dumps(change(config)))
        for name in ("metadata.json", "model.weights.h5"):
            hostile.writestr(name, good.read(name))
    with pytest.raises(PipelineError, match="is damaged or not a Keras model"):
        load_model(tmp_path)


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "profile"),
    [
        *((name, "laptop") for name in ("cnn9", "efficientnet_b0", "efficientnetv2_b0")),
        # The others of the ladder and of the customs differ from these in widths alone.
        *((name, "paper") for name in ("cnn9", "efficientnet_b0", "ladder5", "custom_search")),
    ],
)
def test_long_recipes_start(params_file, prepared, tmp_path, name, profile):
    """Two steps from random weights; everything else as the recipe has it."""
    changes = {"weights": "none", "epochs": 1, "progressive": [], "batch_size": 8}
    schedule = recipe_of(params_file, name, profile).schedule.model_dump() | {"restarts": []}
    recipe = recipe_of(params_file, name, profile, **changes, schedule=schedule)
    images = load_images(prepared.table, prepared.splits, "train", recipe.target)
    training, validation = images.take(np.arange(16)), images.take(np.arange(16, 24))
    result = train(recipe, training, validation, Checkpoints(tmp_path, "a"))
    assert np.isfinite(result.best.val_loss)
    assert result.model.input_shape == (None, 32, 32, 3)


def test_weights_that_are_not_there_are_said_before_anything_is_trained(params_file, tmp_path):
    recipe = recipe_of(params_file, "efficientnet_b0", weights=str(tmp_path / "none.h5"))
    with pytest.raises(PipelineError, match=r"no pretrained weights at .*none\.h5"):
        weights_of(recipe)
