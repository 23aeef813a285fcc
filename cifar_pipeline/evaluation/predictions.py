"""Predicted probabilities of the test split; the one module of the evaluation that needs Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cifar_pipeline.artifacts import replacing_file
from cifar_pipeline.dataset.splits import archive_of, read_splits
from cifar_pipeline.dataset.stored import StoredImages
from cifar_pipeline.dataset.table import COARSE, save_table
from cifar_pipeline.evaluation.progress import Steps
from cifar_pipeline.inputs.batches import labelled_rows
from cifar_pipeline.models.environment import import_keras
from cifar_pipeline.models.saved import load_model, weights_digest
from cifar_pipeline.settings.recipe import Target

import_keras()
import keras  # noqa: E402  # quietly, so after the line above

from cifar_pipeline.models.explanation import explained  # noqa: E402

BATCH = 250
AT_ONCE = 40 * BATCH
"""Images whose answers, features included, are in memory at a time."""


def predict_test(model: Path, table: Path, splits: Path) -> pa.Table:
    """Probabilities of all classes for every test image and its mirror image, in row order.

    Of the model's folder only the weights decide what is returned, so a training that ends in the
    same weights gives the same predictions. Progress is printed to stderr.

    Args:
        model: folder of the trained model.
        table: Parquet file of the data set.
        splits: Parquet file of the splits.

    Returns:
        The columns row_id, fine_label, probabilities[100], mirrored[100], top5_label[5],
        top5_probability[5] and attention[h·h], which is Grad-CAM of the likeliest class from 0 to
        255; for a model of the superclasses row_id, coarse_label, probabilities[20] and so on. The
        metadata names the archive and the model by checksums, so that a report can tell whether
        the predictions are those of the model at hand.

    Raises:
        PipelineError: an input is missing, or the inputs do not belong together.
    """
    classifier = load_model(model)
    target: Target = "coarse" if classifier.output_shape[-1] == COARSE else "fine"
    rows, labels = labelled_rows(table, splits, "test", target)
    parts = [slice(start, start + AT_ONCE) for start in range(0, len(rows), AT_ONCE)]
    progress = _Progress(
        Steps(
            f"predicting {len(rows):,} test images and their mirror images",
            2 * -(-len(rows) // BATCH),
        )
    )
    explaining, stored = explained(classifier), StoredImages(table)
    columns = pa.concat_tables(
        pa.table(
            {
                "row_id": pa.array(rows[part].astype(np.int32)),
                f"{target}_label": pa.array(labels[part].astype(np.uint8)),
                **_answers(explaining, stored.take(rows[part]), progress),
            }
        )
        for part in parts
    )
    return columns.replace_schema_metadata(
        {
            "archive_sha256": archive_of(read_splits(splits)),
            "model_sha256": weights_digest(classifier),
        }
    )


def write_predictions(predictions: pa.Table, target: Path) -> None:
    """Write Parquet; the same predictions give the same bytes."""
    with replacing_file(target) as temporary:
        save_table(predictions, temporary)


def _answers(
    explaining: keras.Model, images: np.ndarray, progress: keras.callbacks.Callback
) -> dict[str, pa.Array]:
    """What the model says of images and their mirror images, as columns."""
    (probabilities, attention), (mirrored, _) = (
        _probabilities_and_attention(
            explaining.predict(view, batch_size=BATCH, verbose=0, callbacks=[progress])
        )
        for view in (images, images[:, :, ::-1])
    )
    top5 = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return {
        "probabilities": _lists(probabilities),
        "mirrored": _lists(mirrored),
        "top5_label": _lists(top5.astype(np.uint8)),
        "top5_probability": _lists(np.take_along_axis(probabilities, top5, axis=1)),
        "attention": _lists(np.rint(255 * attention.reshape(len(attention), -1)).astype(np.uint8)),
    }


def _probabilities_and_attention(
    predicted: dict[str, np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    probabilities = keras.ops.softmax(predicted["logits"])
    return np.asarray(probabilities, np.float32), predicted["attention"]


class _Progress(keras.callbacks.Callback):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps

    def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
        self._steps.finish_one()


def _lists(rows: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows[0].size)
