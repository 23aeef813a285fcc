"""`cifar predict`: what an exported model says of photographs."""

import csv
import json
import sys
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cifar_pipeline.commands.shared import plain_errors
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from cifar_pipeline.serving.predictor import Prediction, Predictor

BAR = 24
"""characters, of the bar of a probability of 1"""
DRAWN = 12
"""photographs at most, in a picture"""
PREVIEW = 400
"""pixels, the longer side of a photograph there"""


@click.command()
@click.argument("photographs", nargs=-1, required=True, metavar="PHOTO...")
@click.option("--model", help="An exported model. Default: the best by validation accuracy.")
@click.option(
    "--top",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many classes for each photograph.",
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each photograph.")
@click.option("--csv", "as_csv", is_flag=True, help="A row of CSV for each class.")
@click.option(
    "--parquet", type=click.Path(dir_okay=False, path_type=Path), help="The same rows in a file."
)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"A PNG of the first {DRAWN} photographs: what the network sees, and where it looks.",
)
def predict(
    *,
    photographs: tuple[str, ...],
    model: str | None,
    top: int,
    as_json: bool,
    as_csv: bool,
    parquet: Path | None,
    plot: Path | None,
) -> None:
    """The likeliest classes of each PHOTO, and whether it is none of them.

    PHOTO is an image file; a folder, for all images in it; a pattern such as 'holiday/**/*.jpg'; or
    - for an image on standard input. For a file that cannot be read, a
    line says why, and the command ends with exit status 1.
    """
    if as_json and as_csv:
        raise click.UsageError("--json and --csv both write to standard output; choose one")
    if plot and plot.suffix.lower() != ".png":
        raise click.UsageError(f"--plot draws a PNG; let the name end in .png, not {plot.name!r}")
    from cifar_pipeline.serving.choice import choose_model, outdated
    from cifar_pipeline.serving.exported import ExportedModel
    from cifar_pipeline.serving.files import find_photographs
    from cifar_pipeline.serving.predictor import Predictor, with_progress

    with plain_errors():
        home = Workspace.current()
        choice = choose_model(home, model)
        predictor = Predictor(ExportedModel(choice.file), top=top)
        found = find_photographs(photographs)
        if not found.sources:
            raise PipelineError(f"there is no image in {', '.join(photographs)}")
        if choice.why:
            click.echo(f"model {choice.name}, {choice.why}", err=True)
        if problem := outdated(home, predictor.model):
            click.echo(f"warning: {problem}", err=True)
        if found.left_out:
            click.echo(f"files left out because they are not images: {found.left_out:,}", err=True)
        drawn: list[Prediction] = []
        failed = 0
        # The places of the results are opened before the work, which may take long.
        with ExitStack() as stack:
            show = _shower(predictor, as_json=as_json, as_csv=as_csv, text=not parquet)
            save = stack.enter_context(_rows(parquet)) if parquet else None
            picture = stack.enter_context(_picture(plot)) if plot else None
            for prediction in with_progress(predictor.predict(found.sources), len(found.sources)):
                show(prediction)
                failed += prediction.error is not None
                if save:
                    save(predictor.rows(prediction))
                if prediction.error is None and len(drawn) < DRAWN:
                    drawn.append(prediction)
            if picture:
                _draw(choice.name, drawn, picture)
    for written in filter(None, (parquet, plot)):
        click.echo(f"written: {written}", err=True)
    if failed:
        click.echo(f"{failed:,} of {len(found.sources):,} files could not be read", err=True)
        raise SystemExit(1)


def _shower(
    predictor: "Predictor", *, as_json: bool, as_csv: bool, text: bool
) -> "Callable[[Prediction], None]":
    """What shows a prediction on standard output as soon as it is there."""
    if as_json:
        return lambda prediction: click.echo(json.dumps(predictor.document(prediction)))
    if as_csv:
        from cifar_pipeline.serving.predictor import COLUMNS

        table = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        table.writeheader()
        return lambda prediction: table.writerows(predictor.rows(prediction))
    if text:
        classes = len(predictor.model.labels.classes)
        return lambda prediction: click.echo(_text(prediction, classes))
    return lambda prediction: None


def _text(prediction: "Prediction", classes: int) -> str:
    """A prediction as lines for a terminal."""
    name = prediction.source.name
    shown = click.style(name if name.isprintable() else ascii(name), bold=True)
    photograph = prediction.photograph
    if photograph is None:
        return f"{shown}\n  {click.style(prediction.error, fg='red')}"
    lines = [f"{shown}  {photograph.width:,}×{photograph.height:,} {photograph.kind}"]
    if prediction.none_of_these:
        verdict = f"probably none of these {classes} classes; the nearest are"
        lines.append(f"  {click.style(verdict, fg='yellow')}")
    for guess in prediction.guesses:
        bar = "▇" * round(BAR * guess.probability)
        lines.append(
            f"  {guess.probability:6.1%}  {guess.name:14} {guess.superclass:30} {bar}".rstrip()
        )
    return "\n".join(lines)


def _rows(path: Path) -> "AbstractContextManager[Callable[[Iterable[dict[str, Any]]], None]]":
    from cifar_pipeline.serving.prediction_table import SCHEMA, writing_rows

    return writing_rows(path, SCHEMA)


@contextmanager
def _picture(path: Path) -> "Iterator[Path]":
    """As `replacing_file`; raises OSError at once where the picture cannot be written."""
    from cifar_pipeline.artifacts import replacing_file

    with replacing_file(path) as new:
        new.touch()
        yield new


def _draw(model: str, predictions: "list[Prediction]", path: Path) -> None:
    from cifar_pipeline.drawing.photographs import Shown, plot_predictions
    from cifar_pipeline.drawing.style import save
    from cifar_pipeline.serving.photographs import read_preview

    if not predictions:
        raise PipelineError("there is nothing to draw, because no photograph could be read")
    shown = [
        Shown(
            Path(prediction.source.name).name,
            read_preview(prediction.source.content, PREVIEW),
            prediction.photograph.pixels,
            prediction.attention,
            [(guess.name, guess.superclass, guess.probability) for guess in prediction.guesses],
            prediction.none_of_these,
        )
        for prediction in predictions
        if prediction.photograph is not None and prediction.attention is not None
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name may have letters that the font lacks
        save(plot_predictions(model, shown), path)
