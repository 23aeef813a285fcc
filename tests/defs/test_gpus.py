"""Who computes on which GPU. No GPU is needed: `CUDA_VISIBLE_DEVICES` names the devices."""

import logging
import os
import subprocess
import sys
import tempfile
import threading
import time

import pytest

from cifar_pipeline.defs import gpus
from cifar_pipeline.defs.gpus import VISIBLE, gpus_of_this_machine, taken

LOG = logging.getLogger(__name__)
TAKE = (
    "import logging, os, sys; from cifar_pipeline.defs.gpus import taken\n"
    "with taken(sys.argv[1], logging.getLogger()):\n"
    "    print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); sys.stdin.readline()"
)


@pytest.fixture(autouse=True)
def _locks_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(gpus, "LOOK_EVERY_S", 0.05)


@pytest.mark.parametrize(
    ("visible", "found"),
    [("0,1", ["0", "1"]), ("GPU-5af, 3", ["GPU-5af", "3"]), ("", []), ("-1", [])],
)
def test_the_variable_names_them(monkeypatch, visible, found):
    monkeypatch.setenv(VISIBLE, visible)
    assert gpus_of_this_machine() == found


def test_nvidias_own_tool_names_them_otherwise(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'GPU-1\\nGPU-2\\n'\n")
    tool.chmod(0o755)
    monkeypatch.delenv(VISIBLE, raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert gpus_of_this_machine() == ["GPU-1", "GPU-2"]


def taker(how_many):
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, how_many],
        env={**os.environ, VISIBLE: "0,1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_each_process_has_one_of_its_own_and_a_killed_one_gives_it_back(monkeypatch, caplog):
    monkeypatch.setenv(VISIBLE, "0,1")
    others = [taker("one"), taker("one")]
    assert {other.stdout.readline().strip() for other in others} == {"0", "1"}
    took = []

    def take():
        with taken("one", LOG):
            took.append(os.environ[VISIBLE])

    third = threading.Thread(target=take)
    third.start()
    while "waiting for a GPU" not in caplog.text:
        time.sleep(0.05)
    assert took == []
    others[1].kill()
    third.join(30)
    assert len(took) == 1
    others[0].communicate("\n")
    others[1].communicate()
    assert os.environ[VISIBLE] == "0,1"
    assert "TF_FORCE_GPU_ALLOW_GROWTH" not in os.environ


def test_whoever_wants_all_of_them_waits_until_they_are_free(monkeypatch, caplog):
    monkeypatch.setenv(VISIBLE, "0,1")
    other = taker("one")
    assert other.stdout.readline()
    wants_all = taker("all")
    time.sleep(1)
    assert wants_all.poll() is None
    other.communicate("\n")
    assert wants_all.communicate("\n", timeout=30)[0] == "0,1\n"


def test_without_a_gpu_nothing_is_taken(monkeypatch, tmp_path):
    monkeypatch.setenv(VISIBLE, "")
    with taken("all", LOG), taken("one", LOG):
        assert os.environ[VISIBLE] == ""
    assert list(tmp_path.iterdir()) == []
