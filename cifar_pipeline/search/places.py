"""Where the trials of a search run: in its own process one after another, or as tasks of a Ray
cluster, one on each GPU.
"""

import os
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, Protocol

from cifar_pipeline.errors import PipelineError

STORAGE_URL = "CIFAR_OPTUNA_URL"
"""Environment variable: a data base that all nodes reach, as SQLAlchemy takes it. Not Dagster's:
both would call a table `alembic_version`."""
ON_RAY = "CIFAR_TRIALS_ON_RAY"
"""Environment variable: set for a step on a Ray cluster that starts a task for each trial."""
STARTED_AGAIN = 3
"""How often a trial whose node is gone begins anew, from its last whole epoch."""

RunTrial = Callable[[str, int], None]
"""Runs a trial, by its stage and number, to its end."""


class Places(Protocol):
    """What runs trials."""

    at_once: int
    """how many there is room for"""

    def start(self, stage: str, number: int) -> "Future[None]":
        """Start a trial. The future has no result; it, or this, raises what the trial raises."""


class Here:
    """Runs each trial at once, in this process.

    Args:
        run_trial: with data and settings in memory.
    """

    at_once = 1

    def __init__(self, run_trial: RunTrial) -> None:
        self._run_trial = run_trial

    def start(self, stage: str, number: int) -> "Future[None]":
        self._run_trial(stage, number)
        ended: Future[None] = Future()
        ended.set_result(None)
        return ended


class OnRay:
    """Runs each trial as a task of the cluster that this process is a job of.

    Args:
        run_trial: can be pickled, and finds data and settings on whichever node it runs.
    """

    def __init__(self, run_trial: RunTrial) -> None:
        import ray  # noqa: PLC0415  # where there is a cluster alone

        ray.init(address="auto", ignore_reinit_error=True)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = int(resources.get("GPU", 0))
        self.at_once = max(1, gpus)

        def task(stage: str, number: int) -> None:  # Ray takes nothing but functions
            run_trial(stage, number)

        # A process for each trial, so that nothing of one is left in memory for the next.
        self._task: Any = ray.remote(
            num_cpus=0, num_gpus=min(1, gpus), max_calls=1, max_retries=STARTED_AGAIN
        )(task)

    def start(self, stage: str, number: int) -> "Future[None]":
        ended: Future[None] = Future()
        self._task.remote(stage, number).future().add_done_callback(partial(_pass_on, ended))
        return ended


def _pass_on(to: "Future[None]", task: "Future[None]") -> None:
    """End `to` as `task` did: with what was raised on the node, without its stack trace, which Ray
    makes part of the message."""
    if error := task.exception():
        to.set_exception(getattr(error, "cause", error))
    else:
        to.set_result(None)


def storage_on_ray() -> str | None:
    """The data base of a search whose trials are tasks of a cluster; None for one that runs its
    trials itself.

    Raises: PipelineError when the variable names no data base.
    """
    url = os.environ.get(STORAGE_URL)
    if not os.environ.get(ON_RAY) or not url:
        return None
    if "://" not in url or url.startswith("sqlite"):
        raise PipelineError(
            f"{STORAGE_URL} is {url!r}, expected a data base that all nodes reach, such as "
            "postgresql+psycopg2://user:password@host/database"
        )
    return url
