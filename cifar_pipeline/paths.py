"""Where every artefact lives, relative to one workspace root. No I/O happens here."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """The folder that holds `params.yaml`, `dvc.yaml` and `data/`."""

    root: Path

    @classmethod
    def current(cls) -> "Workspace":
        """`$CIFAR_ROOT` if it is set, for workspaces beside the checkout; else the checkout."""
        return cls(Path(os.environ.get("CIFAR_ROOT") or Path(__file__).parents[1]).resolve())

    def resolve(self, path: str) -> Path:
        """What a path in the settings or the environment means, wherever the user stands.

        It is relative to the root; `~` is expanded where that home folder exists.
        """
        return self.root / os.path.expanduser(path)  # noqa: PTH111  # Path.expanduser raises

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def dagster_home(self) -> Path:
        return self.root / "dagster_home"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def plans(self) -> Path:
        return self.data / "plan"

    def plan(self, key: tuple[str, ...]) -> Path:
        """What decides the stage `key`."""
        return self.plans.joinpath(*key).with_suffix(".json")

    @property
    def archive(self) -> Path:
        return self.data / "raw" / "cifar-100-python.tar.gz"

    @property
    def table(self) -> Path:
        return self.data / "table" / "cifar100.parquet"

    @property
    def splits(self) -> Path:
        return self.data / "splits" / "splits.parquet"

    @property
    def test_subsets(self) -> Path:
        return self.data / "test_subsets"

    @property
    def ledger(self) -> Path:
        return self.data / "ledger"

    @property
    def recorded_runs(self) -> Path:
        """In git: what the README's figures are taken from."""
        return self.root / "benchmarks" / "results" / "runs.json"

    @property
    def recorded_studies(self) -> Path:
        """In git: what claims that are not one figure are tested by."""
        return self.root / "benchmarks" / "results" / "claims.json"

    @property
    def leaderboard(self) -> Path:
        return self.data / "leaderboard"

    def model(self, recipe: str) -> Path:
        return self.data / "models" / recipe

    def checkpoints(self, recipe: str, profile: str) -> Path:
        """Neither in DVC nor in git: `dvc repro` deletes a stage's outputs before it runs.

        By profile, so that a quick look does not end what an hour of training has reached.
        """
        return self.data / "checkpoints" / recipe / profile

    def lock(self, stage: str) -> Path:
        """Held by the process that makes a stage's outputs, or their checkpoints."""
        return self.data / "locks" / f"{stage}.lock"

    def search(self, name: str) -> Path:
        return self.data / "searches" / name

    def study(self, name: str, profile: str) -> Path:
        """Of a search that is not finished; where checkpoints are, for the same reasons."""
        return self.data / "checkpoints" / f"search_{name}" / profile

    @property
    def tracking(self) -> Path:
        """What trackers are sent, have not taken yet, and keep on this machine."""
        return self.data / "tracking"

    @property
    def all_predictions(self) -> Path:
        return self.data / "predictions"

    def predictions(self, recipe: str) -> Path:
        return self.all_predictions / f"{recipe}.parquet"

    @property
    def exports(self) -> Path:
        return self.data / "exports"

    def export(self, recipe: str) -> Path:
        return self.exports / recipe

    def photographs(self, name: str) -> Path:
        """A folder of the user's own; everything else in `data` is made."""
        return self.data / "photographs" / name

    def photo_predictions(self, name: str) -> Path:
        return self.data / "photo_predictions" / f"{name}.parquet"

    @property
    def reports(self) -> Path:
        return self.data / "reports"

    def report(self, recipe: str) -> Path:
        return self.reports / recipe
