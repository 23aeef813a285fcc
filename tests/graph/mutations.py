"""Changes of the package and the settings, each with the stages that it has to make stale.

The stages are those of a graph with cnn9 and efficientnet_b0 under the profile `smoke`. Stages that
follow from a stale one count only once it has been made anew and come out different.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MODELS = {"model@cnn9", "model@efficientnet_b0"}
PREDICTIONS = {"predictions@cnn9", "predictions@efficientnet_b0"}
REPORTS = {"report@cnn9", "report@efficientnet_b0"}
EXPORTS = {"export@cnn9", "export@efficientnet_b0"}
TABLE_READERS = {"table", "splits", "test_subsets", *MODELS, *PREDICTIONS, *REPORTS, *EXPORTS}


@dataclass(frozen=True)
class Mutation:
    """A replacement of text in a file; a file that does not exist is made."""

    what: str
    file: str
    old: str
    new: str
    stale: frozenset[str]

    @contextmanager
    def applied(self, root: Path) -> Iterator[None]:
        """Make the change in the checkout `root`, and undo it afterwards."""
        path = root / self.file
        before = path.read_text(encoding="utf-8") if path.is_file() else None
        text = before or ""
        assert self.old in text, f"{self.what}: {self.file} has no {self.old!r}"
        path.write_text(text.replace(self.old, self.new, 1), encoding="utf-8")
        try:
            yield
        finally:
            if before is None:
                path.unlink()
            else:
                path.write_text(before, encoding="utf-8")


BY_VALUE = "another default of a setting that these recipes leave alone"
"""Seen in the settings' values, and so only by a process that imports the changed module."""


def _(what: str, file: str, old: str, new: str, *stale: str) -> Mutation:
    return Mutation(what, file, old, new, frozenset(stale))


