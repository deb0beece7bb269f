"""Two evaluations of the same samples, compared pair by pair: most of the spread over materials cancels."""

from dataclasses import replace
from pathlib import Path

from neuropbr_core.errors import DataError
from neuropbr_core.evaluation.groups import Group, compare_rows, group_tables
from neuropbr_core.evaluation.metrics import Row
from neuropbr_core.evaluation.summary import EvaluationRecord, load_record

ALL = "all"
"""Table of the one group that has every sample."""
OTHER = "other evaluation"
"""Name that takes the place of a baseline's."""


def compare_with(record: EvaluationRecord, path: Path) -> EvaluationRecord:
    """Add the comparison with another evaluation to a record.

    Args:
        record: An evaluation.
        path: `evaluation.json` of another one; of a run, `summary.json` will do.

    Returns:
        The record with `other` and `comparison`.

    Raises:
        DataError: The file is no evaluation, or both have no sample in common.
    """
    other = load_record(path)
    rows = {(row.sample, row.views): row for row in other.per_sample}
    paired: list[Row] = []
    differing: list[str] = []
    for row in record.per_sample:
        twin = rows.get((row.sample, row.views))
        if twin is None:
            continue
        # Names such as sample_0000 are in every dataset; pairs are of the same photos.
        if twin.material != row.material or twin.photos != row.photos:
            differing.append(row.sample)
            continue
        paired.append(replace(row, baselines={OTHER: twin.values}))
    if differing:
        raise DataError(
            f"{path}: shows other photos under the names of {len(differing)} samples, such as {differing[0]}; only "
            "evaluations of the same dataset can be compared"
        )
    if not paired:
        raise DataError(
            f"{path}: has no sample in common with this evaluation; score the same --data with the same --views"
        )
    tables: dict[str, dict[str, Group]] = {}
    usual = [row for row in paired if row.views == record.views]
    if usual:
        tables[ALL] = {f"{len(usual)} of {record.samples} samples": compare_rows(usual)}
    for table, groups in group_tables(paired, record.views).items():
        # A table with one group would repeat the first one.
        if len(groups) > 1:
            tables[table] = groups
    return replace(record, other=str(path), comparison=tables)
