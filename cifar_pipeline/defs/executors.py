"""The one executor: a process for each step, so that TensorFlow and the GPU's memory start clean
and end with it. Before the first step it prepares the run (`preparation.py`).

The processes are forks of a server that has imported the definitions, and so has them as they were
when the run began; each step reads the settings and the code again and compares (`steps.py`). The
server must never import TensorFlow, which does not survive a fork.
"""

import os
from collections.abc import Iterator
from typing import Any

import dagster as dg

from cifar_pipeline.defs.gpus import places
from cifar_pipeline.defs.preparation import prepare
from cifar_pipeline.defs.runs import telling_what_it_waits_for
from cifar_pipeline.defs.telling import lines_of
from cifar_pipeline.paths import Workspace

PRELOADED = ("cifar_pipeline.launch", "dagster._core.storage.sqlite_storage")
"""What the server imports; every step would otherwise spend 3 s of CPU time on it."""
POOL = "gpu"
"""Training and prediction share it. It has a slot for each GPU, or one where there is none."""
FIRST = {"dagster/priority": "1"}
"""Op tags of what goes before the next training: a model's predictions come when it is done."""
IN_POOL: dict[str, Any] = {"pool": POOL, "op_tags": {POOL: "true"}}
"""Settings of an asset that trains."""
IN_POOL_FIRST: dict[str, Any] = {"pool": POOL, "op_tags": {POOL: "true", **FIRST}}
"""Settings of an asset that predicts."""


class _PreparingExecutor(dg.Executor):
    """Dagster's multiprocess executor, which prepares the run before its first step."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> Any:
        return self._inner.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._inner.step_dependency_config

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        instance, run = plan_context.instance, plan_context.dagster_run
        try:
            prepare(instance, run, set(execution_plan.step_keys_to_execute))
            instance.event_log_storage.set_concurrency_slots(POOL, places())
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
    ours = {
        # So that the executor chooses by priority among what waits for the pool's slots; otherwise
        # a slot would go to a training that has waited for it since the run began.
        "tag_concurrency_limits": [{"key": POOL, "limit": places()}],
        "start_method": {"forkserver": {"preload_modules": list(PRELOADED)}},
    }
    asked = {key: value for key, value in context.executor_config.items() if value}
    config: Any = {**context.executor_config, **ours, **asked}
    create = dg.multiprocess_executor.executor_creation_fn
    assert create is not None
    return _PreparingExecutor(create(context._replace(executor_config=config)))


gpu_executor = dg.ExecutorDefinition(
    "gpu_executor",
    # Accepted, and what `configured` passes itself.
    dg.multiprocess_executor.config_schema,  # type: ignore[arg-type]
    dg.multiprocess_executor.get_requirements,
    _create,
    "A process for each step; as many in the pool `gpu` at a time as there are GPUs.",
)
