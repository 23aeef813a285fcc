"""The one executor: a process for each step, so that TensorFlow and the GPU's memory start clean
and end with it. Before the first step it prepares the run (`preparation.py`).

On one machine the processes are forks of a server that has imported the definitions, and so has
them as they were when the run began; each step reads the settings and the code again and compares
(`steps.py`). The server must never import TensorFlow, which does not survive a fork. Where a Ray
cluster is named, they are jobs of the cluster (`on_ray.py`).
"""

import os
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.execution.retries import RetryMode

from cifar_pipeline.defs.gpus import gpus_of_this_machine
from cifar_pipeline.defs.preparation import prepare
from cifar_pipeline.defs.runs import telling_what_it_waits_for
from cifar_pipeline.defs.telling import lines_of
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace

PRELOADED = ("cifar_pipeline.launch", "dagster._core.storage.sqlite_storage")
"""What the server imports; every step would otherwise spend 3 s of CPU time on it."""
POOL = "gpu"
"""Training and prediction share it. It has a slot for each GPU, or one where there is none."""
FIRST = {"dagster/priority": "1"}
"""Op tags of what goes before the next training: a model's predictions come when it is done."""
IN_POOL_FIRST: dict[str, Any] = {"pool": POOL, "op_tags": {POOL: "one", **FIRST}}
"""Settings of an asset that predicts."""
RAY_ADDRESS = "CIFAR_RAY_ADDRESS"
"""Environment variable: the dashboard of the cluster that runs the steps, as `http://head:8265`."""


def in_pool(gpus: str = "one") -> dict[str, Any]:
    """Settings of an asset that trains, on `one` GPU or on `all` of a machine, or whose `trials`
    may have one each."""
    return {"pool": POOL, "op_tags": {POOL: gpus}}


class _PreparingExecutor(dg.Executor):
    """An executor of Dagster's that prepares the run before its first step.

    Args:
        gpus: how many there are where the steps run.
    """

    def __init__(self, inner: dg.Executor, gpus: int) -> None:
        self._inner, self._gpus = inner, gpus

    @property
    def retries(self) -> Any:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        instance, run = plan_context.instance, plan_context.dagster_run
        try:
            prepare(instance, run, set(execution_plan.step_keys_to_execute), gpus=self._gpus)
            instance.event_log_storage.set_concurrency_slots(POOL, places(self._gpus))
            with telling_what_it_waits_for(instance, run.run_id, POOL):
                for event in self._inner.execute(plan_context, execution_plan):
                    for line in lines_of(event):
                        print(line, flush=True)
                    yield event
        except Exception as error:  # of the run, not of a step; Dagster tells the UI alone
            print(f"the run failed: {error}", flush=True)
            raise
        finally:  # an interrupted run ends with its slot otherwise
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    if not os.environ.get("DAGSTER_HOME"):
        # Dagster would quietly use a temporary instance: no history, no pool limits.
        words = (
            "DAGSTER_HOME is not set, so this run would leave no trace. Run `export DAGSTER_HOME="
            f"{Workspace.current().dagster_home}`, or use the make targets, which do."
        )
        print(f"the run failed: {words}", flush=True)
        raise dg.DagsterInvariantViolationError(words)
    asked: dict[str, Any] = {key: value for key, value in context.executor_config.items() if value}
    if address := asked.pop("ray", None) or os.environ.get(RAY_ADDRESS):
        return _on_ray(address, asked)
    gpus = len(gpus_of_this_machine())
    ours = {
        **_limits(gpus),
        "start_method": {"forkserver": {"preload_modules": list(PRELOADED)}},
    }
    config: Any = {**context.executor_config, **ours, **asked}
    create = dg.multiprocess_executor.executor_creation_fn
    assert create is not None
    return _PreparingExecutor(create(context._replace(executor_config=config)), gpus)


def places(gpus: int) -> int:
    """How many trainings there is room for: one on each GPU, or one without any."""
    return max(1, gpus)


def _limits(gpus: int) -> dict[str, Any]:
    """So that the executor chooses by priority among what waits for the pool's slots; otherwise a
    slot would go to a training that has waited for it since the run began."""
    return {"tag_concurrency_limits": [{"key": POOL, "limit": places(gpus)}]}


def _on_ray(address: str, asked: dict[str, Any]) -> dg.Executor:
    try:
        from cifar_pipeline.defs.on_ray import Cluster

        cluster = Cluster(address)
    except ModuleNotFoundError:
        words = f"steps cannot run on {address}: Ray is not installed; run `make setup` again"
    except PipelineError as error:
        words = str(error)
    else:
        gpus = sum(cluster.gpus)
        # The steps that stay on the head are as many as this machine would run itself.
        ours = {**_limits(gpus), "max_concurrent": places(gpus) + (os.cpu_count() or 1)}
        settings = {key: asked.get(key, value) for key, value in ours.items()}
        settings["retries"] = RetryMode.from_config(asked.get("retries", {"enabled": {}}))
        return _PreparingExecutor(cluster.executor(POOL, settings), gpus)
    print(f"the run failed: {words}", flush=True)
    raise dg.DagsterInvariantViolationError(words)


gpu_executor = dg.ExecutorDefinition(
    "gpu_executor",
    {
        **dg.multiprocess_executor.config_schema.config_type.fields,  # type: ignore[union-attr]
        "ray": dg.Field(
            str,
            is_required=False,
            description="The address of a Ray cluster's dashboard, as http://head:8265, on which "
            f"the steps run. Default: ${RAY_ADDRESS}, or else this machine.",
        ),
    },
    dg.multiprocess_executor.get_requirements,
    _create,
    "A process for each step, here or on a Ray cluster; as many in the pool `gpu` at a time as "
    "there are GPUs.",
)
