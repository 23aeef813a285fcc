"""A search whose trials are tasks of a Ray cluster, planned in PostgreSQL."""

import os
import re
import shutil
import signal
import subprocess
import sys

import optuna
import pandas as pd
import pytest
from ray.cluster_utils import Cluster

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.search import places
from cifar_pipeline.search.places import storage_on_ray
from tests.postgres import postgres
from tests.workspaces import CHECKOUT, Copy, change_yaml, free_port

SEARCH = "custom_search"
CIFAR = (sys.executable, "-m", "cifar_pipeline")


def test_a_file_is_no_data_base_of_several_nodes(monkeypatch):
    monkeypatch.setenv(places.STORAGE_URL, "sqlite:///study.sqlite")
    assert storage_on_ray() is None  # where no cluster runs the trials
    monkeypatch.setenv(places.ON_RAY, "1")
    with pytest.raises(PipelineError, match=r"CIFAR_OPTUNA_URL is 'sqlite.*, expected a data base"):
        storage_on_ray()


REFUSED = """
import sys, time
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.search.places import OnRay

def run_trial(stage, number):
    if number == 1:
        time.sleep(600)
    raise PipelineError("this node has other data")

places = OnRay(run_trial)
assert places.at_once == 2
places.start("draws", 1)
print(repr(places.start("draws", 0).exception(60)))
"""


@pytest.mark.nightly
@pytest.mark.xdist_group("doors")  # Ray's nodes of one machine share ports
def test_a_refusal_of_one_node_is_the_search_s_and_nobody_waits_for_the_other_trials():
    small = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 * 2**20}
    nodes = Cluster(initialize_head=True, head_node_args=small)
    nodes.add_node(**small)
    try:
        done = subprocess.run(
            (sys.executable, "-c", REFUSED),
            env=os.environ | {"RAY_ADDRESS": nodes.address, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    finally:
        nodes.shutdown()
    assert done.stdout.splitlines()[-1:] == ["PipelineError('this node has other data')"], done


def found(copy):
    """The trials, without what they took, and the winner; both removed."""
    folder = copy.root / "data/searches" / SEARCH
    table = pd.read_csv(folder / "trials.csv").drop(columns="seconds")
    winner = (folder / "winner.yaml").read_text(encoding="utf-8")
    shutil.rmtree(folder)
    return table.to_csv(), winner


@pytest.mark.nightly
@pytest.mark.xdist_group("doors")  # Ray's nodes of one machine share ports
@pytest.mark.postgres
@pytest.mark.timeout(1800)
def test_trials_on_several_nodes_find_what_one_machine_finds(tmp_path):
    """Although a node dies during its trial, and then the search itself."""
    copy = Copy(tmp_path / "workspace", models=[])
    change_yaml(
        copy.root / "recipes" / f"{SEARCH}.yaml",
        lambda recipe: recipe["search"].update(
            smoke={
                "draws": {"trials": 4, "folds": 1, "epochs": 6},
                "grid": {"best": 2, "trials": 2, "folds": 1, "epochs": 2, "batch_size": 32},
            }
        ),
    )
    copy.run(*CIFAR, "materialize", "archive", "table", "splits")
    copy.run(*CIFAR, "search", SEARCH)
    expected = found(copy)

    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    nodes = Cluster(
        initialize_head=True,
        head_node_args={**small, "include_dashboard": True, "dashboard_port": free_port()},
    )
    workers = [nodes.add_node(**small, num_gpus=1) for _ in range(2)]
    try:
        with postgres() as server:
            url = server.new()
            environment = copy.environment | {
                "CIFAR_RAY_ADDRESS": f"http://{nodes.head_node.address_info['webui_url']}",
                places.STORAGE_URL: url,
            }
            with subprocess.Popen(
                (*CIFAR, "search", SEARCH),
                cwd=copy.root,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            ) as killed:
                said = []
                for line in killed.stdout:
                    said.append(line)
                    if "epoch 2/6 done" in line and workers:
                        nodes.remove_node(workers.pop(), allow_graceful=False)
                        workers.clear()
                        nodes.add_node(**small, num_gpus=1)
                    if re.search(r"trial \d of the draws complete", line):
                        os.killpg(killed.pid, signal.SIGKILL)
            assert killed.returncode == -signal.SIGKILL, "".join(said)
            assert (
                len(
                    {
                        re.search(r"trial (\d) of the draws: epoch", x)[1]
                        for x in said
                        if "of the draws: epoch 1/6 begins" in x
                    }
                )
                >= 2
            )
            [draws] = optuna.get_all_study_names(url)
            assert draws.endswith("/draws")

            ended = copy.run(
                *CIFAR,
                "search",
                SEARCH,
                **{key: environment[key] for key in ("CIFAR_RAY_ADDRESS", places.STORAGE_URL)},
            )
            assert "resuming after epoch" in "".join(said) + ended.stdout + ended.stderr
            assert optuna.get_all_study_names(url) == []
    finally:
        nodes.shutdown()
    assert found(copy) == expected
