"""A training as the hooks see it, and places to send it to."""

import time
from types import SimpleNamespace

import pytest

from cifar_pipeline.defs.following import follow
from cifar_pipeline.defs.model_assets import _observer
from cifar_pipeline.graph.stages import build_stages
from cifar_pipeline.paths import Workspace
from cifar_pipeline.settings.editing import select_profile
from cifar_pipeline.settings.reading import load_params
from cifar_pipeline.tracking.outbox import outboxes
from tests.tracking.server import Server
from tests.workspaces import change_yaml

INPUTS = {"data/table/cifar100.parquet": "0" * 32, "data/splits/splits.parquet": "1" * 32}


@pytest.fixture
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture
def workspace(params_file, monkeypatch):
    """A workspace under the profile `smoke`, whose tracking `track` sets."""
    select_profile(params_file, "smoke")
    monkeypatch.setenv("CIFAR_ROOT", str(params_file.parent))
    return Tracked(params_file)


class Tracked:
    """A workspace, and trainings in it that only call the real hooks."""

    def __init__(self, params_file):
        self._file = params_file
        self.home = Workspace(params_file.parent)
        self.told = []

    def track(self, **tracking):
        change_yaml(self._file, lambda content: content.update(tracking=tracking))

    @property
    def params(self):
        return load_params(self._file)

    @property
    def checkpoints(self):
        return self.home.checkpoints("cnn9", "smoke")

    @property
    def outboxes(self):
        return list(outboxes(self.home.tracking / "runs"))

    def events(self, kind):
        """The events of a kind in the only outbox."""
        [outbox] = self.outboxes
        return [sent.event for sent in outbox.events() if isinstance(sent.event, kind)]

    def follow(self, key=("model", "cnn9"), run="run-1", inputs=None):
        """Begin a step; its follower, and its context."""
        params = self.params
        context = SimpleNamespace(
            run_id=run,
            log=SimpleNamespace(warning=self.told.append),
            log_event=lambda event: None,
        )
        stage = build_stages(params)[key]
        follower = follow(self.home, params, stage, context, INPUTS if inputs is None else inputs)
        context.resources = SimpleNamespace(pipeline=SimpleNamespace(follower=follower))
        return follower, context, stage

    def train(self, epochs, *, run="run-1", each_s=0.0, inputs=None, after_epoch=None):
        """Train for some epochs, of which each is better than the one before.

        Returns: the follower, and the seconds that the hooks took.
        """
        follower, context, stage = self.follow(run=run, inputs=inputs)
        observe, hooks = _observer(context, stage), 0.0
        for epoch in epochs:
            time.sleep(each_s)
            began = time.monotonic()
            observe(record(epoch), 1.0)
            hooks += time.monotonic() - began
            self.keep(epoch)
            if after_epoch:
                after_epoch(epoch)
        return follower, hooks

    @staticmethod
    def kill(follower):
        """End what a killed process does not end itself, and nothing else."""
        follower._session.close(0)

    def keep(self, epoch):
        """What `Keeper` leaves: a checkpoint of this epoch and of the one before, and weights."""
        for path in sorted(self.checkpoints.glob("best-*"))[:-1]:
            path.unlink()
        (self.checkpoints / f"epoch-{epoch:04}").mkdir(parents=True, exist_ok=True)
        path = self.checkpoints / f"best-{epoch:04}.weights.h5"
        path.write_bytes(f"weights of epoch {epoch}".encode())


def record(epoch):
    return {
        "epoch": epoch,
        "image_size": 32,
        "loss": 4.0 / epoch,
        "accuracy": 0.1 * epoch,
        "val_loss": None,
        "val_accuracy": 0.09 * epoch,
        "learning_rate": 1e-3,
        "images_per_s": 1000.0,
        "seconds": 2.0 * epoch,
    }
