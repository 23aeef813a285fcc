"""Nodes that share nothing but a cluster, a data base and an S3 server."""

import os
import shutil
import signal
import time

import pytest
from ray.cluster_utils import Cluster

from tests.postgres import postgres
from tests.s3 import KEYS, s3
from tests.test_doors import CIFAR, UNREACHABLE, UP_TO_DATE, epochs, outputs, running
from tests.workspaces import DVC, Copy, free_port


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.mark.nightly
@pytest.mark.postgres
@pytest.mark.xdist_group("doors")  # Ray's nodes of one machine share ports
@pytest.mark.timeout(900)
def test_nodes_without_the_folder_make_what_the_driver_records(
    server, tmp_path_factory, monkeypatch
):
    """Although the node that trains dies, and another one takes its place."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)  # each node's own; the run passes no secrets on
    copy = Copy(tmp_path_factory.mktemp("driver"), models=["cnn9"])
    copy.change("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz", UNREACHABLE)
    epochs(copy, 20)
    server.become_remote_of(copy)
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    nodes = Cluster(
        initialize_head=True,
        head_node_args={**small, "include_dashboard": True, "dashboard_port": free_port()},
    )
    first = nodes.add_node(**small, num_gpus=1)
    with postgres() as runs:
        instance = copy.root / "dagster_home/dagster.yaml"
        storage = "storage: {postgres: {postgres_url: {env: CIFAR_POSTGRES_URL}}}"
        instance.write_text(f"{instance.read_text()}\n{storage}\n")
        try:
            with running(
                copy,
                *CIFAR,
                "run",
                CIFAR_RAY_ADDRESS=f"http://{nodes.head_node.address_info['webui_url']}",
                CIFAR_POSTGRES_URL=runs.new(),
                CIFAR_DATA_PLANE="dvc",
            ) as run:
                said = []
                for line in run.stdout:
                    said.append(line)
                    if "model/cnn9: epoch 2/20 done" in line and first:
                        nodes.remove_node(first, allow_graceful=False)
                        first = None
                        nodes.add_node(**small, num_gpus=1)
                assert run.wait() == 0, "".join(said)
        finally:
            nodes.shutdown()
    assert "model/cnn9: its job on the cluster is gone, so it is submitted again" in "".join(said)
    made = outputs(copy)
    assert "data/models/cnn9" in made
    assert {md5 for path, md5 in made.items() if path != "data/plan"} <= server.objects()
    assert UP_TO_DATE in copy.dvc("status")


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_a_push_that_is_cut_loses_nothing(tmp_path, monkeypatch):
    """The data come before their record; the next push has the rest, and a pull all of it."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    with s3(tmp_path / "s3", "--bwlimit=2M") as slow:
        (tmp_path / "one").mkdir()
        copy = Copy(tmp_path / "one", models=["cnn9"])
        slow.become_remote_of(copy)
        folder = copy.root / "made"
        folder.mkdir()
        for number in range(4):
            (folder / f"{number}").write_bytes(os.urandom(5 * 2**20))
        copy.dvc("add", "made")
        with running(copy, DVC, "push", "--jobs=1", "made.dvc", **KEYS) as push:
            while push.poll() is None and not slow.objects():
                time.sleep(0.05)
            assert push.poll() is None
            os.killpg(push.pid, signal.SIGKILL)
        there = slow.objects()
        assert 0 < len(there) < 5
        assert not any(name.endswith(".dir") for name in there)  # the record comes last
        copy.dvc("push", "made.dvc")
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        shutil.rmtree(folder)
        shutil.rmtree(copy.root / ".dvc" / "cache")
        copy.dvc("pull", "made.dvc")
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
