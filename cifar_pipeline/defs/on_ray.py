"""Steps on a Ray cluster: those of the pool on a node with a GPU to spare, the others on its head.

Every node has the environment under the same path, and sees the workspace there too, as on a shared
file system, unless DVC's remote takes its place (`data_plane.py`). dagster-ray submits each step as
a job of Ray. What is added here is that a step goes on elsewhere when its node, or the head, is
gone.
"""

import asyncio
import logging
import os
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.executor.step_delegating import (
    CheckStepHealthResult,
    StepDelegatingExecutor,
    StepHandler,
    StepHandlerContext,
)
from dagster_ray.core.executor import RayStepHandler
from ray.job_submission import JobSubmissionClient
from ray.util.state import list_nodes

from cifar_pipeline.defs.steps import PUSHED
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph import data_plane
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.paths import Workspace
from cifar_pipeline.provenance import NUMERIC
from cifar_pipeline.search.places import ON_RAY, STORAGE_URL
from cifar_pipeline.settings.reading import load_params

SUBMITTED_AGAIN = 3
"""How often a step whose node is gone begins anew."""
LOOK_EVERY_S = 5
SHOW_EVERY_S = 1.0
RAYS_OWN = ("job_manager.py:", "Running entrypoint for job ")
"""Words of lines in a job's output that are not the job's."""
HEAD = {"node:__internal_head__": 0.001}
"""What only the head has, and enough of for every step."""
TRIALS = {ON_RAY: "1", "RAY_COLOR_PREFIX": "0"}
"""Environment of a search whose trials are tasks of the cluster, and whose log is read as text."""
PASSED_ON = ("CIFAR_", "MLFLOW_", "WANDB_")
"""How the names of environment variables begin that a step needs wherever it runs."""


class Cluster:
    """A Ray cluster, by the address of its dashboard.

    Raises: PipelineError when nothing answers there, or it could not be told what to do here.
    """

    def __init__(self, address: str) -> None:
        if data_plane.is_dvc():
            data_plane.check_driver()
        logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)
        try:
            self.client = JobSubmissionClient(address)
            # Nodes that have died count as missing, which would be an error.
            nodes = list_nodes(
                address, filters=[("state", "=", "ALIVE")], raise_on_missing_output=False
            )
        except Exception as error:  # of several libraries, depending on what answers
            raise PipelineError(
                f"no Ray cluster answers at {address} ({' '.join(str(error).split()):.200}); begin "
                "one (`ray start --head`), or name another one"
            ) from None
        self.gpus = [int((node.resources_total or {}).get("GPU", 0)) for node in nodes]
        """of each node"""

    def executor(self, pool: str, settings: Mapping[str, Any]) -> dg.Executor:
        """What runs each step as a job of the cluster.

        Args:
            pool: key of the op tag of what needs a GPU; its value is `one` or `all` of a node's.
            settings: of `StepDelegatingExecutor`.
        """
        kind = StepDelegatingExecutor
        if data_plane.is_dvc():
            kind = _RecordingExecutor
        return kind(
            _OnCluster(self, pool),
            check_step_health_interval_seconds=LOOK_EVERY_S,
            should_verify_step=False,  # it would refuse to begin a step for the second time
            **settings,
        )


class _RecordingExecutor(StepDelegatingExecutor):
    """Records what a node pushed, before a step that reads it is handed over to another one."""

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        home = Workspace.current()
        for event in super().execute(plan_context, execution_plan):
            if event.is_step_materialization:
                found = event.step_materialization_data.materialization.metadata.get(PUSHED)
                if found:
                    data_plane.record(home, **found.value)
            yield event


class _OnCluster(StepHandler):
    """Chooses the node by the step's tags."""

    def __init__(self, cluster: Cluster, pool: str) -> None:
        super().__init__()
        most = max(cluster.gpus, default=0)
        self._pool, self._others = pool, _Jobs(cluster.client, {}, resources=dict(HEAD))
        self._by_need = {
            "one": _Jobs(cluster.client, {}, num_gpus=min(1, most)),
            "all": _Jobs(cluster.client, {}, num_gpus=most),
        }
        # The trials of a search need a data base and the workspace to run side by side; without,
        # it is a training.
        self._by_need["trials"] = (
            _Jobs(cluster.client, TRIALS, resources=dict(HEAD))
            if os.environ.get(STORAGE_URL) and not data_plane.is_dvc()
            else self._by_need["one"]
        )

    @property
    def name(self) -> str:
        return "Ray"

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        return self._jobs(step_handler_context).launch_step(step_handler_context)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        return self._jobs(step_handler_context).check_step_health(step_handler_context)

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        return self._jobs(step_handler_context).terminate_step(step_handler_context)

    def _jobs(self, context: StepHandlerContext) -> "_Jobs":
        [tags] = context.step_tags.values()
        return self._by_need[tags[self._pool]] if self._pool in tags else self._others


