"""Which exported model answers, when none is named."""

from dataclasses import dataclass
from pathlib import Path

from cifar_pipeline.artifacts import read_json
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.models.saved import HISTORY, PROVENANCE, load_epochs, load_labels
from cifar_pipeline.paths import Workspace
from cifar_pipeline.serving.exported import MODEL, ExportedModel


@dataclass(frozen=True)
class Choice:
    """An exported model, and why this one."""

    name: str
    file: Path
    why: str
    """in words, to be shown"""


def exported_models(home: Workspace) -> list[str]:
    """The names of all models that have an exported file."""
    return sorted(file.parent.name for file in home.exports.glob(f"*/{MODEL}"))


def choose_model(home: Workspace, name: str | None) -> Choice:
    """The model that was named; else the only one, or the best by its validation accuracy.

    Models of the 100 classes come before those of the 20 superclasses. The test split chooses
    nothing.

    Raises: PipelineError when there is none, or it cannot be told which is the best.
    """
    exported = exported_models(home)
    if name is not None:
        if name not in exported:
            raise PipelineError(f"there is no exported model '{name}'; {_repair(home, name)}")
        return Choice(name, home.export(name) / MODEL, "")
    if not exported:
        raise PipelineError(f"no model has been exported yet; {_repair(home, name)}")
    if len(exported) == 1:
        only = exported[0]
        return Choice(only, home.export(only) / MODEL, "the only one that is exported")
    scores = {name: score for name in exported if (score := _validated(home, name))}
    if not scores:
        raise PipelineError(
            f"none of the exported models ({', '.join(exported)}) has a validation accuracy to "
            f"choose by in {home.model('x').parent}; name one with --model"
        )
    best = max(scores, key=lambda name: scores[name])
    why = f"the best of {len(scores)} by validation accuracy, {scores[best][1]:.1%}"
    return Choice(best, home.export(best) / MODEL, why)


def _repair(home: Workspace, name: str | None) -> str:
    """What to do for want of the exported model `name`, or of any."""
    exported = exported_models(home)
    trained = sorted(file.parent.name for file in home.model("x").parent.glob(f"*/{HISTORY}"))
    if name in trained:
        return f"`cifar export {name}` makes it"
    if exported:
        return f"exported are {', '.join(exported)}"
    if trained:
        return (
            f"`cifar export {trained[0]}` exports one of those that are trained "
            f"({', '.join(trained)})"
        )
    return "`cifar run` trains models, and exports them"


def outdated(home: Workspace, model: ExportedModel) -> str:
    """What is wrong with an exported model of the workspace, in words; empty if nothing is.

    It answers all the same, because a model that is being replaced is of use meanwhile.
    """
    name = model.path.parent.name
    again = f"`cifar export {name}` makes it anew"
    if model.name != name:
        return f"{model.path} is the export of another model, {model.name}; {again}"
    provenance = home.model(name) / PROVENANCE
    if not provenance.is_file():
        return ""  # the export came alone, as from a DVC remote
    trained = read_json(provenance, ("model_sha256",))["model_sha256"]
    if trained != model.provenance["model_sha256"]:
        return f"{name} was trained again after its export, which is what answers; {again}"
    return ""


def _validated(home: Workspace, name: str) -> tuple[int, float] | None:
    """The number of classes, and the validation accuracy of the epoch that was kept; None for a
    model that is not here, or was fit on the validation images too."""
    folder = home.model(name)
    if not (folder / PROVENANCE).is_file():
        return None
    kept = read_json(folder / PROVENANCE, ("best_epoch",))["best_epoch"]
    accuracy = load_epochs(folder).get(kept, {}).get("val_accuracy")
    return (len(load_labels(folder).classes), accuracy) if accuracy is not None else None
