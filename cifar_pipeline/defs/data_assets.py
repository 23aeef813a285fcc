"""The data assets: archive, table, splits, test_subsets.

Bodies only call the library, and import what is heavy themselves.
"""

from collections.abc import Iterator, Mapping

import dagster as dg

from cifar_pipeline.defs.resources import Pipeline, asset_settings, check_specs
from cifar_pipeline.defs.steps import inline
from cifar_pipeline.graph.stages import Key, Stage

Yielded = Iterator[dg.AssetCheckResult | dg.MaterializeResult]
ARCHIVE_CHECKS = {"readable": "The file is gzip; its checksum was verified when it was fetched."}
TABLE_CHECKS = {
    "counts": "There are as many training and test rows as the source's settings say, "
    "with row ids that count up from 0.",
    "label_ranges": "Fine labels reach from 0 to 99, and coarse labels from 0 to 19.",
    "hierarchy": "Each fine class has one superclass, and each superclass five fine classes.",
    "class_balance": "Every fine class has the same number of training images, and of test images.",
    "pixel_statistics": "The mean and deviation of each channel are CIFAR-100's; generated images "
    "only have to vary.",
}
SPLIT_CHECKS = {
    "no_row_in_two_splits": "Every row of the table is in one split, once.",
    "test_is_upstream_test": "The test split is upstream's test set, row for row.",
    "stratified": "The validation split holds the same share of every fine class.",
    "same_archive": "The splits and the table come from one archive.",
    "identical_across_splits": "Pixel-identical images in different splits are counted. CIFAR-100 "
    "has them, so nothing is blocked.",
}


def build_data_assets(stages: Mapping[Key, Stage]) -> list[dg.AssetsDefinition]:
    """archive → table → splits, and table → test_subsets."""
    keys = ("archive", "table", "splits", "test_subsets")
    archive_stage, table_stage, splits_stage, subsets_stage = (stages[key,] for key in keys)

    @dg.asset(
        **asset_settings(archive_stage, "data", "data"),
        kinds={"file"},
        check_specs=check_specs(archive_stage, ARCHIVE_CHECKS),
        description="cifar-100-python.tar.gz as upstream publishes it, its checksum verified; "
        "generated images under `smoke`.",
    )
    def archive(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        from cifar_pipeline.artifacts import file_digest
        from cifar_pipeline.dataset.archive import obtain_archive
        from cifar_pipeline.dataset.validation import check_archive

        with pipeline.step(context, archive_stage) as step:
            source, target = step.params.source(), step.home.archive
            fetched = obtain_archive(source, target)
            metadata = {
                "source": source.shown,
                "sha256": file_digest(target, "sha256"),
                "bytes": target.stat().st_size,
                "fetched": fetched,
            }
            yield from step.finish([check_archive(target)], metadata)

    @dg.asset(
        **asset_settings(table_stage, "data", "data"),
        kinds={"parquet", "pyarrow"},
        check_specs=check_specs(table_stage, TABLE_CHECKS),
        description="One row an image: id, upstream's split, file name, fine and coarse label with "
        "their names, and 3,072 bytes of pixels.",
    )
    def table(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        import pyarrow.parquet as pq

        from cifar_pipeline.dataset.build import build_table, write_table
        from cifar_pipeline.dataset.validation import check_table

        with pipeline.step(context, table_stage) as step:
            target = step.staged(step.home.table)
            write_table(build_table(step.home.archive), target)
            footer = pq.read_metadata(target)
            schema = footer.schema.to_arrow_schema()
            columns = [dg.TableColumn(field.name, str(field.type)) for field in schema]
            metadata = {
                "dagster/row_count": footer.num_rows,
                "dagster/column_schema": dg.TableSchema(columns),
                "bytes": target.stat().st_size,
            }
            yield from step.finish(check_table(target, step.params.source()), metadata)

    @dg.asset(
        **asset_settings(splits_stage, "data", "data"),
        kinds={"parquet", "scikitlearn"},
        check_specs=check_specs(splits_stage, SPLIT_CHECKS),
        description="Row id and split: upstream's test images, and its training images divided "
        "80/20, stratified by fine class.",
    )
    def splits(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        from cifar_pipeline.dataset.splits import build_splits, read_splits, write_splits
        from cifar_pipeline.dataset.table import read_labels
        from cifar_pipeline.dataset.validation import check_splits

        with pipeline.step(context, splits_stage) as step:
            table, settings = step.home.table, step.params.splits
            target = step.staged(step.home.splits)
            write_splits(build_splits(read_labels(table), settings), target)
            membership = read_splits(target)
            checks = check_splits(table, membership, settings)
            sizes = next(c.details for c in checks if c.name == "no_row_in_two_splits")
            metadata = {"dagster/row_count": membership.num_rows, **sizes}
            yield from step.finish(checks, metadata)

    @dg.asset(
        **asset_settings(subsets_stage, "data", "data"),
        kinds={"parquet", "opencv"},
        description="Near-duplicates of test images, a contact sheet of them, and which test image "
        "is in which subset.",
    )
    def test_subsets(context: dg.AssetExecutionContext, pipeline: Pipeline) -> Yielded:
        from cifar_pipeline.reports.subsets import SHEET, write_subsets

        with pipeline.step(context, subsets_stage) as step:
            target = step.staged(step.home.test_subsets)
            lists = step.params.test_subsets.lists
            counts = write_subsets(step.home.table, lists, step.home.root, target)
            yield from step.finish(metadata={**counts, "contact_sheet": inline(target / SHEET)})

    return [archive, table, splits, test_subsets]
