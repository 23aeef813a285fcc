"""The model card names the classes, and its program runs as it is written."""

import json
import re
import subprocess
import sys
from dataclasses import asdict

import yaml

from cifar_pipeline.models.registry import build_classifier
from cifar_pipeline.models.saved import Labels
from cifar_pipeline.settings.recipe import Recipe
from cifar_pipeline.training.keras_file import write_keras_file

RECIPE = {
    "architecture": {"name": "cnn9", "filters": [2, 2, 2], "units": 4},
    "image_size": 16,
    "weights": "none",
    "optimizer": {"name": "adam", "learning_rate": 0.1},
    "batch_size": 1,
    "epochs": 1,
    "seed": 0,
}


def test_the_card_names_the_classes_as_hugging_face_does(made, classes):
    _, front, _ = (made / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    names = yaml.safe_load(front)["id2label"]
    assert names == {str(place): name for place, name in enumerate(classes.names)}


def test_the_cards_program_runs_as_it_is_written(made, classes, tmp_path):
    (program,) = re.findall(
        r"```python\n(.+?)```", (made / "README.md").read_text(encoding="utf-8"), re.DOTALL
    )
    assert "/ 1.5000)" in program  # the temperature of `made`
    model = build_classifier(Recipe.model_validate(RECIPE), (0.5, 0.5, 0.5)).model
    write_keras_file(model, tmp_path / "model.keras")
    labels = Labels(classes.names, classes.coarse_names, classes.coarse_of.tolist())
    (tmp_path / "labels.json").write_text(json.dumps(asdict(labels)), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name, probability = done.stdout.split()
    assert name in classes.names
    assert 0.01 <= float(probability) <= 1
