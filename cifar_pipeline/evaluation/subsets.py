"""Which test images an accuracy is computed over, besides all of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from cifar_pipeline.artifacts import file_digest
from cifar_pipeline.dataset.splits import archive_of
from cifar_pipeline.dataset.table import read_table
from cifar_pipeline.errors import PipelineError
from cifar_pipeline.evaluation.duplicates import SIMILAR, find_duplicates, unique_test_rows
from cifar_pipeline.settings.data import UPSTREAM_SHA256, PublishedList

NO_DUPLICATES = "no_duplicates"
MEMBERSHIP = "subsets.parquet"
SUMMARY_KEYS = (
    "near_duplicates_of_a_training_image",
    "identical_to_a_training_image",
    "near_duplicates_of_an_earlier_test_image",
    "least_similarity",
)


@dataclass(frozen=True)
class Subsets:
    """The subsets of a table's test images, and the near-duplicates that one of them leaves out."""

    membership: pa.Table
    """`row_id` of every test image, and a bool column a subset"""
    duplicates: pa.Table
    """as `find_duplicates` returns them"""
    counts: dict[str, int]
    """of test images: all, near-duplicates by kind, and `in_<subset>`"""

    @property
    def summary(self) -> dict[str, float]:
        """The counts and the threshold that they depend on."""
        return {**self.counts, "least_similarity": SIMILAR}


def find_subsets(table: Path, lists: Mapping[str, PublishedList], root: Path) -> Subsets:
    """The subsets of `table`'s test images.

    Args:
        table: Parquet file of the data set.
        lists: published lists of test images to leave out; see `read_list`. Their paths may be
            relative to `root`.

    Raises:
        PipelineError: a list cannot be read, the table does not have upstream's row order, or a
            subset is empty.
    """
    content = read_table(table, ["upstream_split"])
    test_rows = np.flatnonzero(np.asarray(content["upstream_split"].to_pandas() == "test"))
    archive = archive_of(content)
    left_out = {
        name: read_list(root, listed, archive, len(test_rows)) for name, listed in lists.items()
    }
    duplicates = find_duplicates(table)
    members = {NO_DUPLICATES: unique_test_rows(duplicates, test_rows)} | {
        f"no_{name}": ~np.isin(np.arange(len(test_rows)), indices)
        for name, indices in left_out.items()
    }
    if empty := [name for name, member in members.items() if not member.any()]:
        raise PipelineError(
            f"no test image is left in the subset {', '.join(empty)}; "
            "correct test_subsets.lists in params.yaml"
        )
    rows = duplicates["row_id"].to_numpy()
    in_training = duplicates["other_split"].to_numpy(zero_copy_only=False) == "train"
    identical = duplicates["identical"].to_numpy(zero_copy_only=False)
    counts = {
        "test_images": len(test_rows),
        "near_duplicates_of_a_training_image": len(np.unique(rows[in_training])),
        "identical_to_a_training_image": len(np.unique(rows[in_training & identical])),
        "near_duplicates_of_an_earlier_test_image": len(np.unique(rows[~in_training])),
        **{f"in_{name}": int(member.sum()) for name, member in members.items()},
    }
    membership = pa.table({"row_id": pa.array(test_rows, pa.int32()), **members})
    return Subsets(
        membership.replace_schema_metadata({"archive_sha256": archive}),
        duplicates,
        counts,
    )


def read_list(root: Path, listed: PublishedList, archive_sha256: str, count: int) -> np.ndarray:
    """Upstream's indices of test images (0, 1, 2, ...) that a published list names.

    The file is a JSON list, or text with one index a line in which `#` begins a comment.

    Raises:
        PipelineError: the archive's row order is not upstream's, or the file is missing, is not the
            one that its checksum names, or is not a list of indices.
    """
    path = root / Path(listed.path).expanduser()
    if archive_sha256 != UPSTREAM_SHA256:
        raise PipelineError(
            f"{path} lists images by upstream's row order, which the archive "
            f"{archive_sha256:.12} does not have (upstream's is {UPSTREAM_SHA256:.12}); "
            "remove it from test_subsets.lists in params.yaml"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PipelineError(
            f"the list {path} cannot be read ({error}); correct test_subsets.lists in params.yaml"
        ) from None
    if (found := file_digest(path, "sha256")) != listed.sha256:
        raise PipelineError(
            f"{path} has the checksum {found}, but test_subsets.lists in params.yaml expects "
            f"{listed.sha256}; correct either"
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

    Raises:
        PipelineError: the subsets are missing or were made from other test images.
    """
    table = read_table(folder / MEMBERSHIP)
    frame: pd.DataFrame = table.to_pandas().set_index("row_id")
    if archive_of(table) != archive_sha256 or not np.array_equal(frame.index, test_rows):
        raise PipelineError(
            f"{folder} was made from another test split than the predictions; "
            "materialize `test_subsets` again"
        )
    return frame
