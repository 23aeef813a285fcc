"""A change of the code or the settings makes exactly the right stages stale, behind DVC and Dagster
alike. The whole table is printed by `python -m benchmarks.staleness`."""

import shutil

import pytest

from tests.graph.mutations import BY_VALUE, MUTATIONS
from tests.graph.recorded import Recorded


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return Recorded(tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def before(recorded):
    return recorded.plans()


@pytest.mark.parametrize(
    "mutation", [m for m in MUTATIONS if m.what != BY_VALUE], ids=lambda mutation: mutation.what
)
def test_exactly_the_right_stages_get_another_plan(recorded, before, mutation):
    with mutation.applied(recorded.root):
        after = recorded.plans()
    assert {name for name in before if before[name] != after[name]} == mutation.stale


def test_every_change_still_finds_what_it_replaces(recorded):
    """One of them is made by the slow test alone, and would be missed here."""
    for mutation in MUTATIONS:
        with mutation.applied(recorded.root):
            pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "index",
    [0, *(pytest.param(index, marks=pytest.mark.nightly) for index in (6, 19))],
    ids=lambda index: MUTATIONS[index].what,
)
def test_dvc_and_dagster_agree_with_the_plan(recorded, index):
    """A few of them through both doors' own commands."""
    if not recorded.is_complete:
        recorded.complete()
    mutation, versions = MUTATIONS[index], recorded.code_versions()
    assert recorded.stale_for_dvc() == set()
    with mutation.applied(recorded.root):
        assert recorded.stale_for_dvc() == mutation.stale
        changed = recorded.code_versions()
    assert {name for name in versions if versions[name] != changed[name]} == mutation.stale


def test_a_file_that_a_stage_reads_cannot_hide(recorded, before):
    """The list of files that count is not kept by hand: whatever is named in the code is found."""
    template = recorded.root / "cifar_pipeline/drawing/templates/page.html.j2"
    shutil.copy(template, template.with_name("kept.j2"))
    template.write_text(template.read_text() + "\n<!-- more -->\n")
    after = recorded.plans()
    shutil.move(template.with_name("kept.j2"), template)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"report@cnn9", "report@efficientnet_b0", "leaderboard", "ledger"}
