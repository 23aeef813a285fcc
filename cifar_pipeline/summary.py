"""What commands print of reports."""

from typing import Any

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.params import Params

SHOWN = (
    *("top1", "top1_low", "top1_high", "top5", "coarse_top1", "n", "images"),
    *("no_duplicates_top1", "no_duplicates_n", "nll", "ece15"),
)
"""The figures of every report that commands print."""


def metrics_of(home: Workspace, model: str) -> dict[str, Any]:
    """The figures of a model's report.

    Raises: PipelineError when there is no report, or one of an older release.
    """
    path = home.report(model) / "metrics.json"
    if not path.is_file():
        raise PipelineError(
            f"there is no report of '{model}' yet ({path}); make it with `cifar run --model "
            f"{model}`, or `dvc pull`"
        )
    return read_json(path, SHOWN)


def line_of(home: Workspace, model: str, metrics: dict[str, Any]) -> str:
    """A model's key figures in a line."""
    low, high = 100 * metrics["top1_low"], 100 * metrics["top1_high"]
    generated = " generated images" if metrics["images"] == "generated" else ""
    return (
        f"  {model:18} top-1 {metrics['top1']:6.2%} ({low:.2f} to {high:.2f})  "
        f"top-5 {metrics['top5']:6.2%}  superclass {metrics['coarse_top1']:6.2%}  "
        f"n {metrics['n']:,}{generated}  {home.report(model) / 'index.html'}"
    )


def summary_of(home: Workspace, params: Params) -> str:
    """The key figures of every model that has a report, and where the pages are."""
    made = [name for name in params.models if (home.report(name) / "metrics.json").is_file()]
    lines = [_line(home, name) for name in made]
    pages = {"leaderboard": home.leaderboard, "ledger of claims": home.ledger}
    lines += [f"  {name:18} {folder / 'index.html'}" for name, folder in pages.items()]
    return "\n".join(lines)


def _line(home: Workspace, model: str) -> str:
    try:
        return line_of(home, model, metrics_of(home, model))
    except PipelineError as error:  # of another model than what has just been made
        return f"  {model:18} {error}"
