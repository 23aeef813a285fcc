"""An exported file says what the trained model says, or is refused."""

import os
import re
import subprocess
import sys

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.models.explanation import explained, split
from cifar_pipeline.models.saved import load_labels, load_model
from cifar_pipeline.serving.conversion import in_float32, to_onnx
from cifar_pipeline.serving.export import check_answers, export_model
from cifar_pipeline.serving.exported import FIGURES, ExportedModel
from tests.numbers import off
from tests.serving.networks import CNN9, save_model
from tests.workspaces import CHECKOUT

TEMPERATURE = 1.5
EFFICIENTNET = {"architecture": {"name": "efficientnet_b0"}, "image_size": 32}


@pytest.fixture(scope="module")
def images(served):
    return load_images(served.table, served.splits, "validation").pixels


@pytest.fixture(scope="module")
def trained(served):
    return load_model(served.model("cnn9"))


def compared(model, temperature, path, images):
    answers = ExportedModel(path).answers(images)
    found = np.concatenate([answer.probabilities for answer in answers])
    return check_answers(model, temperature, images, found)


@pytest.mark.numeric
def test_a_sound_file_passes(trained, exported, images):
    check = compared(trained, TEMPERATURE, exported, images)
    assert check.passed
    assert check.details["largest_difference"] < 1e-5


@pytest.mark.numeric
@pytest.mark.parametrize("place", range(6))
def test_one_changed_weight_is_refused(trained, exported, images, tmp_path, place):
    """The largest of each convolution, with its sign turned."""
    file = onnx.load(exported)
    weights = [constant for constant in file.graph.initializer if len(constant.dims) == 4]
    assert len(weights) == 6
    values = numpy_helper.to_array(weights[place]).copy()
    values[np.unravel_index(np.abs(values).argmax(), values.shape)] *= -1
    weights[place].CopyFrom(numpy_helper.from_array(values, weights[place].name))
    onnx.save(file, tmp_path / "model.onnx")
    check = compared(trained, TEMPERATURE, tmp_path / "model.onnx", images)
    assert not check.passed
    assert "Found probabilities that are up to" in check.message("They agree.")


@pytest.mark.numeric
def test_another_temperature_is_refused(trained, exported, images):
    assert not compared(trained, 1.01 * TEMPERATURE, exported, images).passed


@pytest.mark.numeric
@pytest.mark.parametrize(
    ("size", "interpolation"),
    [(16, "bicubic"), (96, "bicubic"), (160, "bicubic"), (48, "bilinear"), (48, "nearest")],
)
def test_images_are_resized_as_they_were_in_training(served, images, tmp_path, size, interpolation):
    from cifar_pipeline.dataset.table import read_table

    settings = CNN9 | {"image_size": size, "interpolation": interpolation}
    model = save_model(tmp_path / "model", read_table(served.table), **settings)
    onnx.save(to_onnx(model, TEMPERATURE), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(["logits"], {"image": images[:50]})
    assert off(logits, model.predict(images[:50], verbose=0)) < 1e-5


@pytest.mark.numeric
def test_half_precision_is_exported_in_single(served, tmp_path):
    from cifar_pipeline.dataset.table import read_table

    model = save_model(
        tmp_path / "model", read_table(served.table), **CNN9, float_policy="mixed_bfloat16"
    )
    (check,), _ = export_model(
        "half", tmp_path / "model", served.table, served.splits, tmp_path / "export"
    )
    assert check.passed
    assert check.limit.startswith("at most 0.0001 and 0.05")
    images = load_images(served.table, served.splits, "validation").pixels[:50]
    exported = ExportedModel(tmp_path / "export" / "model.onnx").answer(images)
    assert off(exported.logits, in_float32(model).predict(images, verbose=0)) < 1e-5
    assert off(exported.logits, model.predict(images, verbose=0)) > 1e-4  # which is why


def test_the_file_says_what_it_is(served, exported):
    model = ExportedModel(exported)
    assert model.name == "cnn9"
    assert model.labels == load_labels(served.model("cnn9"))
    assert model.temperature == TEMPERATURE
    assert model.threshold is not None
    assert set(model.provenance) == {
        *("archive_sha256", "model_sha256", "profile", "finished", "code_revision", "generated")
    }
    figures = read_json(exported.with_name(FIGURES))
    assert figures["threshold"] == model.threshold
    assert figures["bytes"] == exported.stat().st_size


def test_validation_images_that_were_trained_on_give_no_threshold(served, tmp_path):
    from cifar_pipeline.dataset.table import read_table

    save_model(tmp_path / "model", read_table(served.table), calibrated_on=0)
    export_model("all", tmp_path / "model", served.table, served.splits, tmp_path / "export")
    assert ExportedModel(tmp_path / "export" / "model.onnx").threshold is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[: len(content) // 2], "is damaged or no ONNX file"),
        (lambda content: b"", "is damaged or no ONNX file"),
        (lambda content: b"no ONNX", "is damaged or no ONNX file"),
        (lambda content: content.replace(b"temperature", b"temporature"), "but not one that"),
    ],
)
def test_a_file_of_another_kind_is_an_error_in_words(exported, tmp_path, change, words):
    path = tmp_path / "model.onnx"
    path.write_bytes(change(exported.read_bytes()))
    with pytest.raises(PipelineError, match=f"{path} is.*{words}|{words}.*export the model again"):
        ExportedModel(path)


