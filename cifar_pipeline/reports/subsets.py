"""The files of the asset `test_subsets`: membership, duplicates, a summary, a contact sheet."""

from collections.abc import Mapping
from pathlib import Path

from cifar_pipeline.artifacts import replacing_folder, write_json
from cifar_pipeline.dataset.table import save_table
from cifar_pipeline.drawing.grids import plot_contact_sheet
from cifar_pipeline.drawing.style import save
from cifar_pipeline.evaluation.duplicates import similarity_bands
from cifar_pipeline.evaluation.subsets import MEMBERSHIP, find_subsets
from cifar_pipeline.reports.files import DUPLICATES
from cifar_pipeline.settings.data import PublishedList

SHEET, SUMMARY = "contact_sheet.png", "summary.json"


def write_subsets(
    table: Path, lists: Mapping[str, PublishedList], root: Path, folder: Path
) -> dict[str, int]:
    """Write the subsets of the test images to `folder`, replacing it, and return their counts.

    Args:
        table: Parquet file of the data set.
        lists: published lists of test images to leave out, with paths that may be relative to
            `root`.

    Raises:
        PipelineError: as `find_subsets` raises it; `folder` is then left as it was.
    """
    subsets = find_subsets(table, lists, root)
    with replacing_folder(folder) as new:
        save_table(subsets.membership, new / MEMBERSHIP)
        save_table(subsets.duplicates, new / DUPLICATES)
        sheet = plot_contact_sheet(similarity_bands(table, subsets.duplicates))
        save(sheet, new / SHEET)
        write_json(new / SUMMARY, subsets.summary)
    return subsets.counts
