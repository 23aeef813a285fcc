"""Commands that show what was made."""

import click

from cifar_pipeline.commands.shared import plain_errors
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace


@click.command()
@click.argument("model")
@click.option("--open", "in_browser", is_flag=True, help="Show its page in the browser.")
def report(model: str, in_browser: bool) -> None:
    """The key figures of MODEL's report, and where its page is."""
    from cifar_pipeline.settings.reading import load_params
    from cifar_pipeline.summary import line_of, metrics_of

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


@click.command()
@click.option(
    "--record",
    "recording",
    is_flag=True,
    help="First add the runs that data/ holds to benchmarks/results/runs.json.",
)
def ledger(recording: bool) -> None:
    """Every published claim beside our recorded runs, as Markdown."""
    from cifar_pipeline.reports import runs as recorded
    from cifar_pipeline.reports.ledger import markdown  # pandas takes a second
    from cifar_pipeline.reports.statements import load_measurements
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors():
        runs = recorded.load_runs(home.recorded_runs)
        measurements = load_measurements(home.recorded_studies)
        if recording:
            params = load_params(home.params)
            found = recorded.runs_of(
                (params.without_seed(name), home.report(name)) for name in params.models
            )
            if not found:
                raise PipelineError(
                    "data/ holds no report on CIFAR-100 that could be recorded; make one with "
                    "`cifar run`, under another profile than `smoke`"
                )
            runs = recorded.merge(runs, found)
            recorded.record(home.recorded_runs, runs)
    click.echo(markdown(runs, measurements), nl=False)
