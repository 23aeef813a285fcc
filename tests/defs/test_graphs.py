"""The asset graph and the stage graph are one: DVC's own reading of dvc.yaml, held against
Dagster's of the definitions."""

import json
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from cifar_pipeline.definitions import build_defs
from cifar_pipeline.defs.executors import POOL
from cifar_pipeline.graph.plan import STAGE, in_dvc
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.settings.editing import select_models, select_searches
from cifar_pipeline.settings.reading import load_params
from tests.workspaces import CHECKOUT, DVC, change_yaml

READ_STAGES = """
import json, sys
from dvc.repo import Repo
stages = {}
for stage in Repo(".").index.stages:
    stages[stage.addressing] = {
        "cmd": stage.cmd,
        "deps": [dep.def_path for dep in stage.deps],
        "outs": sorted(out.def_path for out in stage.outs),
    }
json.dump(stages, sys.stdout)
"""
SECOND_SEED = "extends: cnn9\npaper: {seed: 7}\n"
"""As the documentation shows it."""
GROUPS = {"data", "models", "predictions", "reports", "searches", "exports"}
KINDS = ("model", "predictions", "report", "export")
"""The assets of every recipe."""


@pytest.fixture
def both(params_file):
    """(stages as DVC reads them, params) with every recipe and search in the graph, and another
    seed of one."""
    folder = params_file.parent
    (folder / "dvc.yaml").write_text((CHECKOUT / "dvc.yaml").read_text())
    (folder / "recipes" / "cnn9_seed7.yaml").write_text(SECOND_SEED)
    params = load_params(params_file)
    select_models(params_file, list(params.recipes))
    select_searches(params_file, params.all_searches)
    python = str(Path(DVC).with_name("python"))
    subprocess.run([DVC, "init", "--no-scm", "--quiet"], cwd=folder, check=True)
    read = subprocess.run(
        [python, "-c", READ_STAGES], cwd=folder, capture_output=True, text=True, check=True
    )
    return json.loads(read.stdout), load_params(params_file)


def test_every_asset_is_a_stage_with_its_command_outputs_and_inputs(both):
    found, params = both
    definitions = build_defs(params)
    graph = definitions.resolve_asset_graph()
    stages = build_stages(params)
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    assert set(found) == {STAGE, *(stage.name for stage in stages.values())}
    assert {tuple(key.path) for key in graph.get_all_asset_keys()} == set(stages)
    for key, stage in stages.items():
        dvc_stage = found[stage.name]
        assert stage.job in jobs
        assert dvc_stage["cmd"].endswith(
            f"dagster job execute -m cifar_pipeline.definitions -j {stage.job}"
        )
        assert dvc_stage["outs"] == sorted(stage.outputs)
        plan = f"data/plan/{'/'.join(key)}.json"
        assert sorted(dvc_stage["deps"]) == sorted([plan, *stage.inputs])
        asset_deps = {tuple(parent.path) for parent in graph.get(dg.AssetKey(key)).parent_keys}
        assert asset_deps == set(stage.deps)
        producers = {
            other
            for other, producer in stages.items()
            for output in producer.outputs
            if any(related(output, path) for path in stage.inputs)
        }
        assert producers == asset_deps, stage.name


def related(one, other):
    """Whether one path is the other, or lies in it."""
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def test_dvc_versions_searches_that_params_names_and_everything_else(params_file):
    select_searches(params_file, ["ladder6"])
    params = load_params(params_file)
    outside = {key for key, stage in build_stages(params).items() if not in_dvc(stage, params)}
    assert outside == {("search", "custom_search")}


def test_a_second_seed_is_the_same_recipe_but_for_it(both):
    _, params = both
    for profile in params.profiles:
        other = params.under(profile)
        seed7 = other.recipe("cnn9").model_copy(update={"seed": 7})
        assert other.recipe("cnn9_seed7") == seed7


