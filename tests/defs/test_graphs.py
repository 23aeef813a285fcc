"""The asset graph and the stage graph are one: DVC's own reading of dvc.yaml, held against Dagster's of the definitions."""

import json
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from cifar_pipeline.defs.stages import REPORT_PARTS, build_stages

from cifar_pipeline.definitions import build_defs
from cifar_pipeline.defs.executors import POOL
from cifar_pipeline.reports.report import PARTS
from cifar_pipeline.settings.editing import select_models, select_profile, select_searches
from cifar_pipeline.settings.params import PROFILES
from cifar_pipeline.settings.reading import load_params
from tests.workspaces import CHECKOUT, DVC

READ_STAGES = """
import json, sys
from dvc.repo import Repo
stages = {}
for stage in Repo(".").index.stages:
    params = [dep for dep in stage.deps if hasattr(dep, "params")]
    stages[stage.addressing] = {
        "cmd": stage.cmd,
        "deps": sorted(dep.def_path for dep in stage.deps if not hasattr(dep, "params")),
        "outs": sorted(out.def_path for out in stage.outs),
        "params": sorted(key for dep in params for key in dep.params),
        "values": {key: value for dep in params for key, value in dep.read_params().items()},
    }
json.dump(stages, sys.stdout)
"""


def with_a_second_seed(params):
    """As the README shows it."""
    params = re.sub(r"(?m)^  cnn9:", "  cnn9: &cnn9", params)
    params = params.replace(
        "    seed:\n      architecture: {name: cnn9}",
        "    seed: &cnn9_paper\n      architecture: {name: cnn9}",
    )
    return params + "\n  cnn9_seed7:\n    <<: *cnn9\n    seed: {<<: *cnn9_paper, seed: 7}\n"


@pytest.fixture(params=PROFILES)
def both(request, tmp_path):
    """(stages as DVC reads them, params) under each profile, with every recipe and search in the graph, one with another seed as well."""
    (tmp_path / "dvc.yaml").write_text((CHECKOUT / "dvc.yaml").read_text())
    (tmp_path / "params.yaml").write_text(
        with_a_second_seed((CHECKOUT / "params.yaml").read_text())
    )
    select_profile(tmp_path / "params.yaml", request.param)
    params = load_params(tmp_path / "params.yaml")
    select_models(tmp_path / "params.yaml", list(params.recipes))
    select_searches(tmp_path / "params.yaml", list(params.searches))
    python = str(Path(DVC).with_name("python"))
    subprocess.run([DVC, "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    read = subprocess.run(
        [python, "-c", READ_STAGES], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    return json.loads(read.stdout), load_params(tmp_path / "params.yaml")


def covers(folders, path):
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


def test_every_asset_is_a_stage_with_its_command_outputs_params_and_deps(both):
    found, params = both
    definitions = build_defs(params)
    graph = definitions.resolve_asset_graph()
    stages = build_stages(params)
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    assert set(found) == {stage.name for stage in stages.values()}
    assert {tuple(key.path) for key in graph.get_all_asset_keys()} == set(stages)
    for key, stage in stages.items():
        dvc_stage = found[stage.name]
        assert stage.job in jobs
        assert (
            dvc_stage["cmd"]
            == f'DAGSTER_HOME="$PWD/dagster_home" dagster job execute -m cifar_pipeline.definitions -j {stage.job}'
        )
        assert dvc_stage["outs"] == sorted(stage.outputs)
        assert sorted(set(dvc_stage["params"])) == sorted(stage.params)
        for name in stage.params:
            value = params.value(name)  # is there
            assert not name.startswith("recipes.") or dvc_stage["values"][name] == value
        asset_deps = {tuple(parent.path) for parent in graph.get(dg.AssetKey(key)).parent_keys}
        assert asset_deps == set(stage.deps)
        code = [dep for dep in dvc_stage["deps"] if dep.startswith("cifar_pipeline/")]
        data = [dep for dep in dvc_stage["deps"] if dep.startswith("data/")]
        assert code == sorted(stage.code)
        assert set(dvc_stage["deps"]) - {*code, *data} == set(stage.files)
        made_by = {
            other
            for other, producer in stages.items()
            if any(covers(data, output) for output in producer.outputs)
        }
        assert made_by == asset_deps, stage.name


def test_a_second_seed_is_the_same_recipe_but_for_it(params_file):
    params_file.write_text(with_a_second_seed(params_file.read_text()))
    for profile in PROFILES:
        params = load_params(params_file).under(profile)
        assert params.recipe("cnn9_seed7") == params.recipe("cnn9").model_copy(update={"seed": 7})


def test_asset_keys(params_file):
    """Add to this list what you add to params.yaml, knowingly."""
    graph = build_defs(load_params(params_file)).resolve_asset_graph()
    assert sorted(key.to_user_string() for key in graph.get_all_asset_keys()) == [
        "archive",
        "leaderboard",
        "ledger",
        "model/cnn9",
        "model/efficientnet_b0",
        "predictions/cnn9",
        "predictions/efficientnet_b0",
        "report/cnn9",
        "report/efficientnet_b0",
        "splits",
        "table",
        "test_subsets",
    ]


def test_a_reports_parts_are_its_stages_outputs():
    """Two lists, because stages are read by processes that must not import what draws."""
    assert REPORT_PARTS == PARTS


def test_any_recipe_can_be_put_into_the_graph(params_file):
    select_models(params_file, ["efficientnetv2_b0"])
    keys = {
        key.to_user_string()
        for key in build_defs(load_params(params_file)).resolve_asset_graph().get_all_asset_keys()
    }
    assert {key for key in keys if "/" in key} == {
        f"{kind}/efficientnetv2_b0" for kind in ("model", "predictions", "report")
    }


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
        f"{kind}/{name}"
        for kind in ("model", "predictions", "report")
        for name in load_params(params_file).groups["customs"]
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
        assert node.group_name in {"data", "models", "predictions", "reports", "searches"}, key
        trains_or_predicts = key.path[0] in {"model", "predictions", "search"}
        assert node.pools == ({POOL} if trains_or_predicts else set()), key


def test_only_the_model_whose_recipe_changed_gets_another_code_version(params_file):
    def versions():
        graph = build_defs(load_params(params_file)).resolve_asset_graph()
        return {
            key.to_user_string(): graph.get(key).code_version for key in graph.get_all_asset_keys()
        }

    before = versions()
    text = params_file.read_text()
    params_file.write_text(
        text.replace("batch_size: 64\n      epochs: 100", "batch_size: 64\n      epochs: 99")
    )
    after = versions()
    assert {key for key in before if before[key] != after[key]} == {"model/cnn9"}


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
    program = f"import sys, time, cifar_pipeline.definitions; print([name for name in {heavy} if name in sys.modules], time.process_time())"
    seconds = []
    for _ in range(
        3
    ):  # of the CPU's, and the fastest of three: other work on the machine is not the location's
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        imported, loading = done.stdout.strip().rsplit(" ", 1)
        assert imported == "[]"
        seconds.append(float(loading))
    assert min(seconds) < 3


def test_the_library_does_not_know_dagster():
    package = CHECKOUT / "cifar_pipeline"
    allowed = [package / "definitions.py", *(package / "defs").glob("*.py")]
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
