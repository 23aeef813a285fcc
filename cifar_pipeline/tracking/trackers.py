"""The trackers by name. Their libraries are extras, and imported where they are used."""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from cifar_pipeline.errors import PipelineError
from cifar_pipeline.tracking import to_mlflow, to_wandb
from cifar_pipeline.tracking.events import Tracker
from cifar_pipeline.tracking.outbox import About, Outbox

TRACKERS: dict[str, Callable[[About, Path], Tracker]] = {
    "mlflow": to_mlflow.MLflowTracker,
    "wandb": to_wandb.WandbTracker,
}
HOW_TO_SEE = {"mlflow": to_mlflow.how_to_see, "wandb": to_wandb.how_to_see}
TITLES = {"mlflow": "MLflow", "wandb": "Weights & Biases"}
"""What people call them."""


def connect(name: str, outbox: Outbox) -> Tracker:
    """The tracker `name`, ready to take the events of an outbox."""
    return TRACKERS[name](outbox.about, outbox.folder.parents[1])


def require_installed(names: Iterable[str]) -> None:
    """Raises: PipelineError that names the command, for a tracker whose library is missing."""
    for name in names:
        if find_spec(name) is None:
            raise PipelineError(
                f"params.yaml asks for tracking with {TITLES[name]}, and its library is not "
                f"installed; run `pip install 'cifar-pipeline[{name}]'` (or `make setup`, which "
                f"installs every extra), or take `{name}` out of `tracking`"
            )
