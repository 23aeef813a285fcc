"""MLflow: a database of our own, or a server.

Only the client is used, never the fluent API, whose state belongs to whoever imports this.
"""

import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cifar_pipeline.tracking.events import (
    Begun,
    Ended,
    Figures,
    Files,
    Model,
    Row,
    Sent,
    Trial,
    flat,
)
from cifar_pipeline.tracking.outbox import About

KEY = "cifar_run"
"""The tag by which a run is found again: MLflow chooses the ids of runs itself."""
KIND = {"mlflow.experimentKind": "custom_model_development"}
"""The tag by which the page shows the experiment as trainings, rather than as traces of agents."""
STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
STATUS_OF_TRIAL = {"complete": "FINISHED", "pruned": "KILLED", "fail": "FAILED"}
PARAMETERS_AT_ONCE, LONGEST = 100, 6000
"""What MLflow's servers take: parameters in a request, and characters in a value."""
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # the sender has patience of its own
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Unless the user has set them."""


def local_store(tracking: Path) -> str:
    """The address of the database in a workspace's folder for tracking."""
    return f"sqlite:///{tracking / 'mlflow.db'}"


def how_to_see(settings: dict[str, Any], tracking: Path) -> str:
    """What a user does to see the runs."""
    if settings["store"] != "local":
        return "they are on the server's page"
    # The page of another release may not read the database.
    release = version("mlflow-skinny")
    page = f"mlflow ui --backend-store-uri {local_store(tracking)}"
    return f"`uvx --from mlflow=={release} {page}` serves the page on http://127.0.0.1:5000"


class MLflowTracker:
    """Sends one run, and the child runs of its trials.

    Args:
        about: the run, with the settings of `settings.tracking.MLflow`.
        tracking: the workspace's folder for tracking.
    """

    confirms_each = True

    def __init__(self, about: About, tracking: Path) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        from mlflow import MlflowClient  # takes two seconds

        settings = about.trackers["mlflow"]
        self._local = settings["store"] == "local"
        address = os.environ.get("MLFLOW_TRACKING_URI") or settings["store"]
        self._store = local_store(tracking) if self._local else address
        self._client = MlflowClient(self._store)
        artefacts = (tracking / "mlflow").as_uri() if self._local else None
        self._experiment = self._experiment_id(settings["experiment"], artefacts)
        self._key, self._run = about.key, self._run_id(about.key)

    @property
    def page(self) -> str:
        if self._local:
            return self._store
        return f"{self._store}/#/experiments/{self._experiment}/runs/{self._run}"

    def confirm(self) -> None:
        """Every request has been answered."""

    def take(self, sent: Sent) -> None:
        match sent.event:
            case Begun() as begun:
                self._begin(begun, sent.at)
            case Row() as row:
                self._log(self._known_run, row.values, sent.at, row.step)
            case Figures() as figures:
                self._log(self._known_run, figures.values, sent.at)
                self._tag(self._known_run, figures.words)
            case Files() as files:
                self._upload(sent.folder, files.files, files.label)
            case Model() as model:
                folder = f"models/{model.label}"
                self._upload(sent.folder, model.files, folder)
                self._client.log_dict(self._known_run, model.about, f"{folder}/about.json")
            case Trial() as trial:
                self._add_trial(trial, sent.at)
            case Ended() as ended:
                self._end(self._known_run, STATUS[ended.status], sent.at)

    @property
    def _known_run(self) -> str:
        if self._run is None:
            raise LookupError(f"MLflow has no run with the tag {KEY} {self._key} any more")
        return self._run

    def _experiment_id(self, name: str, artefacts: str | None) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, artefacts, tags=KIND))
        if found.lifecycle_stage == "deleted":
            raise LookupError(
                f"the experiment '{name}' was deleted in MLflow; restore it, or name another one "
                "under `tracking.mlflow.experiment`"
            )
        return str(found.experiment_id)

    def _run_id(self, key: str) -> str | None:
        found = self._client.search_runs(
            [self._experiment], filter_string=f"tags.{KEY} = '{key}'", max_results=1
        )
        return found[0].info.run_id if found else None

    def _begin(self, begun: Begun, at: int) -> None:
        from mlflow.entities import Dataset, DatasetInput  # as above

        if self._run is None:
            self._run = self._create(begun.name, self._key, at)
        self._client.update_run(self._run, status="RUNNING")
        self._configure(self._run, begun.configuration)
        self._tag(self._run, begun.facts)
        inputs = [
            DatasetInput(Dataset(Path(path).name, md5, "dvc", path))
            for path, md5 in begun.data.items()
        ]
        if inputs:
            self._client.log_inputs(self._run, inputs)

    def _create(self, name: str, key: str, at: int, **tags: str) -> str:
        run = self._client.create_run(
            self._experiment, start_time=at, tags={KEY: key, **tags}, run_name=name
        )
        return run.info.run_id

    def _configure(self, run: str, configuration: dict[str, Any]) -> None:
        from mlflow.entities import Param  # as above

        values = [Param(key, str(v)[:LONGEST]) for key, v in flat(configuration).items()]
        for first in range(0, len(values), PARAMETERS_AT_ONCE):
            self._client.log_batch(run, params=values[first : first + PARAMETERS_AT_ONCE])

    def _log(self, run: str, values: dict[str, float], at: int, step: int = 0) -> None:
        from mlflow.entities import Metric  # as above

        metrics = [Metric(key, value, at, step) for key, value in values.items()]
        self._client.log_batch(run, metrics=metrics)

    def _tag(self, run: str, words: dict[str, str]) -> None:
        from mlflow.entities import RunTag  # as above

        if words:
            self._client.log_batch(run, tags=[RunTag(key, v) for key, v in words.items()])

    def _upload(self, folder: Path, names: tuple[str, ...], label: str) -> None:
        for name in names:
            if (folder / name).is_file():  # else every tracker of then has it, and it is removed
                where = (Path(label) / name).parent.as_posix()
                self._client.log_artifact(self._known_run, str(folder / name), where)

    def _add_trial(self, trial: Trial, at: int) -> None:
        key = f"{self._key}-{trial.label}"
        child = self._run_id(key) or self._create(
            trial.label, key, at, **{"mlflow.parentRunId": self._known_run}
        )
        self._configure(child, trial.configuration)
        self._tag(child, {"state": trial.state})
        self._log(child, trial.values, at)
        for epoch, accuracy in enumerate(trial.rows, 1):
            self._log(child, {"val_accuracy": accuracy}, at, epoch)
        self._end(child, STATUS_OF_TRIAL[trial.state], at)

    def _end(self, run: str, status: str, at: int) -> None:
        self._client.set_terminated(run, status, end_time=at)