MUTATIONS = (
    # What changes an artefact.
    _(
        "every training image is turned upside down",
        "cifar_pipeline/inputs/batches.py",
        "self._augmenter(self._images[element], ",
        "self._augmenter(self._images[element][:, ::-1], ",
        *MODELS,
    ),
    _(
        "another share of a mixed image",
        "cifar_pipeline/inputs/mixing.py",
        "share = rng.beta(alpha, alpha)",
        "share = rng.beta(alpha, 1)",
        *MODELS,
    ),
    _(
        "another schedule of the learning rate",
        "cifar_pipeline/training/optimizers.py",
        "peak * restart.rate",
        "peak / restart.rate",
        *MODELS,
    ),
    _(
        "another layer in cnn9",
        "cifar_pipeline/models/cnn9.py",
        "layers.MaxPooling2D(2,",
        "layers.AveragePooling2D(2,",
        "model@cnn9",
    ),
    _(
        "other pooling in EfficientNet",
        "cifar_pipeline/models/efficientnet.py",
        'pooling="avg"',
        'pooling="max"',
        "model@efficientnet_b0",
    ),
    _(
        "another default width of cnn9 (which `smoke` sets itself)",
        "cifar_pipeline/settings/architectures.py",
        "(128, 256, 512)",
        "(128, 256, 511)",
    ),
    _(
        BY_VALUE,
        "cifar_pipeline/settings/recipe.py",
        "label_smoothing: Annotated[float, Field(ge=0, lt=1, strict=True)] = Field(\n        0.0",
        "label_smoothing: Annotated[float, Field(ge=0, lt=1, strict=True)] = Field(\n        0.1",
        *MODELS,
    ),
    _(
        "pixels are read in another order",
        "cifar_pipeline/dataset/table.py",
        "reshape(-1, *SHAPE)",
        "reshape(-1, *SHAPE)[..., ::-1]",
        *TABLE_READERS,
    ),
    _(
        "the rows of a split in another order",
        "cifar_pipeline/dataset/splits.py",
        "return np.sort(splits",
        "return np.unique(splits",
        *MODELS,
        *PREDICTIONS,
        *EXPORTS,
    ),
    _(
        "numbers of a pickle are rounded",
        "cifar_pipeline/dataset/pickles.py",
        "            return number",
        "            return number and int(number)",
        "table",
    ),
    _(
        "another colour of generated images",
        "cifar_pipeline/dataset/generated.py",
        "0.5 + 0.45 * np.cos(hue)",
        "0.5 + 0.4 * np.cos(hue)",
        "archive",
    ),
    _(
        "another measure of similarity",
        "cifar_pipeline/evaluation/duplicates.py",
        "cv2.TM_CCOEFF_NORMED",
        "cv2.TM_CCORR_NORMED",
        "test_subsets",
    ),
    _(
        "images are mirrored upside down",
        "cifar_pipeline/evaluation/predictions.py",
        "images[:, :, ::-1]",
        "images[:, ::-1]",
        *PREDICTIONS,
    ),
    _(
        "a saved model is loaded in another way",
        "cifar_pipeline/models/saved.py",
        "compile=False, safe_mode=True",
        "compile=True, safe_mode=True",
        *MODELS,
        *PREDICTIONS,
        *EXPORTS,
    ),
    _(
        "photographs are made square in another way",
        "cifar_pipeline/serving/conversion.py",
        "cubic_coeff_a = -0.5",
        "cubic_coeff_a = -0.75",
        *EXPORTS,
    ),
    _(
        "another map of where a model looks",
        "cifar_pipeline/models/explanation.py",
        "ops.mean(gradient, axis=(1, 2)",
        "ops.max(gradient, axis=(1, 2)",
        *PREDICTIONS,
        *EXPORTS,
    ),
    _(
        "another interval of an accuracy",
        "cifar_pipeline/evaluation/metrics.py",
        'method="wilson"',
        'method="exact"',
        *REPORTS,
        "leaderboard",
    ),
    _(
        "another size of the confusion plot",
        "cifar_pipeline/drawing/plots.py",
        "Figure(figsize=(9, 7.6)",
        "Figure(figsize=(9, 8)",
        *REPORTS,
    ),
    _(
        "another interval of a difference",
        "cifar_pipeline/evaluation/comparison.py",
        "only_first + 0.5",
        "only_first + 1.0",
        "leaderboard",
    ),
    _(
        "other words in the leaderboard's template",
        "cifar_pipeline/drawing/templates/leaderboard.html.j2",
        "{% block content %}",
        "{% block content %}\n<p>More words.</p>",
        "leaderboard",
    ),
    _(
        "a claim of the ledger",
        "cifar_pipeline/reports/claims.yaml",
        "value: 0.59\n",
        "value: 0.60\n",
        "ledger",
    ),
    _(
        "a setting of one recipe",
        "recipes/cnn9.yaml",
        "  epochs: 6\n",
        "  epochs: 7\n",
        "model@cnn9",
    ),
    _(
        "a setting of a recipe that another one extends",
        "recipes/efficientnet_b0.yaml",
        "  epochs: 15\n",
        "  epochs: 15\n  label_smoothing: 0.01\n",
        "model@efficientnet_b0",
    ),
    _(
        "the floor of one model",
        "params.yaml",
        "cnn9: 0.05}",
        "cnn9: 0.04}",
        "report@cnn9",
        "leaderboard",
    ),
    _("the seed of the splits", "params.yaml", "  seed: 123\n", "  seed: 124\n", "splits"),
    # What changes none.
    _(
        "the settings of another profile",
        "recipes/cnn9.yaml",
        "  epochs: 200\n",
        "  epochs: 199\n",
    ),
    _(
        "a new architecture's module",
        "cifar_pipeline/models/new.py",
        "",
        "def features(x, architecture, construction):\n    return x\n",
    ),
    _(
        "a new architecture's settings",
        "cifar_pipeline/settings/architectures.py",
        "Architecture = Annotated[\n    Cnn9 |",
        'class New(ArchitectureSettings):\n    """New."""\n\n    name: Literal["new"]\n'
        '    module = "new"\n\n\nArchitecture = Annotated[\n    New | Cnn9 |',
    ),
    _(
        "a recipe that is not in the graph",
        "recipes/another.yaml",
        "",
        "extends: cnn9\n",
    ),
    _(
        "a comment and an empty line",
        "cifar_pipeline/training/fit.py",
        "import keras\n",
        "import keras\n\n# A comment.\n",
    ),
    _(
        "a docstring",
        "cifar_pipeline/training/fit.py",
        '"""Training one recipe.',
        '"""Training a recipe.',
    ),
    _(
        "the words of an error",
        "cifar_pipeline/artifacts.py",
        "an older release wrote it; materialize its asset",
        "an older one wrote it; materialize its asset",
    ),
    _("a command", "cifar_pipeline/commands/workflow.py", "does it by itself", "does it itself"),
    _(
        "how settings are read",
        "cifar_pipeline/settings/reading.py",
        "RESERVED = {",
        'RESERVED = {"reserved", ',
    ),
)
