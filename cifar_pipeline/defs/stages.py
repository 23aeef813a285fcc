"""One list of what there is to make: the asset graph is built from it, and a test holds dvc.yaml against it.

No dagster and no I/O here: a stage is data.
"""

from dataclasses import dataclass

from cifar_pipeline.paths import Workspace
from cifar_pipeline.reports.files import PARTS
from cifar_pipeline.settings.params import Params

EVALUATION = tuple(f"cifar_pipeline/{part}" for part in ("drawing", "evaluation", "reports"))
SUBSETS = tuple(
    f"cifar_pipeline/{name}.py"
    for name in (
        "drawing/plots",
        "evaluation/duplicates",
        "evaluation/progress",
        "evaluation/subsets",
        "reports/subsets",
    )
)
PREDICTIONS = (
    "cifar_pipeline/evaluation/predictions.py",
    "cifar_pipeline/evaluation/progress.py",
    "cifar_pipeline/inputs",
)


@dataclass(frozen=True)
class Stage:
    """An asset and the DVC stage that makes it. Paths are relative to the workspace, as dvc.yaml has them."""

    key: tuple[str, ...]
    """The asset's key; `@` joins it to the DVC stage's name, `_` to the Dagster job's."""
    deps: tuple[tuple[str, ...], ...]
    """Keys of the stages whose outputs this one reads."""
    outputs: tuple[str, ...]
    params: tuple[str, ...]
    """The keys of params.yaml that this stage reads, and no others."""
    code: tuple[str, ...]
    """Folders and files whose content decides what the stage makes."""
    files: tuple[str, ...] = ()
    """Other files of the repository that it reads."""

    @property
    def name(self) -> str:
        return "@".join(self.key)

    @property
    def job(self) -> str:
        return "_".join(self.key) + "_job"


def build_stages(params: Params) -> dict[tuple[str, ...], Stage]:
    """Every stage by its key, in the order in which they run."""
    home = Workspace.current()

    def path(artefact: object) -> str:
        return str(artefact).removeprefix(f"{home.root}/")

    profile = params.profile
    stages = [
        Stage(
            ("archive",),
            (),
            (path(home.archive),),
            (f"profiles.{profile}.source", "sources"),
            ("cifar_pipeline/dataset",),
        ),
        Stage(("table",), (("archive",),), (path(home.table),), (), ("cifar_pipeline/dataset",)),
        Stage(
            ("splits",),
            (("table",),),
            (path(home.splits),),
            ("splits",),
            ("cifar_pipeline/dataset",),
        ),
        Stage(
            ("test_subsets",), (("table",),), (path(home.test_subsets),), ("test_subsets",), SUBSETS
        ),
    ]
    reports: list[tuple[str, ...]] = []
    scored: list[tuple[str, ...]] = []
    floors = (f"floors.{profile}",)
    training = tuple(
        f"cifar_pipeline/{part}"
        for part in ("dataset/splits.py", "inputs", "models", "settings", "training")
    )
    for name in params.searches:
        settings = (f"recipes.{name}",)
        code = (*training, "cifar_pipeline/search")
        stages += [
            Stage(
                ("search", name),
                (("table",), ("splits",)),
                (path(home.search(name)),),
                settings,
                code,
            )
        ]
    for name in params.models:
        recipe = (f"recipes.{name}",)
        model, predictions, report = ("model", name), ("predictions", name), ("report", name)
        stages += [
            Stage(model, (("table",), ("splits",)), (path(home.model(name)),), recipe, training),
            Stage(
                predictions,
                (model, ("table",), ("splits",)),
                (path(home.predictions(name)),),
                (),
                PREDICTIONS,
            ),
            Stage(
                report,
                (predictions, model, ("table",), ("test_subsets",)),
                _report_parts(path(home.report(name))),
                floors,
                EVALUATION,
            ),
        ]
        reports += [report]
        scored += [report, predictions]
    stages += [
        Stage(
            ("leaderboard",),
            tuple(scored),
            (path(home.leaderboard),),
            (*floors, "models", "ensembles"),
            EVALUATION,
        ),
        Stage(
            ("ledger",),
            tuple(reports),
            (path(home.ledger),),
            ("models",),
            EVALUATION,
            (path(home.recorded_runs),),
        ),
    ]
    return {stage.key: stage for stage in stages}


def _report_parts(folder: str) -> tuple[str, ...]:
    # One by one, because DVC must know which of them are metrics and which are plots.
    return tuple(f"{folder}/{name}" for name in PARTS)
