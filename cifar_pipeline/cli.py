"""`cifar`: the newcomer's door. Everything it does is a Dagster job that can be run without it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import yaml

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.dataset.archive import source_reachable
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import (
    add_recipe,
    select_models,
    select_profile,
    select_searches,
)
from cifar_pipeline.settings.params import PROFILES, Params
from cifar_pipeline.settings.reading import load_params

SHOWN = (
    "top1",
    "top1_low",
    "top1_high",
    "top5",
    "coarse_top1",
    "n",
    "no_duplicates_top1",
    "no_duplicates_n",
    "nll",
    "ece15",
)
"""The figures of every report that commands print."""


@click.group()
@click.version_option(package_name="cifar-pipeline", prog_name="cifar")
def main() -> None:
    """CIFAR-100, from the raw archive to trained models and their reports."""


@main.command()
@click.argument("name", required=False)
def profile(name: str | None) -> None:
    """Show the active profile, or make NAME the active one (in params.yaml)."""
    home = Workspace.current()
    try:
        if name:
            select_profile(home.params, name)
        click.echo(load_params(home.params).profile)
    except PipelineError as error:
        raise click.ClickException(str(error)) from None


@main.command()
@click.option(
    "--profile",
    "name",
    help=f"One of {', '.join(PROFILES)}; chosen by what can be reached where absent.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    help="A recipe or group; repeat for several. Those in the graph where absent.",
)
def run(name: str | None, models: tuple[str, ...]) -> None:
    """Run the whole graph: archive, table, splits, models, reports, leaderboard."""
    home = Workspace.current()
    try:
        select_profile(home.params, name or _reachable_profile(home))
        if models:
            select_models(home.params, models)
        params = load_params(home.params)
    except PipelineError as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"profile {params.profile}: running the job `pipeline`; log in {home.data / 'pipeline.log'}"
    )
    started = time.monotonic()
    if status := _execute(home, "pipeline", home.data / "pipeline.log"):
        raise click.ClickException(
            f"the run failed with exit status {status}; the message is above, the whole log in data/pipeline.log"
        )
    click.echo(_summary(home, params, time.monotonic() - started))


@main.command()
@click.argument("name")
@click.option("--profile", help=f"One of {', '.join(PROFILES)}; the active one where absent.")
def search(name: str, profile: str | None) -> None:
    """Search around recipe NAME, on the data that is there; goes on from where it was stopped."""
    home = Workspace.current()
    try:
        select_searches(home.params, [name])
        if profile:
            select_profile(home.params, profile)
        params = load_params(home.params)
    except PipelineError as error:
        raise click.ClickException(str(error)) from None
    log = home.data / f"search_{name}.log"
    click.echo(f"profile {params.profile}: running the job `search_{name}_job`; log in {log}")
    if status := _execute(home, f"search_{name}_job", log):
        raise click.ClickException(
            f"the search failed with exit status {status}; the message is above, the whole log in {log}"
        )
    click.echo(
        f"  {home.search(name) / 'index.html'}\n  `cifar adopt {name} NEW_NAME` makes the winner a recipe"
    )


@main.command()
@click.argument("name")
@click.argument("recipe")
@click.option(
    "--final",
    is_flag=True,
    help="Fit on all training images, for as many epochs as the winner's folds were best after.",
)
def adopt(name: str, recipe: str, final: bool) -> None:
    """Make what the search around NAME found a recipe of params.yaml, called RECIPE."""
    home = Workspace.current()
    try:
        keys = ("profile", "run", "finished", "train_images", "generated", "final_epochs")
        found = read_json(home.search(name) / "provenance.json", keys)
        if found["generated"]:
            raise PipelineError(
                f"the search around {name} was on generated images, which say nothing; run it under another profile"
            )
        comment = (
            f"found by the search around {name}: profile {found['profile']}, {found['train_images']:,} training images, "
            f"run {found['run']['id']}, {found['finished']}"
        )
        winner = yaml.safe_load((home.search(name) / "winner.yaml").read_text())
        if final:
            winner |= {
                "fit_on": "train_and_validation",
                "epochs": found["final_epochs"],
                "early_stopping": None,
                "plateau": None,
            }
        add_recipe(home.params, recipe, winner, comment)
    except PipelineError as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"params.yaml has the recipe `{recipe}`; train it with `cifar run --profile {found['profile']} --model {recipe}`"
    )


@main.command()
@click.argument("model")
@click.option("--open", "in_browser", is_flag=True, help="Show its page in the browser.")
def report(model: str, in_browser: bool) -> None:
    """The key figures of MODEL's report, and where its page is."""
    home = Workspace.current()
    try:
        load_params(home.params).recipe(model)
        metrics = _metrics(home, model)
    except PipelineError as error:
        raise click.ClickException(str(error)) from None
    click.echo(_line(home, model, metrics))
    scaled = (
        f", {metrics['ece15_scaled']:.3f} at temperature {metrics['temperature']:.2f}"
        if "temperature" in metrics
        else ""
    )
    click.echo(
        f"  without near-duplicates {metrics['no_duplicates_top1']:.2%} (n {metrics['no_duplicates_n']:,})  loss {metrics['nll']:.3f}  "
        f"calibration error {metrics['ece15']:.3f}{scaled}"
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
    """Every published claim beside our recorded runs, as Markdown: what the README shows."""
    from cifar_pipeline.reports import ledger as claims  # noqa: PLC0415  # pandas takes a second that no other command needs

    home = Workspace.current()
    try:
        runs = claims.load_runs(home.recorded_runs)
        if recording:
            models = load_params(home.params).models
            found = [claims.run_of(name, home.report(name)) for name in models]
            runs = claims.merge(runs, [run for run in found if run])
            claims.record(home.recorded_runs, runs)
    except PipelineError as error:
        raise click.ClickException(str(error)) from None
    click.echo(claims.markdown(claims.ledger(runs)), nl=False)


def _reachable_profile(home: Workspace) -> str:
    """`quick` when the archive can be had, else `smoke`, saying so. No other door chooses."""
    quick = load_params(home.params).under("quick")
    source = quick.source()
    if source_reachable(source, home.archive):
        return "quick"
    click.echo(
        f"The CIFAR-100 archive cannot be reached at {source.shown}, so this runs the `smoke` profile on generated images; "
        "set CIFAR_ARCHIVE (and CIFAR_ARCHIVE_SHA256) to a copy for the real one."
    )
    return "smoke"


def _execute(home: Workspace, job: str, log: Path) -> int:
    """Run the job, its whole output into `log`, progress and failures onto the terminal."""
    environment = {**os.environ, "DAGSTER_HOME": str(home.dagster_home), "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-m",
        "dagster",
        "job",
        "execute",
        "-m",
        "cifar_pipeline.definitions",
        "-j",
        job,
    ]
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w") as file,
        subprocess.Popen(
            command,
            cwd=home.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        failing = False
        for line in process.stdout:
            file.write(line)
            file.flush()
            if line.startswith("20") and " - dagster - " in line:
                failing = " - ERROR - " in line
                message = line.split(" - ", 5)[-1].strip()
                if failing or "STEP_START" in line or "STEP_SUCCESS" in line:
                    click.echo(message)
            elif line.startswith(("epoch ", "archive:", "trial ")) or (
                failing and line.strip() and "Traceback" not in line
            ):
                click.echo("  " + line.rstrip())
    return process.returncode


def _metrics(home: Workspace, model: str) -> dict[str, Any]:
    path = home.report(model) / "metrics.json"
    if not path.is_file():
        raise PipelineError(
            f"there is no report of '{model}' yet ({path}); make it with `cifar run --model {model}`, or `dvc pull`"
        )
    return read_json(path, SHOWN)


def _line(home: Workspace, model: str, metrics: dict[str, Any]) -> str:
    low, high = 100 * metrics["top1_low"], 100 * metrics["top1_high"]
    return (
        f"  {model:18} top-1 {metrics['top1']:6.2%} ({low:.2f} to {high:.2f})  top-5 {metrics['top5']:6.2%}  "
        f"superclass {metrics['coarse_top1']:6.2%}  n {metrics['n']:,}  {home.report(model) / 'index.html'}"
    )


def _summary(home: Workspace, params: Params, seconds: float) -> str:
    lines = [_line(home, name, _metrics(home, name)) for name in params.models]
    pages = f"  leaderboard        {home.leaderboard / 'index.html'}\n  ledger of claims   {home.ledger / 'index.html'}"
    return "\n".join([f"done in {seconds / 60:.1f} min", *lines, pages])