def test_a_missing_file_names_the_command(tmp_path):
    with pytest.raises(PipelineError, match="`cifar export NAME` exports a trained one"):
        ExportedModel(tmp_path / "cnn9" / "model.onnx")


def test_no_keras_is_needed(exported):
    program = (
        "import sys\nimport numpy as np\nfrom pathlib import Path\n"
        "from cifar_pipeline.serving.exported import ExportedModel\n"
        "model = ExportedModel(Path(sys.argv[1]))\n"
        "print(len(model.answer(np.zeros((1, 480, 640, 3), np.uint8))))\n"
        "print([name for name in ('tensorflow', 'keras', 'onnx', 'tf2onnx', 'dagster', 'pandas')"
        " if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(exported)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n") == ["1", "[]", ""]


def built(recipe, table, folder):
    model = save_model(folder, table, **recipe)
    keras.utils.clear_session()
    return model


WRITE = """
import sys
from pathlib import Path
from cifar_pipeline.models.saved import load_model
from cifar_pipeline.serving.conversion import to_onnx
model = load_model(Path(sys.argv[1]))
sys.stdout.buffer.write(to_onnx(model, 1.5).SerializeToString())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(CNN9, id="cnn9"),
        pytest.param(EFFICIENTNET, id="efficientnet_b0", marks=pytest.mark.nightly),
    ],
)
def test_the_same_weights_give_the_same_bytes(served, tmp_path, recipe):
    """With other names in one process, and in another one with another order of sets."""
    from cifar_pipeline.dataset.table import read_table

    save_model(tmp_path / "model", read_table(served.table), **recipe)
    models = [load_model(tmp_path / "model") for _ in range(2)]
    first, again = (to_onnx(model, 1.5).SerializeToString() for model in models)
    elsewhere = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / "model")],
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert again == first
    assert elsewhere == first


@pytest.mark.numeric
@pytest.mark.slow
def test_a_network_whose_last_map_is_a_pixel_is_exported(served, images, tmp_path):
    """EfficientNet-B0 of 32 pixels, as in the profile `smoke`: means over 1×1 are other nodes."""
    from cifar_pipeline.dataset.table import read_table

    model = save_model(tmp_path / "model", read_table(served.table), **EFFICIENTNET)
    onnx.save(to_onnx(model, TEMPERATURE), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(["logits"], {"image": images[:16]})
    assert off(logits, model.predict(images[:16], verbose=0)) < 1e-4


@pytest.mark.numeric
@pytest.mark.parametrize("recipe", [CNN9, EFFICIENTNET], ids=["cnn9", "efficientnet_b0"])
def test_attention_is_grad_cam(served, images, tmp_path, recipe):
    """The closed form, against TensorFlow's gradient of the likeliest class's logit."""
    import tensorflow as tf

    from cifar_pipeline.dataset.table import read_table

    model = save_model(tmp_path / "model", read_table(served.table), **recipe)
    body, head = split(model)
    with tf.GradientTape() as tape:
        value = feature_map = body(images[:8], training=False)
        tape.watch(feature_map)
        for layer in head:
            value = layer(value, training=False)
        likeliest = tf.reduce_max(value, axis=1)
    weights = tf.reduce_mean(tape.gradient(likeliest, feature_map), axis=(1, 2), keepdims=True)
    expected = np.maximum(np.sum(weights * feature_map, axis=-1), 0)
    largest = expected.max(axis=(1, 2), keepdims=True)
    found = explained(model)(images[:8], training=False)
    assert largest.max() > 0
    assert off(found["attention"], expected / np.where(largest > 0, largest, 1)) < 1e-4
    assert off(found["logits"], model(images[:8], training=False)) < 1e-5


def test_the_file_is_used_as_the_page_shows(served, monkeypatch, capsys):
    page = (CHECKOUT / "docs" / "how-to" / "use-a-model.md").read_text(encoding="utf-8")
    (program,) = (
        body
        for body in re.findall(r"(?ms)^```python\n(.*?)^```", page)
        if "import onnxruntime" in body
    )
    monkeypatch.chdir(served.root)
    exec(program, {})  # noqa: S102
    name, probability = capsys.readouterr().out.rsplit(maxsplit=1)
    assert name in load_labels(served.model("cnn9")).classes
    assert 0.01 < float(probability) <= 1
