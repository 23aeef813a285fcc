"""The one executor: a process a step, spawned, so that TensorFlow and the GPU's memory start clean and end with it."""

import os

import dagster as dg

from cifar_pipeline.defs.runs import release_dead_runs
from cifar_pipeline.paths import Workspace

POOL = "gpu"
"""Training and prediction share it; dagster.yaml gives every pool one slot."""


def _create(context: dg.InitExecutorContext) -> dg.Executor:
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        # Dagster would quietly use a temporary instance: no history, no pool limits.
        raise dg.DagsterInvariantViolationError(
            f"DAGSTER_HOME is not set, so this run would leave no trace. Run `export DAGSTER_HOME={Workspace.current().dagster_home}`, "
            "or use the make targets, which do."
        )
    for run_id in release_dead_runs(context.instance):
        print(f"run {run_id} had died; marked as failed, its pool slots are free again")
    create = dg.multiprocess_executor.executor_creation_fn
    assert create is not None
    return create(context)


gpu_executor = dg.ExecutorDefinition(
    "gpu_executor",
    dg.multiprocess_executor.config_schema,  # type: ignore[arg-type]  # accepted, and what `configured` passes itself
    dg.multiprocess_executor.get_requirements,
    _create,
    "A spawned process a step; steps in the pool `gpu` one at a time.",
)
