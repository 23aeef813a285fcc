"""The command that sends what trackers have missed."""

import click

from cifar_pipeline.commands.shared import plain_errors
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace


@click.command()
@click.option(
    "--wait",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for a tracker, for each run.",
)
def track(wait: float) -> None:
    """Send what trackers have missed, and say how to see what they have."""
    from cifar_pipeline.settings.reading import load_params
    from cifar_pipeline.tracking.session import RUNS, send_waiting
    from cifar_pipeline.tracking.trackers import HOW_TO_SEE, TITLES, require_installed

    home = Workspace.current()
    with plain_errors():
        chosen = load_params(home.params).tracking.chosen
        require_installed(chosen)
        if not chosen:
            raise PipelineError(
                "params.yaml names no tracker; `tracking: {mlflow: {store: local}}` switches on "
                "one that needs no account"
            )
        tracked = False
        for line in send_waiting(home.tracking / RUNS, chosen, wait):
            tracked = True
            click.echo(line)
        if not tracked:
            click.echo("no training has been tracked yet; the next one will be")
    for name, settings in chosen.items():
        seen = HOW_TO_SEE[name](settings.model_dump(mode="json"), home.tracking)
        click.echo(f"{TITLES[name]}: {seen}")
