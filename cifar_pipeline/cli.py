"""`cifar`: the newcomer's door. What it runs are Dagster's jobs, which can be run without it.

Commands import what they need when they run: `cifar --help` and `cifar predict` start at once.
"""

import click

from cifar_pipeline.commands import (
    exporting,
    page,
    predicting,
    publishing,
    results,
    searches,
    serving,
    tracking,
    workflow,
)


@click.group()
@click.version_option(package_name="cifar-pipeline", prog_name="cifar")
def main() -> None:
    """CIFAR-100, from the raw archive to trained models and their reports."""


for command in (
    *(workflow.profile, workflow.run, workflow.status, workflow.plan, workflow.materialize),
    *(searches.search, searches.adopt),
    *(results.report, results.ledger),
    exporting.export,
    predicting.predict,
    serving.serve,
    publishing.publish,
    tracking.track,
    page.app,
):
    main.add_command(command)
