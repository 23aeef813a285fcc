"""Architectures carry their own facts, and a model depends on the code of its own architecture."""

import ast
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import cifar_pipeline.models
from cifar_pipeline.settings.architectures import Architecture
from tests.workspaces import CHECKOUT

TYPES = typing.get_args(typing.get_args(Architecture)[0])
FOLDER = Path(cifar_pipeline.models.__file__).parent
FAMILIES = {kind.module for kind in TYPES}
BUILD = """
import sys
from cifar_pipeline.models.registry import build_classifier
from cifar_pipeline.settings.recipe import Recipe
recipe = Recipe.model_validate({"architecture": {"name": "cnn9", "filters": [2, 2, 2], "units": 2},
    "image_size": 16, "weights": "none", "optimizer": {"name": "adam", "learning_rate": 0.1},
    "batch_size": 1, "epochs": 1, "seed": 0})
build_classifier(recipe, (0.5, 0.5, 0.5))
print(*(name for name in sys.modules if name.startswith("cifar_pipeline.models.")))
"""


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_every_architecture_has_a_module_that_builds_it(kind):
    tree = ast.parse((FOLDER / f"{kind.module}.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert len(functions["features"].args.args) == 3


def test_building_a_model_imports_no_other_architecture():
    done = subprocess.run(
        [sys.executable, "-c", BUILD], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    imported = {name.rpartition(".")[2] for name in done.stdout.split()}
    assert imported & FAMILIES == {"cnn9"}


def test_no_module_names_another_architectures_module():
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                name = node.module.removeprefix("cifar_pipeline.models.")
                assert name not in FAMILIES, f"{path.name} imports {node.module}"
