"""Which GPUs this machine has, and which process has which of them.

Dagster's pool counts how many trainings may run; it does not know devices, and another workspace
has a pool of its own. So a step takes a lock for each GPU before TensorFlow starts, and sees no
other GPU.
"""

import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

VISIBLE = "CUDA_VISIBLE_DEVICES"
LOOK_EVERY_S = 2.0


def gpus_of_this_machine() -> list[str]:
    """The names by which CUDA knows the GPUs that a process may use: those that the variable
    `CUDA_VISIBLE_DEVICES` lists, else all. It starts neither CUDA nor TensorFlow."""
    chosen = os.environ.get(VISIBLE)
    if chosen is not None:
        names = [name.strip() for name in chosen.split(",")]
        return [name for name in names if name and name != "-1"]
    if shutil.which("nvidia-smi"):
        query = ("nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader")
        done = subprocess.run(query, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.split()
    devices = Path("/dev").glob("nvidia[0-9]*")  # in a container without NVIDIA's tools
    return [str(index) for index, _ in enumerate(devices)]


@contextmanager
def taken(how_many: Literal["one", "all"], log: logging.Logger) -> Iterator[None]:
    """Take GPUs for this process, waiting until they are free; without a GPU it takes nothing.

    It must be entered before the Keras backend looks for devices. Within it
    `CUDA_VISIBLE_DEVICES` names what was taken, and TensorFlow takes memory as it needs it.
    """
    gpus = gpus_of_this_machine()
    if not gpus:
        yield
        return
    before = {name: os.environ.get(name) for name in (VISIBLE, "TF_FORCE_GPU_ALLOW_GROWTH")}
    with ExitStack() as locks:
        # In one order, so that two that want all of them cannot wait for each other.
        choices = [gpus] if how_many == "one" else [[gpu] for gpu in gpus]
        os.environ[VISIBLE] = ",".join([_first_free(choice, locks, log) for choice in choices])
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _first_free(gpus: Sequence[str], locks: ExitStack, log: logging.Logger) -> str:
    told = False
    while True:
        for gpu in gpus:
            # Of the machine and not of the workspace; anybody's, because GPUs are.
            path = Path(tempfile.gettempdir()) / f"cifar_pipeline-gpu-{gpu}.lock"
            try:
                locks.enter_context(FileLock(path, timeout=0, mode=0o666))
                return gpu
            except Timeout:
                continue
        if not told:
            log.warning("waiting for a GPU: other trainings on this machine have %s", gpus)
            told = True
        time.sleep(LOOK_EVERY_S)