def test_asset_keys(params_file):
    """Add to this list what you add to params.yaml, knowingly."""
    graph = build_defs(load_params(params_file)).resolve_asset_graph()
    assert sorted(key.to_user_string() for key in graph.get_all_asset_keys()) == [
        "archive",
        "export/cnn9",
        "export/efficientnet_b0",
        "leaderboard",
        "ledger",
        "model/cnn9",
        "model/efficientnet_b0",
        "predictions/cnn9",
        "predictions/efficientnet_b0",
        "report/cnn9",
        "report/efficientnet_b0",
        "search/custom_search",
        "search/ladder6",
        "splits",
        "table",
        "test_subsets",
    ]


def test_any_recipe_can_be_put_into_the_graph(params_file):
    select_models(params_file, ["efficientnetv2_b0"])
    keys = {
        key.to_user_string()
        for key in build_defs(load_params(params_file)).resolve_asset_graph().get_all_asset_keys()
    }
    models = {key for key in keys if "/" in key and not key.startswith("search/")}
    assert models == {f"{kind}/efficientnetv2_b0" for kind in KINDS}


def test_a_search_and_a_group_can_be_put_into_the_graph(params_file):
    select_models(params_file, ["customs"])
    select_searches(params_file, ["ladder6"])
    definitions = build_defs(load_params(params_file))
    jobs = {
        job.name: {key.to_user_string() for key in job.asset_layer.executable_asset_keys}
        for job in definitions.resolve_all_job_defs()
    }
    assert jobs["search_ladder6_job"] == {"search/ladder6"}
    several = {
        f"{kind}/{name}" for kind in KINDS for name in load_params(params_file).groups["customs"]
    }
    assert jobs["customs"] == jobs["all_models"] == {*several, "leaderboard", "ledger"}
    assert "ladder" not in jobs  # its recipes are not in the graph


def test_assets_are_described_owned_and_versioned(params_file):
    select_searches(params_file, ["custom_search"])
    graph = build_defs(load_params(params_file)).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert node.code_version, key
        assert node.group_name in GROUPS, key
        trains_or_predicts = key.path[0] in {"model", "predictions", "search", "export"}
        assert node.pools == ({POOL} if trains_or_predicts else set()), key


def test_only_the_model_whose_recipe_changed_gets_another_code_version(params_file):
    def versions():
        graph = build_defs(load_params(params_file)).resolve_asset_graph()
        return {
            key.to_user_string(): graph.get(key).code_version for key in graph.get_all_asset_keys()
        }

    before = versions()
    recipe = params_file.parent / "recipes" / "cnn9.yaml"
    for profile, changed in (("quick", {"model/cnn9"}), ("laptop", set())):
        text = recipe.read_text()
        change_yaml(recipe, lambda found, key=profile: found[key].update(label_smoothing=0.05))
        after = versions()
        assert {key for key in before if before[key] != after[key]} == changed, profile
        recipe.write_text(text)


def test_the_code_location_loads_fast_and_light():
    heavy = (
        "tensorflow",
        "keras",
        "albumentations",
        "cv2",
        "matplotlib",
        "sklearn",
        "scipy",
        "streamlit",
        "torch",
    )
    program = (
        "import sys, time, cifar_pipeline.definitions; "
        f"print([name for name in {heavy} if name in sys.modules], time.process_time())"
    )
    seconds = []
    for _ in range(2):  # of the CPU's, and the faster: other work on the machine is not its own
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        imported, loading = done.stdout.strip().rsplit(" ", 1)
        assert imported == "[]"
        seconds.append(float(loading))
    assert min(seconds) < 3


def test_the_library_does_not_know_dagster():
    package = CHECKOUT / "cifar_pipeline"
    doors = [package / "definitions.py", package / "launch.py"]
    allowed = [*doors, *(package / "defs").glob("*.py")]
    users = [
        path
        for path in package.rglob("*.py")
        if "import dagster" in path.read_text() and path not in allowed
    ]
    assert users == []


def test_workspace_and_dg_agree():
    import tomllib

    import yaml

    (entry,) = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text())["load_from"]
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert entry["python_module"]["module_name"] == project["code_location_target_module"]
    assert entry["python_module"]["location_name"] == project["code_location_name"]
