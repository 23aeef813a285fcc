"""Weights & Biases: files for `wandb sync`, or an account.

What is logged is safe when a run is finished, and not before: its own process sends it.
"""

import os
from pathlib import Path
from typing import Any

from cifar_pipeline.tracking.events import Begun, Ended, Figures, Files, Model, Row, Sent, Trial
from cifar_pipeline.tracking.outbox import About

PICTURES, PAGES = {".png"}, {".html"}
FOLDER = "wandb"
"""What the library calls its own folder, wherever it is told to work."""


def how_to_see(settings: dict[str, Any], tracking: Path) -> str:
    """What a user does to see the runs."""
    if settings["mode"] == "offline":
        return f"`cd {tracking}; wandb sync` sends them to your account"
    return "they are on the account's page"


class WandbTracker:
    """Sends one run, and a run for each trial in the same group.

    Args:
        about: the run, whose key is its id, with the settings of `settings.tracking.WandB`.
        tracking: the workspace's folder for tracking.
    """

    confirms_each = False

    def __init__(self, about: About, tracking: Path) -> None:
        folder = tracking / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            os.environ.setdefault(name, str(folder))
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb  # takes a second

        wandb.teardown()  # of an attempt that failed, which would keep the run's id in use
        settings = about.trackers["wandb"]
        self._settings, self._tracking, self._about = settings, tracking, about
        self._run: Any = None
        self._exit_code: int | None = None
        self._page = str(folder) if settings["mode"] == "offline" else ""

    @property
    def page(self) -> str:
        return self._page

    def confirm(self) -> None:
        import wandb  # takes a second

        if self._run:
            self._run.finish(exit_code=self._exit_code)
            self._run = None
            wandb.teardown()  # a run that is finished may not be on the disk yet

    def take(self, sent: Sent) -> None:
        run = self._run = self._run or self._open(sent.event)
        match sent.event:
            case Begun() as begun:
                facts = {**begun.facts, "data": begun.data}
                run.config.update({**begun.configuration, "facts": facts}, allow_val_change=True)
            case Row() as row:
                run.log(row.values, step=row.step)
            case Figures() as figures:
                run.summary.update({**figures.values, **figures.words})
            case Files() as files:
                self._show(sent.folder, files)
            case Model() as model:
                self._keep(sent.folder, model)
            case Trial() as trial:
                self._add_trial(trial)
            case Ended() as ended:
                self._exit_code = 0 if ended.status == "finished" else 1

    def _open(self, event: Any) -> Any:
        name = event.name if isinstance(event, Begun) else None
        run = self._init(self._about.key, name=name, job_type=self._about.asset)
        if self._settings["mode"] == "online":
            self._page = run.url or ""
        return run

    def _init(self, key: str, **given: Any) -> Any:
        import wandb  # takes a second

        quiet = wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, init_timeout=30
        )
        return wandb.init(
            id=key,
            project=self._settings["project"],
            entity=self._settings["entity"],
            mode=self._settings["mode"],
            dir=self._tracking,
            group=self._about.key if self._about.asset == "search" else None,
            resume="allow",
            reinit="create_new",
            settings=quiet,
            **given,
        )

    def _show(self, folder: Path, files: Files) -> None:
        """Pictures and pages are shown on the run's page; all files are an artefact."""
        import wandb  # as above

        shown: dict[str, Any] = {}
        for name in files.files:
            path = folder / name
            if path.is_file() and path.suffix in PICTURES:
                shown[f"{files.label}/{path.stem}"] = wandb.Image(str(path))
            elif path.is_file() and path.suffix in PAGES:
                shown[f"{files.label}/page"] = wandb.Html(path.read_text(encoding="utf-8"))
        if shown:
            self._run.log(shown)
        artefact = wandb.Artifact(f"{files.label}-{self._about.key}", files.label)
        self._upload(folder, files.files, artefact)

    def _keep(self, folder: Path, model: Model) -> None:
        """Each model is a version of one artefact."""
        import wandb  # as above

        artefact = wandb.Artifact(f"model-{self._about.key}", "model", metadata=model.about)
        self._upload(folder, model.files, artefact, model.label)

    def _upload(self, folder: Path, names: tuple[str, ...], artefact: Any, *aliases: str) -> None:
        there = [name for name in names if (folder / name).is_file()]
        for name in there:
            artefact.add_file(str(folder / name), name)
        if there:  # else every tracker of then has them, and they are removed
            self._run.log_artifact(artefact, aliases=list(aliases))

    def _add_trial(self, trial: Trial) -> None:
        run = self._init(f"{self._about.key}-{trial.label}", name=trial.label, job_type="trial")
        run.config.update({**trial.configuration, "state": trial.state}, allow_val_change=True)
        for epoch, accuracy in enumerate(trial.rows, 1):
            run.log({"val_accuracy": accuracy}, step=epoch)
        run.summary.update(trial.values)
        run.finish(exit_code=1 if trial.state == "fail" else 0)
