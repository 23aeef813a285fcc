"""Which test images an accuracy is taken over, besides all of them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cifar_pipeline.artifacts import file_digest, replacing_folder, write_json
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.drawing import plots
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.duplicates import (
    SIMILAR,
    contact_sheet,
    find_duplicates,
    unique_test_rows,
)
from cifar_pipeline.settings.data import PublishedList

UPSTREAM_SHA256 = "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7"
"""Of the archive whose row order published index lists refer to."""
NO_DUPLICATES = "no_duplicates"
SUMMARY_KEYS = (
    "like_a_training_image",
    "identical_to_a_training_image",
    "like_an_earlier_test_image",
    "least_similarity",
)
MEMBERSHIP, DUPLICATES, SHEET, SUMMARY = (
    "subsets.parquet",
    "duplicates.parquet",
    "contact_sheet.png",
    "summary.json",
)


def write_subsets(
    table: Path, lists: Mapping[str, PublishedList], root: Path, folder: Path
) -> dict[str, int]:
    """Write to `folder`: the duplicates, a contact sheet of them, and which test image is in which subset; return the counts.

    Args:
        lists: published lists of test images to leave out; see `read_list`. Their paths may be relative to `root`.

    Raises: PipelineError when a list cannot be read, the table does not have upstream's row order, or a subset is empty.
    """
    content = read_table(table)
    test_rows = np.flatnonzero(np.asarray(content["upstream_split"].to_pandas() == "test"))
    left_out = {
        name: read_list(root, listed, archive_of(content), len(test_rows))
        for name, listed in lists.items()
    }
    duplicates = find_duplicates(content)
    columns = {
        "row_id": pa.array(test_rows, pa.int32()),
        NO_DUPLICATES: unique_test_rows(duplicates, test_rows),
    }
    columns |= {
        f"no_{name}": ~np.isin(np.arange(len(test_rows)), indices)
        for name, indices in left_out.items()
    }
    if empty := [
        name for name, member in columns.items() if name != "row_id" and not np.any(member)
    ]:
        raise PipelineError(
            f"no test image is left in the subset {', '.join(empty)}; correct test_subsets.lists in params.yaml"
        )
    in_training = duplicates["other_split"].to_numpy(zero_copy_only=False) == "train"
    rows, identical = (
        duplicates["row_id"].to_numpy(),
        duplicates["identical"].to_numpy(zero_copy_only=False),
    )
    summary = {
        "test_images": len(test_rows),
        "like_a_training_image": len(np.unique(rows[in_training])),
        "identical_to_a_training_image": len(np.unique(rows[in_training & identical])),
        "like_an_earlier_test_image": len(np.unique(rows[~in_training])),
        **{
            f"in_{name}": int(np.sum(member))
            for name, member in columns.items()
            if name != "row_id"
        },
    }
    with replacing_folder(folder) as new:
        pq.write_table(
            pa.table(columns).replace_schema_metadata({"archive_sha256": archive_of(content)}),
            new / MEMBERSHIP,
        )
        pq.write_table(duplicates, new / DUPLICATES)
        plots.save(plots.plot_contact_sheet(contact_sheet(content, duplicates)), new / SHEET)
        write_json(new / SUMMARY, {**summary, "least_similarity": SIMILAR})
    return summary


def read_list(root: Path, listed: PublishedList, archive_sha256: str, count: int) -> np.ndarray:
    """Upstream's indices of test images (0, 1, 2, ...) from a JSON list or a text file with one a line; `#` begins a comment.

    Raises: PipelineError when the archive's row order is not upstream's, the file is missing or another one, or holds something else.
    """
    path = root / Path(listed.path).expanduser()
    if archive_sha256 != UPSTREAM_SHA256:
        raise PipelineError(
            f"{path} lists images by upstream's row order, which the archive {archive_sha256:.12} does not have "
            f"(upstream's is {UPSTREAM_SHA256:.12}); remove it from test_subsets.lists in params.yaml"
        )
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"the list {path} cannot be read ({error}); correct test_subsets.lists in params.yaml"
        ) from None
    if (found := file_digest(path, "sha256")) != listed.sha256:
        raise PipelineError(
            f"{path} has the checksum {found}, test_subsets.lists in params.yaml expects {listed.sha256}; correct either"
        )
    try:
        lines = (line.split("#")[0].strip() for line in text.splitlines())
        indices = np.array(
            json.loads(text)
            if text.lstrip().startswith("[")
            else [int(line) for line in lines if line]
        )
    except ValueError as error:
        raise PipelineError(f"{path} is not a list of row indices ({error})") from None
    if (
        indices.ndim != 1
        or indices.dtype.kind != "i"
        or not ((indices >= 0) & (indices < count)).all()
    ):
        raise PipelineError(f"{path} is not a list of row indices from 0 to {count - 1}")
    return indices


def read_subsets(folder: Path, test_rows: np.ndarray, archive_sha256: str) -> pd.DataFrame:
    """Membership of `test_rows` in each subset, a bool column a subset.

    Raises: PipelineError when the subsets were made from other test images.
    """
    table = read_table(folder / MEMBERSHIP)
    frame: pd.DataFrame = table.to_pandas().set_index("row_id")
    if archive_of(table) != archive_sha256 or not np.array_equal(frame.index, test_rows):
        raise PipelineError(
            f"{folder} was made from another test split than the predictions; materialize `test_subsets` again"
        )
    return frame
