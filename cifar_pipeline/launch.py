"""Running a part of the graph from the command line, as a run of the job `pipeline`."""

from collections.abc import Sequence

import dagster as dg

from cifar_pipeline.definitions import defs
from cifar_pipeline.defs.jobs import WHOLE_GRAPH
from cifar_pipeline.defs.telling import QUIET
from cifar_pipeline.graph.stages import Key


def pipeline_job() -> dg.JobDefinition:
    """The job of the whole graph; steps' processes call this to have it again."""
    return defs.resolve_job_def(WHOLE_GRAPH)


def materialize(keys: Sequence[Key]) -> bool:
    """Run the assets `keys`, each in a process of its own; True when all of them succeeded."""
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.reconstructable(pipeline_job),
            instance=instance,
            run_config=QUIET,
            asset_selection=[dg.AssetKey(key) for key in keys],
        )
    return result.success
