"""The data assets: archive, table, splits, test_subsets. Bodies only call the library; anything heavy is imported inside them."""

from collections.abc import Mapping

import dagster as dg

from cifar_pipeline.defs.resources import Pipeline, check_specs, code_version, finished, inline
from cifar_pipeline.defs.stages import Stage
from cifar_pipeline.settings.params import Params

OWNERS = ["team:data"]
ARCHIVE_CHECKS = {
    "readable": "The file, whose checksum was verified, is an archive of CIFAR-100, and whole."
}
TABLE_CHECKS = {
    "counts": "As many training and test rows as the source's settings say, with row ids 0, 1, 2, ...",
    "label_ranges": "Fine labels reach from 0 to 99, coarse labels to 19.",
    "hierarchy": "Each fine class has one superclass, each superclass five fine classes.",
    "class_balance": "Every fine class has the same number of training images, and of test images.",
    "pixel_statistics": "Mean and deviation of each channel are CIFAR-100's; of generated images, that they vary.",
}
SPLIT_CHECKS = {
    "no_row_in_two_splits": "Every row of the table is in one split, once.",
    "test_is_upstream_test": "The test split is upstream's test set, row for row.",
    "stratified": "Validation holds the same share of every fine class.",
    "same_archive": "Splits and table go back to one archive.",
    "identical_across_splits": "Pixel-identical images in different splits, counted. CIFAR-100 has them; nothing is blocked.",
}


def build_data_assets(
    stages: Mapping[tuple[str, ...], Stage], params: Params
) -> list[dg.AssetsDefinition]:
    """archive → table → splits, and table → test_subsets."""
    archive_stage, table_stage, splits_stage, subsets_stage = (
        stages[key,] for key in ("archive", "table", "splits", "test_subsets")
    )

    @dg.asset(
        name="archive",
        group_name="data",
        kinds={"file"},
        owners=OWNERS,
        code_version=code_version(archive_stage, params),
        check_specs=check_specs(archive_stage, ARCHIVE_CHECKS),
        description="cifar-100-python.tar.gz as upstream publishes it, its checksum verified (generated under `smoke`).",
    )
    def archive(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.artifacts import file_digest
        from cifar_pipeline.dataset.archive import obtain_archive
        from cifar_pipeline.dataset.validation import check_archive

        with pipeline.step(context) as (home, active):
            written = obtain_archive(active.source(), home.archive)
            readable = check_archive(home.archive)
        metadata = {
            "source": active.source().shown,
            "sha256": file_digest(home.archive, "sha256"),
            "bytes": home.archive.stat().st_size,
            "fetched": written,
            "profile": active.profile,
        }
        return finished(archive_stage, [readable], metadata)

    @dg.asset(
        name="table",
        deps=[archive],
        group_name="data",
        kinds={"parquet", "pyarrow"},
        owners=OWNERS,
        code_version=code_version(table_stage, params),
        check_specs=check_specs(table_stage, TABLE_CHECKS),
        description="One row an image: id, upstream split, file name, fine and coarse label with names, 3,072 bytes of pixels.",
    )
    def table(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.dataset.build import build_table, write_table
        from cifar_pipeline.dataset.table import read_table
        from cifar_pipeline.dataset.validation import check_table

        with pipeline.step(context) as (home, active):
            write_table(build_table(home.archive), home.table)
            content = read_table(home.table)
            checks = check_table(content, active.source())
        columns = [dg.TableColumn(field.name, str(field.type)) for field in content.schema]
        metadata = {
            "dagster/row_count": content.num_rows,
            "dagster/column_schema": dg.TableSchema(columns),
            "bytes": home.table.stat().st_size,
        }
        return finished(table_stage, checks, metadata)

    @dg.asset(
        name="splits",
        deps=[table],
        group_name="data",
        kinds={"parquet", "scikitlearn"},
        owners=OWNERS,
        code_version=code_version(splits_stage, params),
        check_specs=check_specs(splits_stage, SPLIT_CHECKS),
        description="Row id and split: upstream's test images, and its training images divided 80/20, stratified by fine class.",
    )
    def splits(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.dataset.splits import build_splits, write_splits
        from cifar_pipeline.dataset.table import read_table
        from cifar_pipeline.dataset.validation import check_splits

        with pipeline.step(context) as (home, active):
            content = read_table(home.table)
            write_splits(build_splits(content, active.splits), home.splits)
            membership = read_table(home.splits)
            checks = check_splits(content, membership, active.splits)
        sizes = next(check.details for check in checks if check.name == "no_row_in_two_splits")
        return finished(splits_stage, checks, {"dagster/row_count": membership.num_rows, **sizes})

    @dg.asset(
        name="test_subsets",
        deps=[table],
        group_name="data",
        kinds={"parquet", "opencv"},
        owners=OWNERS,
        code_version=code_version(subsets_stage, params),
        description="Near-duplicates among the test images, a contact sheet of them, and the subsets.",
    )
    def test_subsets(context: dg.AssetExecutionContext, pipeline: Pipeline) -> dg.MaterializeResult:
        from cifar_pipeline.reports.subsets import SHEET, write_subsets

        with pipeline.step(context) as (home, active):
            counts = write_subsets(
                home.table, active.test_subsets.lists, home.root, home.test_subsets
            )
        return finished(
            subsets_stage, metadata={**counts, "contact_sheet": inline(home.test_subsets / SHEET)}
        )

    return [archive, table, splits, test_subsets]
