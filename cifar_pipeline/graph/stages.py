"""One list of what there is to make. The asset graph is built from it, and a test holds dvc.yaml to
it.

A stage is data: nothing here runs, and nothing here knows Dagster or DVC.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cifar_pipeline.artifacts import file_digest
from cifar_pipeline.graph.code import Name
from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.files import PARTS
from cifar_pipeline.settings.params import Params
from cifar_pipeline.settings.recipe import Recipe

Key = tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """An asset and the DVC stage that makes it. Paths are relative to the workspace."""

    key: Key
    """the asset's key, such as `("model", "cnn9")`"""
    outputs: tuple[str, ...]
    deps: tuple[Key, ...] = ()
    """keys of the stages whose outputs this one reads"""
    inputs: tuple[str, ...] = ()
    """the files and folders that it reads"""
    settings: dict[str, Any] = field(default_factory=dict)
    """the values of all settings that decide what it makes, and of no others"""
    takes_what_is_there: bool = False
    """whether an input that was not made yet is left out, and no error"""
    code: tuple[Name, ...] = ()
    """definitions that its asset's body finds by a name in the settings"""

    @property
    def asset(self) -> str:
        """The name of the function that makes the asset, in `cifar_pipeline/defs`."""
        return self.key[0]

    @property
    def name(self) -> str:
        """What DVC calls it, such as `model@cnn9`."""
        return "@".join(self.key)

    @property
    def job(self) -> str:
        """The Dagster job that makes it alone."""
        return "_".join(self.key) + "_job"


def build_stages(params: Params) -> dict[Key, Stage]:
    """Every stage by its key, in the order in which they run; searches out of the graph as well."""
    home = Workspace.current()

    def path(artefact: Path) -> str:
        return artefact.relative_to(home.root).as_posix()

    table, splits, subsets = path(home.table), path(home.splits), path(home.test_subsets)
    data: tuple[Key, ...] = (("table",), ("splits",))
    source = params.source()
    stages = [
        Stage(
            ("archive",),
            (path(home.archive),),
            # Not its address: what is fetched from there is held to the checksum.
            settings=source.model_dump(mode="json", include={"kind", "sha256", "seed", *_COUNTS}),
        ),
        Stage(
            ("table",),
            (table,),
            (("archive",),),
            (path(home.archive),),
            source.model_dump(mode="json", include={*_COUNTS, "channel_mean", "channel_std"}),
        ),
        Stage(
            ("splits",), (splits,), (("table",),), (table,), params.splits.model_dump(mode="json")
        ),
        Stage(
            ("test_subsets",),
            (subsets,),
            (("table",),),
            (table,),
            params.test_subsets.model_dump(mode="json"),
        ),
    ]
    for name in params.all_searches:
        recipe = params.recipe(name)
        settings = _training_settings(params, recipe) | {
            "search": params.search_around(name).model_dump(mode="json")
        }
        stages.append(
            Stage(
                ("search", name),
                (path(home.search(name)),),
                data,
                (table, splits),
                settings,
                code=_architecture(recipe),
            )
        )
    for name in params.models:
        stages += _stages_of_model(name, params, home, path)
    models = list(params.models)
    reports: tuple[Key, ...] = tuple(("report", name) for name in models)
    scored: tuple[Key, ...] = tuple(("predictions", name) for name in models)
    possible = {
        name: ensemble.model_dump(mode="json")
        for name, ensemble in params.ensembles.items()
        if set(ensemble.members) <= set(models)
    }
    floors = {name: params.floor(name) for name in models}
    stages += [
        Stage(
            ("leaderboard",),
            (path(home.leaderboard),),
            (*reports, *scored),
            (path(home.reports), path(home.all_predictions)),
            {"profile": params.profile, "models": models, "ensembles": possible, "floors": floors},
            takes_what_is_there=True,
        ),
        Stage(
            ("ledger",),
            (path(home.ledger),),
            reports,
            (path(home.recorded_runs), path(home.recorded_studies), path(home.reports)),
            {"models": models},
            takes_what_is_there=True,
        ),
    ]
    stages += [
        Stage(
            ("photo_predictions", name),
            (path(home.photo_predictions(name)),),
            tuple(("export", model) for model in models),
            (path(home.photographs(name)), path(home.exports)),
            {"models": models},
            takes_what_is_there=True,
        )
        for name in params.photographs
    ]
    return {stage.key: stage for stage in stages}


_COUNTS = ("train_per_class", "test_per_class")


def _stages_of_model(name: str, params: Params, home: Workspace, path: Any) -> list[Stage]:
    recipe, folder = params.recipe(name), path(home.model(name))
    table, splits, predictions = path(home.table), path(home.splits), path(home.predictions(name))
    return [
        Stage(
            ("model", name),
            (folder,),
            (("table",), ("splits",)),
            (table, splits),
            _training_settings(params, recipe),
            code=_architecture(recipe),
        ),
        Stage(
            ("predictions", name),
            (predictions,),
            (("model", name), ("table",), ("splits",)),
            # Not the whole folder: a retraining that ends in the same weights changes nothing here.
            (f"{folder}/model.keras", f"{folder}/labels.json", table, splits),
        ),
        Stage(
            ("report", name),
            tuple(f"{path(home.report(name))}/{part}" for part in PARTS),
            (("predictions", name), ("model", name), ("table",), ("test_subsets",)),
            (predictions, folder, table, path(home.test_subsets)),
            {"floor": params.floor(name)},
        ),
        Stage(
            ("export", name),
            (path(home.export(name)),),
            (("model", name), ("table",), ("splits",)),
            (folder, table, splits),
        ),
    ]


def _training_settings(params: Params, recipe: Recipe) -> dict[str, Any]:
    settings = recipe.model_dump(mode="json")
    if recipe.weights not in ("imagenet", "none"):
        file = Path(recipe.weights)
        settings["weights"] = {
            "name": file.name,  # the path means nothing on another machine
            "sha256": file_digest(file, "sha256") if file.is_file() else None,
        }
    return {"profile": params.profile, "recipe": settings}


def _architecture(recipe: Recipe) -> tuple[Name, ...]:
    """The settings type and the module of the recipe's own architecture, and of no other."""
    architecture = recipe.architecture
    return (
        Name("settings.architectures", type(architecture).__name__),
        Name(f"models.{architecture.module}", "features"),
    )