class _Jobs(RayStepHandler):
    """Submits a step again when its job ended and the step did not."""

    def __init__(
        self, client: JobSubmissionClient, environment: Mapping[str, str], **needs: Any
    ) -> None:
        passed_on = [key for key in os.environ if key.startswith(PASSED_ON) or key in NUMERIC]
        handed_over = data_plane.is_dvc()
        own = {
            "CIFAR_ROOT": "." if handed_over else str(Workspace.current().root),
            **({data_plane.ON_NODE: "1"} if handed_over else {}),
            **environment,
        }
        unset = dict.fromkeys(("runtime_env", "num_cpus", "num_gpus", "memory", "resources"))
        super().__init__(
            client,
            env_vars=["DAGSTER_HOME", *passed_on, *(f"{key}={own[key]}" for key in own)],
            **{**unset, **needs},
        )
        self._lost: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[dg.DagsterEvent]:
        if data_plane.is_dvc():
            with tempfile.TemporaryDirectory() as folder:
                self._hand_over(step_handler_context, Path(folder))
                self.runtime_env = {"working_dir": folder}
                yield from super().launch_step(step_handler_context)
        else:
            yield from super().launch_step(step_handler_context)
        job = self._get_ray_job_submission_id(step_handler_context)
        threading.Thread(target=asyncio.run, args=(self._show(job),), daemon=True).start()

    def _hand_over(self, step_handler_context: StepHandlerContext, folder: Path) -> None:
        home = Workspace.current()
        key = tuple(self._get_step_key(step_handler_context).split("__", 1))
        data_plane.pack(home, build_stages(load_params(home.params))[key], folder)

    async def _show(self, job: str) -> None:
        """Print what a job prints: the progress of a training."""
        shown = 0
        # For convenience, and Ray keeps it: neither a job that Ray has forgotten nor a connection
        # that breaks is worth a word.
        with suppress(Exception):
            while not self.client.get_job_status(job).is_terminal():
                with suppress(Exception):
                    shown = await self._show_rest(job, shown)
                await asyncio.sleep(SHOW_EVERY_S)

    async def _show_rest(self, job: str, shown: int) -> int:
        """Print what follows the first lines, of which `shown` were, until the connection ends.

        Returns: how many lines were seen.
        """
        seen = 0
        async for text in self.client.tail_job_logs(job):
            for line in text.splitlines():
                seen += 1
                if seen > shown and not any(words in line for words in RAYS_OWN):
                    print(line, flush=True)
        return max(seen, shown)

    def _get_ray_job_submission_id(self, step_handler_context: StepHandlerContext) -> str:
        first = super()._get_ray_job_submission_id(step_handler_context)
        lost = self._lost[self._get_step_key(step_handler_context)]
        return f"{first}-again-{lost}" if lost else first

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        result = super().check_step_health(step_handler_context)
        key = self._get_step_key(step_handler_context)
        if result.is_healthy and not self._ended_for_long(step_handler_context):
            return result
        if self._lost[key] == SUBMITTED_AGAIN:
            return CheckStepHealthResult.unhealthy(
                f"its job ended {1 + SUBMITTED_AGAIN} times before the step did"
            )
        self._lost[key] += 1
        try:
            for _ in self.launch_step(step_handler_context):
                pass
        except Exception:  # a cluster that is starting takes no jobs yet; the executor asks again
            self._lost[key] -= 1
            raise
        name = key.replace("__", "/", 1)
        print(f"{name}: its job on the cluster is gone, so it is submitted again", flush=True)
        return CheckStepHealthResult.healthy()

    def _ended_for_long(self, step_handler_context: StepHandlerContext) -> bool:
        """Whether a job that did not fail has ended, and the step's last event is not just on its
        way: somebody stopped it."""
        job = self._get_ray_job_submission_id(step_handler_context)
        if not self.client.get_job_status(job).is_terminal():
            return False
        self._ended[job] += 1
        return self._ended[job] > 2
