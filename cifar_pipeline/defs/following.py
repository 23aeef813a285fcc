"""What trainings, searches and reports tell trackers: called from the hooks of epochs and trials,
and after the asset."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from cifar_pipeline.artifacts import digest_of, read_json
from cifar_pipeline.defs.follower import Follower
from cifar_pipeline.graph.stages import Stage
from cifar_pipeline.models.saved import load_epochs
from cifar_pipeline.paths import Workspace
from cifar_pipeline.provenance import code_revision, hardware, library_versions
from cifar_pipeline.reports.files import PARTS, PROVENANCE
from cifar_pipeline.settings.params import Params
from cifar_pipeline.tracking.events import Begun, Ended, Figures, Files, Model, Row, Status, Trial
from cifar_pipeline.tracking.outbox import Outbox, files_in, find
from cifar_pipeline.tracking.session import Continued, Session, continued
from cifar_pipeline.tracking.trackers import require_installed

BEST = "best-*.weights.h5"
"""The weights of an epoch that was the best so far, beside the checkpoints."""
LOAD_WEIGHTS = "load the run's final model, then call its load_weights with this file"
LOAD_MODEL = "keras.models.load_model; from uint8 (N, 32, 32, 3) to logits named in labels.json"
OF_TRIAL = ("stage", "trial", "state", "epochs", "accuracy", "first_fold", "best")
"""What is told of a trial beside its settings."""
FIRST_TRIAL = ("draws", 0)


class _Resumable(Follower, ABC):
    """What an interruption does not end: it goes on as the run that it was."""

    follows = True
    _earlier: Outbox | None = None

    def _begin(self) -> None:
        """Open the run at once, unless it has yet to be seen whether an earlier one is resumed."""
        kept = self._kept
        if kept.is_dir() and any(kept.iterdir()):
            self._earlier = self._continued.find(self._runs)
        if not self._earlier:
            self._opened()

    def _finish(self, metadata: Mapping[str, Any]) -> None:
        session = self._opened()
        # Under names of their own, where they are those of one epoch.
        names = {key: f"best/{key}" if key.startswith("val_") else key for key in metadata}
        session.add(_figures({names[key]: value for key, value in metadata.items()}))
        self._send_result(session)
        session.add(Ended("finished"))
        self._continued.forget()

    def _abandon(self, status: Status) -> None:
        if self._session:
            self._session.add(Ended(status))

    @property
    @abstractmethod
    def _kept(self) -> Path:
        """Where checkpoints are."""

    @abstractmethod
    def _send_result(self, session: Session) -> None:
        """Tell what the training or the search came to."""

    @property
    def _continued(self) -> Continued:
        decided = digest_of({"settings": self._stage.settings, "inputs": self._inputs})
        kept = self._kept
        return Continued(kept.with_name(f"{kept.name}.tracked.json"), decided)

    def _opened(self, *, anew: bool = False) -> Session:
        """The session: of the run that is resumed, or of a new one.

        Args:
            anew: whether the checkpoints that were there turned out to be of no use.
        """
        if self._session:
            return self._session
        run = self._context.run_id
        if self._earlier and not anew:
            outbox = continued(self._earlier, self._trackers, run)
        else:
            outbox = self._created(self._stage.asset, run)
        self._continued.remember(outbox)
        session = self._connected(outbox)
        configuration = self._stage.settings | self._stage.settings["recipe"]
        del configuration["recipe"]
        session.add(Begun(self._title, configuration, self._facts(), self._inputs))
        return session

    def _facts(self) -> dict[str, str]:
        return {
            "asset": "/".join(self._stage.key),
            "dagster_run": self._context.run_id,
            "code_revision": code_revision(),
            "hardware": hardware(),
            "images": "generated" if self._params.source().kind == "generated" else "CIFAR-100",
            **{f"version.{name}": version for name, version in library_versions().items()},
        }


class _Training(_Resumable):
    @property
    def _kept(self) -> Path:
        return self._home.checkpoints(self._name, self._params.profile)

    def _epoch(self, record: Mapping[str, float | None]) -> None:
        values = {key: value for key, value in record.items() if value is not None}
        step = int(values.pop("epoch"))
        session = self._opened(anew=step == 1)
        session.add(Row(step, values))
        self._send_best(session)

    def _abandon(self, status: Status) -> None:
        if self._session:
            self._send_best(self._session)
        super()._abandon(status)

    def _send_result(self, session: Session) -> None:
        self._send_best(session)
        if self._params.tracking.models == "none":
            return
        folder = self._home.model(self._name)
        provenance = read_json(folder / PROVENANCE)
        about = {key: provenance[key] for key in ("best_epoch", "model_sha256")}
        session.add(Model("model", files_in(folder), {**about, "loading": LOAD_MODEL}), folder)

    def _send_best(self, session: Session) -> None:
        """Send the weights of the best epochs that are not sent yet.

        Those of an epoch are on disk when the next one ends, or the training.
        """
        if self._params.tracking.models != "best_epochs":
            return
        events = [sent.event for sent in session.outbox.events() if sent]
        known = {event.label for event in events if isinstance(event, Model)}
        rows = {event.step: event.values for event in events if isinstance(event, Row)}
        for path in sorted(self._kept.glob(BEST)):
            epoch = int(path.name.split("-")[1].split(".")[0])
            label = f"epoch-{epoch:04}"
            if label not in known:
                about = {"epoch": epoch, **rows.get(epoch, {}), "loading": LOAD_WEIGHTS}
                session.add(Model(label, (path.name,), about), path.parent)


class _Search(_Resumable):
    @property
    def _kept(self) -> Path:
        return self._home.study(self._name, self._params.profile)

    @property
    def _title(self) -> str:
        return f"search around {super()._title}"

    def _trial(self, figures: Mapping[str, Any]) -> None:
        stage, number = str(figures["stage"]), int(figures["trial"])
        session = self._opened(anew=(stage, number) == FIRST_TRIAL)
        trial = Trial(
            f"{stage}-{number:04}",
            {key: value for key, value in figures.items() if key not in OF_TRIAL},
            {key: float(figures[key]) for key in ("accuracy", "epochs") if key in figures},
            tuple(float(value) for value in str(figures["first_fold"]).split(", ") if value),
            str(figures["state"]),
        )
        session.add(trial)
        if "best" in figures:
            events = [sent.event for sent in session.outbox.events() if sent]
            ended = len({event.label for event in events if isinstance(event, Trial)})
            session.add(Row(ended, {"best_accuracy": float(figures["best"])}))

    def _send_result(self, session: Session) -> None:
        folder = self._home.search(self._name)
        session.add(Files("search", files_in(folder)), folder)


class _Report(Follower):
    """Adds the report to the run of the training; a model from elsewhere gets a run now."""

    follows = True

    def _finish(self, metadata: Mapping[str, Any]) -> None:
        folder, model = self._home.report(self._name), self._home.model(self._name)
        provenance = read_json(model / PROVENANCE)
        training = str(provenance["run"]["id"])
        earlier = find(self._runs, "model", self._name, training)
        outbox = earlier or self._created("model", training)
        session = self._connected(continued(outbox, self._trackers, self._context.run_id))
        if not earlier:
            facts = {"dagster_run": training, "hardware": str(provenance["hardware"])}
            session.add(Begun(self._title, provenance["recipe"], facts, provenance["inputs"]))
            for epoch, figures in load_epochs(model).items():
                session.add(Row(epoch, figures))
            session.add(_figures({key: provenance[key] for key in _KEPT_FIGURES}))
            session.add(Ended("finished"))
        session.add(_figures(metadata, "test/"))
        session.add(Files("report", files_in(folder, PARTS)), folder)


_KEPT_FIGURES = ("parameters", "trainable_parameters", "training_s", "train_images", "best_epoch")
_KINDS: dict[str, type[Follower]] = {"model": _Training, "search": _Search, "report": _Report}


def follow(
    home: Workspace,
    params: Params,
    stage: Stage,
    context: dg.AssetExecutionContext,
    inputs: Mapping[str, str],
) -> Follower:
    """Begin to follow a step.

    Raises: PipelineError when the library of a tracker that params.yaml names is not installed.
    """
    follower = _KINDS.get(stage.asset, Follower)(home, params, stage, context, inputs)
    if follower.is_on:
        require_installed(params.tracking.chosen)
    follower.begin()
    return follower


def _figures(metadata: Mapping[str, Any], prefix: str = "") -> Figures:
    """The numbers and the words of an asset's metadata."""
    numbers = {
        f"{prefix}{key}": float(value)
        for key, value in metadata.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }
    words = {f"{prefix}{key}": value for key, value in metadata.items() if isinstance(value, str)}
    return Figures(numbers, words)
