"""What a change of the code or the settings makes stale: demanded, behind DVC, and behind Dagster.

python -m benchmarks.staleness > benchmarks/results/staleness.md

In a copy of the checkout whose stages DVC has recorded, each change of tests/graph/mutations.py is
made, read by `dvc status` (after the stage `plan`) and by Dagster's code versions, and undone.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.environment import describe
from tests.graph.mutations import MUTATIONS
from tests.graph.recorded import Recorded


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Recorded(Path(folder))
        copy.complete()
        versions, rows, right = copy.code_versions(), [], 0
        for mutation in MUTATIONS:
            with mutation.applied(copy.root):
                dvc = copy.stale_for_dvc()
                now = copy.code_versions()
            dagster = {name for name in versions if versions[name] != now[name]}
            agree = dvc == dagster == mutation.stale
            right += agree
            rows.append((mutation.what, mutation.file, mutation.stale, dvc, dagster, agree))
            print(f"{mutation.what}: {'right' if agree else 'WRONG'}", file=sys.stderr, flush=True)
    print("# What a change makes stale\n")
    print(f"`python -m benchmarks.staleness` on {describe()}.\n")
    print(
        f"{len(rows)} changes, one at a time, in a graph with cnn9 and efficientnet_b0 under the "
        f"profile `smoke`; behind DVC and Dagster alike, {right} of {len(rows)} made exactly the "
        "right stages stale. Stages that follow from a stale one count once it has been made anew "
        "and come out different.\n"
    )
    print("| change | file | must be stale | stale for DVC | stale for Dagster | |")
    print("|---|---|---|---|---|---|")
    for what, file, *stages, agree in rows:
        cells = [", ".join(sorted(names)) or "none" for names in stages]
        print(f"| {what} | {file} | {' | '.join(cells)} | {'right' if agree else 'WRONG'} |")


if __name__ == "__main__":
    main()
