"""From a workspace and a search's name to `data/searches/<name>`."""

import platform
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from cifar_pipeline.artifacts import code_revision, dvc_md5, hardware, library_versions
from cifar_pipeline.inputs.batches import load_images
from cifar_pipeline.params import Params
from cifar_pipeline.paths import Workspace
from cifar_pipeline.search.results import STORAGE, described, draw, readable, trial_table, write_search
from cifar_pipeline.search.study import Data, SearchRun, ranked


def search_and_save(
    name: str, params: Params, home: Workspace, run: Mapping[str, str], report: Callable[[dict[str, Any], str, Path], None]
) -> dict[str, Any]:
    """Search around recipe `name`, from where it was interrupted, and write `data/searches/<name>`; return the key figures.

    The trials stay until the caller has recorded the search and removes them.

    Args:
        run: what identifies this run elsewhere, for the provenance.
        report: called after each trial with its settings and figures, the table of its stage in Markdown, and a folder of pictures.

    Raises: PipelineError as `train` and `load_images` do, and when every trial of a stage failed.
    """
    base, search = params.recipe(name), params.search_around(name)
    inputs = {path.name: dvc_md5(path) for path in (home.table, home.splits)}
    data = Data(
        load_images(home.table, home.splits, "train", base.target, per_class=search.train_per_class, seed=search.seed),
        load_images(home.table, home.splits, "validation", base.target, per_class=base.validation_per_class, seed=search.seed),
        str(inputs),
    )

    def follow(study: optuna.Study, trial: FrozenTrial) -> None:
        best = ranked(study)
        figures = {"stage": study.study_name, **described(search, trial), **({"best": best[0].value} if best else {})}
        table = readable(trial_table(search, {study.study_name: study}))
        with tempfile.TemporaryDirectory() as folder:
            draw(study, Path(folder))
            report(figures, table.to_markdown(index=False), Path(folder))

    searching = SearchRun(base, search, data, home.study(name, params.profile), follow)
    studies = searching.run()
    provenance = {
        "recipe": name,
        "profile": params.profile,
        "generated": params.source().kind == "generated",
        "train_images": len(data.training),
        "run": dict(run),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_revision": code_revision(),
        "inputs": inputs,
        "versions": {"python": platform.python_version(), "optuna": optuna.__version__, **library_versions()},
        "hardware": hardware(),
    }
    # Not the path that a setting of this machine put in its place.
    weights = {**params.recipes[name]["seed"], **params.recipes[name][params.profile]}["weights"]
    winner = searching.winner(studies).model_copy(update={"weights": weights})
    return write_search(home.search(name), search, studies, winner, provenance=provenance, storage=searching.folder / STORAGE)
