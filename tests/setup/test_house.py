"""What holds the house together: layers, locks, workflows, hooks and the version."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from click.testing import CliRunner

from cifar_pipeline.cli import main
from tests.workspaces import CHECKOUT

BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    command = [BIN / "lint-imports", "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("module", "added", "contract"),
    [
        ("paths.py", "from cifar_pipeline.dataset import table", "Imports go down only"),
        ("models/saved.py", "from cifar_pipeline.inputs import mixing", "Imports go down only"),
        ("training/train_and_save.py", "import dagster", "The library does not know Dagster"),
    ],
)
def test_an_import_that_goes_up_is_refused(tmp_path, module, added, contract):
    shutil.copytree(
        CHECKOUT / "cifar_pipeline",
        tmp_path / "cifar_pipeline",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    path = tmp_path / "cifar_pipeline" / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{added}\n", encoding="utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout


def test_every_module_has_a_layer(tmp_path):
    shutil.copytree(CHECKOUT / "cifar_pipeline", tmp_path / "cifar_pipeline")
    shutil.copy(CHECKOUT / "pyproject.toml", tmp_path)
    (tmp_path / "cifar_pipeline" / "helpers.py").touch()
    done = lint_imports(tmp_path)
    assert done.returncode != 0
    assert "helpers" in done.stdout


def pins(name: str) -> set[str]:
    lock = (CHECKOUT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z0-9.-]+)(?:\[.*\])?==", lock, flags=re.MULTILINE))


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_locks_hold_what_the_project_names(kind):
    project = PROJECT["project"]
    named = [
        *project["dependencies"],
        *project["optional-dependencies"][kind],
        *PROJECT["dependency-groups"]["dev"],
    ]
    names = {
        re.split(r"[\[<>=; ]", requirement)[0].lower().replace(".", "-") for requirement in named
    }
    assert names <= pins(kind)


def test_the_locks_name_no_registry():
    for lock in (CHECKOUT / "requirements").glob("*.txt"):
        assert "://" not in lock.read_text(encoding="utf-8"), lock


def test_one_uv_is_pinned():
    text = (CHECKOUT / "requirements" / "uv.txt").read_text(encoding="utf-8")
    assert f"uv=={version('uv')} " in text


def test_the_hooks_are_valid_and_their_tools_there():
    config = CHECKOUT / ".pre-commit-config.yaml"
    subprocess.run([BIN / "pre-commit", "validate-config", config], check=True)
    commands = re.findall(r"entry: \.venv/bin/(\S+)", config.read_text(encoding="utf-8"))
    assert commands
    for command in commands:
        assert (BIN / command).exists()


def test_version():
    done = CliRunner().invoke(main, ["--version"])
    assert done.output == f"cifar, version {version('cifar-pipeline')}\n"
    assert version("cifar-pipeline") == PROJECT["project"]["version"]


def test_types_are_offered_to_users():
    assert (CHECKOUT / "cifar_pipeline" / "py.typed").exists()


def test_the_image_of_the_endpoint_has_all_that_our_modules_import():
    """Its lock is a small part of the product's, in the same versions."""
    program = """
import sys
import cifar_pipeline.serving.endpoint
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("cifar_")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    imported = set()
    for path in done.stdout.split():
        tree = ast.parse(Path(path).read_text(encoding="utf-8"))
        at_once = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in at_once:
            names = [alias.name for alias in node.names]
            modules = [node.module] if isinstance(node, ast.ImportFrom) else names
            imported |= {module.partition(".")[0] for module in modules}
    owners = packages_distributions()
    needed = {owner.lower() for top in imported for owner in owners.get(top, ())}
    locks = [(CHECKOUT / "requirements" / f"{name}.txt").read_text() for name in ("serve", "cpu")]
    pinned, product = (set(re.findall(r"^[\w.-]+==[\w.]+", lock, re.MULTILINE)) for lock in locks)
    assert {"fastapi", "numpy", "onnxruntime", "pillow"} <= needed
    assert needed - {"cifar-pipeline"} <= {pin.partition("==")[0] for pin in pinned}
    assert pinned <= product
