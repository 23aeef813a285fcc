"""Commands that choose what there is to make, and make it."""

from collections.abc import Sequence

import click

from cifar_pipeline.commands.shared import plain_errors, profile_option
from cifar_pipeline.paths import Workspace


@click.command()
@click.argument("name", required=False)
def profile(name: str | None) -> None:
    """Show the active profile, or make NAME the active one (in params.yaml)."""
    from cifar_pipeline.settings.editing import select_profile
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors():
        if name:
            select_profile(home.params, name)
        click.echo(load_params(home.params).profile)


@click.command()
@profile_option
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Only this recipe or group and what it needs; it joins the graph. Repeat for several.",
)
@click.option("--only", is_flag=True, help="Take all models but those of --model out of the graph.")
@click.option("--force", is_flag=True, help="Run everything, up to date or not.")
def run(profile: str | None, models: tuple[str, ...], only: bool, force: bool) -> None:
    """Make what is stale or missing: data, models, reports, exports, leaderboard."""
    from cifar_pipeline.graph.status import record_plan
    from cifar_pipeline.running import choose_profile, execute, stages_to_run
    from cifar_pipeline.settings.editing import restoring, select_models, select_profile
    from cifar_pipeline.settings.reading import load_params
    from cifar_pipeline.summary import summary_of

    if only and not models:
        raise click.UsageError("--only needs --model")
    home = Workspace.current()
    with plain_errors(), restoring(home.params):
        select_profile(home.params, choose_profile(home, profile))
        asked = load_params(home.params).expanded(models)
        if asked:
            kept = () if only else load_params(home.params).models
            select_models(home.params, [*kept, *asked])
        params = load_params(home.params)
        record_plan(params, home)
        keys, skipped = stages_to_run(home, params, asked, force=force)
        if skipped:
            click.echo(f"up to date, skipped: {_listed(skipped)}")
        if keys:
            click.echo(f"profile {params.profile}, running: {_listed(keys)}")
            execute(home, "pipeline", keys, resume=_command(profile, models, only))
        click.echo(summary_of(home, params))


@click.command()
def status() -> None:
    """What the next run would make, and why."""
    from cifar_pipeline.graph.status import reasons_to_run, record_plan
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors():
        params = load_params(home.params)
        record_plan(params, home)
        reasons = reasons_to_run(params, home)
    click.echo(f"profile {params.profile}")
    for key, why in reasons.items():
        click.echo(f"  {'/'.join(key):28} {'; '.join(why)}")
    if not reasons:
        click.echo("  everything is up to date")


@click.command()
def plan() -> None:
    """Write what decides each stage, its settings and its code, to data/plan.

    This is the command of DVC's stage `plan`; every other command does it by itself.
    """
    from cifar_pipeline.graph.plan import write_plan
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors():
        write_plan(load_params(home.params), home)


@click.command(hidden=True)
@click.argument("assets", nargs=-1, required=True)
def materialize(assets: tuple[str, ...]) -> None:
    """Run ASSETS, such as `table` and `model/cnn9`, in this process and its children."""
    from cifar_pipeline.launch import materialize as launch  # takes a second

    with plain_errors():
        succeeded = launch([tuple(asset.split("/")) for asset in assets])
    if not succeeded:
        raise SystemExit(1)


def _listed(keys: Sequence[tuple[str, ...]]) -> str:
    return ", ".join("/".join(key) for key in keys)


def _command(profile: str | None, models: Sequence[str], only: bool) -> str:
    """What the user typed."""
    parts = ["cifar run", *([f"--profile {profile}"] if profile else [])]
    parts += [f"--model {model}" for model in models]
    return " ".join([*parts, *(["--only"] if only else [])])
