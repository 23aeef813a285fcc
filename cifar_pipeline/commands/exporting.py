"""The command that makes a model one file."""

import shutil
from pathlib import Path

import click

from cifar_pipeline.commands.shared import plain_errors
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace


@click.command()
@click.argument("model")
@click.option(
    "--to",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Copy the file to this folder as well, under the model's name.",
)
def export(model: str, folder: Path | None) -> None:
    """Make MODEL one ONNX file, unless that is up to date, and say where it is.

    It takes photographs of any size, and returns calibrated probabilities without Keras.
    """
    from cifar_pipeline.artifacts import replacing_file
    from cifar_pipeline.graph.status import reasons_to_run, record_plan
    from cifar_pipeline.running import execute
    from cifar_pipeline.settings.reading import load_params

    home = Workspace.current()
    with plain_errors():
        params = load_params(home.params)
        params.require_recipe(model)
        if model not in params.models or not home.model(model).is_dir():
            why = "not in the graph" if model not in params.models else "not trained yet"
            raise PipelineError(
                f"'{model}' is {why}; `cifar run --model {model}` trains and exports it"
            )
        record_plan(params, home)
        stale = reasons_to_run(params, home)
        if ("model", model) in stale:
            why = "; ".join(stale["model", model])
            click.echo(f"model/{model} is not up to date ({why}); this exports what is there")
        if ("export", model) in stale:
            execute(home, f"export_{model}", [("export", model)], resume=f"cifar export {model}")
        _show(home.export(model))
        if folder:
            for file in sorted(home.export(model).glob("*.onnx")):
                target = folder / f"{model}{''.join(file.suffixes)}"
                with replacing_file(target) as new:
                    shutil.copyfile(file, new)
                click.echo(f"  copied to {target}")


def _show(folder: Path) -> None:
    from cifar_pipeline.artifacts import read_json
    from cifar_pipeline.serving.exported import FIGURES, MODEL, QUANTISED

    figures = read_json(folder / FIGURES, ("bytes", "images", "largest_difference"))
    click.echo(
        f"  {folder / MODEL}  {figures['bytes'] / 1e6:.1f} MB\n"
        f"  probabilities differ from the model's by up to {figures['largest_difference']:.1g} on "
        f"{figures['images']:,} validation images"
    )
    if "int8_kept" not in figures:
        click.echo("  no file in 8 bits: no validation images are left to judge it on")
        return
    share, low, high = (100 * figures[f"int8_lost{end}"] for end in ("", "_low", "_high"))
    loss = f"{share:+.1f} points of their accuracy lost ({low:+.1f} to {high:+.1f})"
    if figures["int8_kept"]:
        click.echo(f"  {folder / QUANTISED}  {figures['int8_bytes'] / 1e6:.1f} MB, {loss}")
    else:
        click.echo(f"  a file in 8 bits was not kept: {loss}")
