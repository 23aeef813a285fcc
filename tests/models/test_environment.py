"""What belongs to the user's machine has no effect on a model, or is refused by name."""

import json
import os
import subprocess
import sys

import pytest

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.environment import REFUSED, configure_keras, require_bfloat16
from cifar_pipeline.provenance import NUMERIC, numeric_settings
from tests.workspaces import CHECKOUT

BUILD = """
import json
from cifar_pipeline.models.registry import build_classifier, count_parameters
from cifar_pipeline.models.saved import weights_digest
from cifar_pipeline.settings.recipe import Recipe
import keras
recipe = Recipe.model_validate({
    "architecture": {"name": "cnn", "blocks": [{"filters": 10, "kernel": 2, "batch_norm": True}]},
    "image_size": 32, "weights": "none", "optimizer": {"name": "adam", "learning_rate": 0.1},
    "batch_size": 1, "epochs": 1, "seed": 0})
keras.utils.set_random_seed(0)
model = build_classifier(recipe, (0.5, 0.5, 0.5)).model
policies = sorted({layer.dtype_policy.name for layer in model._flatten_layers()})
print(json.dumps([count_parameters(model), weights_digest(model), policies,
    keras.config.backend(), keras.config.epsilon(), model.get_layer("cnn").output_shape]))
"""
HOSTILE = {
    "floatx": "float16",
    "epsilon": 0.1,
    "backend": "jax",
    "image_data_format": "channels_first",
    "nnx_enabled": True,
}


def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
        | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_personal_keras_configuration_changes_nothing(tmp_path):
    """It once made a network of 17,390 parameters of one of 256,230."""
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps(HOSTILE), encoding="utf-8")
    plain, hostile = run(BUILD), run(BUILD, HOME=str(tmp_path), TZ="Asia/Tokyo", LC_ALL="C")
    assert hostile.stdout == plain.stdout
    (parameters, _), _, policies, backend, epsilon, _ = json.loads(plain.stdout)
    assert parameters == 130 + 40 + 256_100
    assert (policies, backend, epsilon) == (["float32"], "tensorflow", 1e-7)


def test_a_keras_configuration_that_is_not_valid_is_one_message(tmp_path):
    (tmp_path / "keras.json").write_text('{"floatx": "double"}', encoding="utf-8")
    program = """
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.environment import import_keras
try:
    import_keras()
except PipelineError as error:
    print(error)
"""
    said = run(program, KERAS_HOME=str(tmp_path)).stdout
    assert "Invalid `floatx` configuration" in said
    assert "remove the file keras.json" in said


@pytest.mark.parametrize("name", REFUSED)
def test_what_changes_a_training_is_refused_by_name(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    with pytest.raises(PipelineError, match=rf"{name}=1 .*; run `unset {name}`"):
        configure_keras()


def test_half_precision_that_the_environment_forbids_is_refused_by_name(monkeypatch):
    """TensorFlow would end in oneDNN's "could not create a primitive descriptor"."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    with pytest.raises(PipelineError, match=r"bfloat16, which ONEDNN_MAX_CPU_ISA=AVX2 does not"):
        require_bfloat16()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    require_bfloat16()


def test_what_changes_how_numbers_are_rounded_is_recorded(monkeypatch):
    for name in NUMERIC:
        monkeypatch.delenv(name, raising=False)
    assert numeric_settings() == {}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert numeric_settings() == {"ONEDNN_MAX_CPU_ISA": "AVX2"}


def test_training_modules_import_keras_without_banners():
    modules = "training.train_and_save", "evaluation.predictions"
    done = run("".join(f"import cifar_pipeline.{module}\n" for module in modules))
    assert done.stdout + done.stderr == ""


def test_what_goes_wrong_in_an_import_is_still_shown():
    program = """
import os
from cifar_pipeline.models.environment import _without_banners
with _without_banners():
    os.write(2, b"oneDNN custom operations are on\\nsomething is wrong\\n")
"""
    assert run(program).stderr == "something is wrong\n"


def test_reading_what_a_model_has_beside_it_imports_no_keras():
    program = "import sys, cifar_pipeline.models.saved; print('keras' in sys.modules)"
    assert run(program).stdout == "False\n"
