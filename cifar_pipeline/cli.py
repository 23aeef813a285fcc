"""`cifar`: the newcomer's door. What it runs are Dagster's jobs, which can be run without it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
import yaml

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.errors import PipelineError, refusals_in_words
from cifar_pipeline.graph.plan import write_plan
from cifar_pipeline.graph.stages import Key
from cifar_pipeline.graph.status import reasons_to_run, record_plan
from cifar_pipeline.paths import Workspace
from cifar_pipeline.running import choose_profile, execute, stages_to_run
from cifar_pipeline.settings.editing import (
    add_recipe,
    restoring,
    select_models,
    select_profile,
)
from cifar_pipeline.settings.params import PROFILES
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.summary import line_of, metrics_of, summary_of

profile_option = click.option(
    "--profile", help=f"One of {', '.join(PROFILES)}. Default: the one in params.yaml."
)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Show a user's mistake as its message alone."""
    try:
        with refusals_in_words():
            yield
    except PipelineError as error:
        raise click.ClickException(str(error)) from None


@click.group()
@click.version_option(package_name="cifar-pipeline", prog_name="cifar")
def main() -> None:
    """CIFAR-100, from the raw archive to trained models and their reports."""


@main.command()
@click.argument("name", required=False)
def profile(name: str | None) -> None:
    """Show the active profile, or make NAME the active one (in params.yaml)."""
    home = Workspace.current()
    with plain_errors():
        if name:
            select_profile(home.params, name)
        click.echo(load_params(home.params).profile)


@main.command()
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
    """Make what is stale or missing: archive, table, splits, models, reports, leaderboard."""
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


@main.command()
def status() -> None:
    """What the next run would make, and why."""
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


@main.command()
def plan() -> None:
    """Write what decides each stage, its settings and its code, to data/plan.

    This is the command of DVC's stage `plan`; every other command does it by itself.
    """
    home = Workspace.current()
    with plain_errors():
        write_plan(load_params(home.params), home)


@main.command(hidden=True)
@click.argument("assets", nargs=-1, required=True)
def materialize(assets: tuple[str, ...]) -> None:
    """Run ASSETS, such as `table` and `model/cnn9`, in this process and its children."""
    from cifar_pipeline.launch import materialize as launch  # noqa: PLC0415  # takes a second

    if not launch([tuple(asset.split("/")) for asset in assets]):
        raise SystemExit(1)


@main.command()
@click.argument("name")
@profile_option
def search(name: str, profile: str | None) -> None:
    """Search around recipe NAME, on the data that is there; an interrupted search resumes.

    DVC versions the result if params.yaml names the search under `searches`.
    """
    home = Workspace.current()
    with plain_errors(), restoring(home.params):
        load_params(home.params).require_search(name)
        if profile:
            select_profile(home.params, profile)
        params = load_params(home.params)
        click.echo(f"profile {params.profile}, searching around {name}")
        execute(home, f"search_{name}_job", (("search", name),), resume=f"cifar search {name}")
    click.echo(f"  {home.search(name) / 'index.html'}")
    click.echo(f"  `cifar adopt {name} NEW_NAME` makes the winner a recipe")


@main.command()
@click.argument("name")
@click.argument("recipe")
@click.option(
    "--final",
    is_flag=True,
    help="Fit on all training images, for as many epochs as the winner's folds were best after.",
)
def adopt(name: str, recipe: str, final: bool) -> None:
    """Make what the search around NAME found a recipe, recipes/RECIPE.yaml."""
    home = Workspace.current()
    with plain_errors():
        load_params(home.params).require_search(name)
        if not (home.search(name) / "provenance.json").is_file():
            raise PipelineError(
                f"there is no result of a search around {name} yet; run `cifar search {name}`"
            )
        keys = ("profile", "run", "finished", "train_images", "generated", "final_epochs")
        found = read_json(home.search(name) / "provenance.json", keys)
        if found["generated"]:
            raise PipelineError(
                f"the search around {name} was on generated images, which say nothing; "
                "run it under another profile"
            )
        comment = (
            f"Found by the search around {name}, under the profile {found['profile']}, on "
            f"{found['train_images']:,} training images.\n"
            f"Run {found['run']['id']}, {found['finished']}."
        )
        text = (home.search(name) / "winner.yaml").read_text(encoding="utf-8")
        winner = yaml.safe_load(text)
        if final:
            winner |= {
                "fit_on": "train_and_validation",
                "epochs": found["final_epochs"],
                "early_stopping": None,
                "plateau": None,
            }
        file = add_recipe(home.params, recipe, winner, comment)
    click.echo(
        f"{file} is a new recipe; train it with `cifar run --profile {found['profile']} "
        f"--model {recipe}`"
    )


@main.command()
@click.argument("model")
@click.option("--open", "in_browser", is_flag=True, help="Show its page in the browser.")
def report(model: str, in_browser: bool) -> None:
    """The key figures of MODEL's report, and where its page is."""
    home = Workspace.current()
    with plain_errors():
        load_params(home.params).require_recipe(model)
        metrics = metrics_of(home, model)
        click.echo(line_of(home, model, metrics))
    scaled = (
        f", {metrics['ece15_scaled']:.2%} at temperature {metrics['temperature']:.2f}"
        if {"ece15_scaled", "temperature"} <= set(metrics)
        else ""
    )
    click.echo(
        f"  without near-duplicates {metrics['no_duplicates_top1']:.2%} "
        f"(n {metrics['no_duplicates_n']:,})  loss {metrics['nll']:.3f}  "
        f"calibration error {metrics['ece15']:.2%}{scaled}"
    )
    if in_browser:
        click.launch(str(home.report(model) / "index.html"))


@main.command()
@click.option(
    "--record",
    "recording",
    is_flag=True,
    help="First add the runs that data/ holds to benchmarks/results/runs.json.",
)
def ledger(recording: bool) -> None:
    """Every published claim beside our recorded runs, as Markdown."""
    from cifar_pipeline.reports import ledger as claims  # noqa: PLC0415  # pandas takes a second

    home = Workspace.current()
    with plain_errors():
        runs = claims.load_runs(home.recorded_runs)
        if recording:
            models = load_params(home.params).models
            found = claims.runs_of({name: home.report(name) for name in models})
            if not found:
                raise PipelineError(
                    "data/ holds no report on CIFAR-100 that could be recorded; make one with "
                    "`cifar run`, under another profile than `smoke`"
                )
            runs = claims.merge(runs, found)
            claims.record(home.recorded_runs, runs)
    click.echo(claims.markdown(claims.ledger(runs)), nl=False)


def _listed(keys: Sequence[Key]) -> str:
    return ", ".join("/".join(key) for key in keys)


def _command(profile: str | None, models: Sequence[str], only: bool) -> str:
    """What the user typed."""
    parts = ["cifar run", *([f"--profile {profile}"] if profile else [])]
    parts += [f"--model {model}" for model in models]
    return " ".join([*parts, *(["--only"] if only else [])])
