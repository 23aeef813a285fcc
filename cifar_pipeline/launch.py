"""Running a part of the graph from the command line, as a run of the job `pipeline`."""

import os
from collections.abc import Sequence

import dagster as dg
from sqlalchemy.exc import DBAPIError

from cifar_pipeline.definitions import defs
from cifar_pipeline.defs.jobs import WHOLE_GRAPH
from cifar_pipeline.defs.telling import QUIET
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.graph.stages import Key


def pipeline_job() -> dg.JobDefinition:
    """The job of the whole graph; steps' processes call this to have it again."""
    return defs.resolve_job_def(WHOLE_GRAPH)


def materialize(keys: Sequence[Key]) -> bool:
    """Run the assets `keys`, each in a process of its own; True when all of them succeeded.

    Raises: PipelineError when Dagster's records cannot be read or written.
    """
    try:
        with dg.DagsterInstance.get() as instance:
            result = dg.execute_job(
                dg.reconstructable(pipeline_job),
                instance=instance,
                run_config=QUIET,
                asset_selection=[dg.AssetKey(key) for key in keys],
            )
    except DBAPIError as error:
        raise PipelineError(
            f"Dagster's records of runs cannot be read or written: {error.orig}. They are where "
            f"dagster.yaml in {os.environ['DAGSTER_HOME']} puts them, by default beside it; see "
            "that the disk has room, that the folder can be written and that a data base's server "
            "answers, and start again"
        ) from None
    return result.success
