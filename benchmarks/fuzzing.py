"""Whether any archive, pickle or file of settings crashes its reader, hangs it or escapes from it.

python -m benchmarks.fuzzing --target {archive,pickle,params,recipes} --minutes 10

It needs Linux and atheris, a coverage-guided fuzzer that is in no lock: `pip install atheris`. What
a run finds stays with its corpus in the folder that `--folder` names, and a later run goes on from
there; `--input FILE` reads one file of it again. A reader may refuse an input with PipelineError
alone. Any other exception is a finding, as are ten seconds for one input, a gigabyte of memory,
and a process, a connection or a written file that an input brought about.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TARGETS = ("archive", "pickle", "params", "recipes")
SECONDS, MEGABYTES = 10, 1000
LARGEST = 16_384  # bytes of an input


def command(target: str, folder: Path, minutes: float, file: Path | None) -> list[str]:
    """What fuzzes a target, or reads one input, in a process of its own: libFuzzer ends it."""
    corpus, findings = folder / target / "corpus", folder / target / "findings"
    for place in (corpus, findings):
        place.mkdir(parents=True, exist_ok=True)
    limits = [f"-timeout={SECONDS}", f"-rss_limit_mb={MEGABYTES}", f"-max_len={LARGEST}"]
    rest = [f"-artifact_prefix={findings}/", "-print_final_stats=1"]
    how = [str(file)] if file else [f"-max_total_time={round(60 * minutes)}", str(corpus)]
    return [sys.executable, "-m", "benchmarks.fuzzed", target, *limits, *rest, *how]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir(), "fuzzing"))
    parser.add_argument("--input", type=Path)
    given = parser.parse_args()
    called = command(given.target, given.folder, given.minutes, given.input)
    with subprocess.Popen(
        called, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout
        lines = []
        for line in process.stdout:
            print(line, end="", file=sys.stderr)
            lines.append(line)
    said = "".join(lines)
    done, memory = (
        int(found[1]) if (found := re.search(rf"stat::{name}:\s+(\d+)", said)) else 0
        for name in ("number_of_executed_units", "peak_rss_mb")
    )
    seconds = int(found[1]) if (found := re.search(r"Done \d+ runs in (\d+) second", said)) else 0
    verdict = "a finding" if process.returncode else "no finding"
    print(f"| {given.target} | {done:,} | {seconds / 60:.1f} | {memory} | {verdict} |")
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
