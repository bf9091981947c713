"""Plant twenty faults, one at a time, and see whether the tests of their rooms fail.

    python benchmarks/faults.py [NUMBER ...]

Each fault is put into a copy of the checkout (a `git worktree` of HEAD), the tests named beside it are run there, and
the fault counts as caught when one of them fails. Exit code 1: one was not caught; 2: a fault no longer fits the code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Fault(NamedTuple):
    """What stands in ``file`` and what is put there, and the tests, below tests/, that are to notice it."""

    file: str
    before: str
    after: str
    tests: str


FAULTS = [
    Fault(
        "curate/base/storage.py",
        "        if is_new:\n",
        "        if not is_new:\n",
        "curate/test_settings.py curate/test_fix_files.py",
    ),
    Fault(
        "curate/jsonl/strict.py", "if len(raw) > MAX_VALUES:", "if len(raw) > MAX_VALUES**2:", "curate/test_attacks.py"
    ),
    Fault(
        "curate/schema/view.py",
        "tuple(parts) if len(parts) > 1 else ()",
        "tuple(parts) if len(parts) > 2 else ()",
        "curate/test_shape_records.py",
    ),
    Fault(
        "curate/formats/importers/alpaca.py",
        '"output", "system", "history")',
        '"output", "system")',
        "curate/importers",
    ),
    Fault(
        "curate/checks/secret.py",
        "_num_classes(match.group(1)) >= 3)",
        "_num_classes(match.group(1)) >= 4)",
        "curate/test_checks.py",
    ),
    Fault("curate/checks/runner/baseline.py", "min(", "max(", "curate/test_control_baseline.py"),
    Fault(
        "curate/similarity/split.py",
        "if len(old_splits) > 1:",
        "if len(old_splits) > 2:",
        "curate/test_split.py curate/test_splitting.py",
    ),
    Fault(
        "curate/similarity/dedupe/near.py",
        "pairs.take(pairs.scores >= threshold)",
        "pairs.take(pairs.scores > threshold)",
        "curate/test_dedupe.py",
    ),
    Fault(
        "curate/project/fold.py",
        "if len(counts) > 1 and",
        "if len(counts) > 2 and",
        "curate/test_fold.py curate/test_agreement.py",
    ),
    Fault(
        "curate/project/blind.py",
        "        return _NOTHING if self._is_open(state, question) else",
        "        return _NOTHING if False else",
        "curate/test_blind.py curate/test_label_desk.py",
    ),
    Fault(
        "curate/project/catalog/__init__.py",
        "if name in visible or row in self._unseen.states:",
        "if name in visible:",
        "curate/catalog curate/test_blind.py",
    ),
    Fault(
        "curate/sessions/labelling/queue.py",
        "            self.num_left -= 1\n",
        "",
        "curate/test_label_desk.py curate/test_label.py",
    ),
    Fault(
        "curate/tui/frame_table.py",
        "index if anchor and self._key_of(index) == anchor else None",
        "index",
        "curate/tui/test_acting.py curate/tui/test_frame_table.py",
    ),
    Fault(
        "curate/cli/validate/run.py",
        "return Exit.FINDINGS if verdict.num_failing and",
        "return Exit.FINDINGS if not verdict.num_failing and",
        "curate/test_validate.py",
    ),
    Fault(
        "train/data/rendering/conversation.py",
        "if not is_slot or (part",
        "if (part",
        "train/test_proof.py",
    ),
    Fault(
        "train/loop/checkpoint.py",
        "for name, t in saved.items()} != {",
        "for name, t in saved.items()} == {",
        "train/test_loop.py",
    ),
    Fault(
        "train/loop/fit.py",
        "if not math.isfinite(score.loss):",
        "if False:",
        "train/test_loop.py train/test_run.py train/test_attacks.py",
    ),
    Fault("train/evaluate/metrics/__init__.py", "2 * (ours & theirs)", "2 * (ours | theirs)", "train/test_metrics.py"),
    Fault(
        "train/report/stats.py",
        "(len(p_values) - rank) * p_values",
        "len(p_values) * p_values",
        "train/test_stats.py train/test_stats_oracles.py",
    ),
    Fault(
        "train/report/build.py",
        'for split in ("validation", "general"))',
        'for split in ("test", "general"))',
        "train/test_report.py train/test_report_further.py",
    ),
]


def main(numbers: list[int]) -> int:
    """Plant the faults called for, or all; return the exit code."""
    results: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkout"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(copy)], cwd=ROOT, check=True)
        try:
            for number in numbers or range(1, len(FAULTS) + 1):
                results.append(_plant(copy, number, FAULTS[number - 1]))
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(copy)], cwd=ROOT, check=True)
    print(f"{results.count(0)} of {len(results)} caught")
    return max(results)


def _plant(copy: Path, number: int, fault: Fault) -> int:
    path = copy / fault.file
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    if fault.before not in text:
        print(f"{number:2} does not fit    {fault.file}")
        return 2
    path.write_text(text.replace(fault.before, fault.after), encoding="utf-8")
    began = time.monotonic()
    # Found in the copy, not in the checkout that is installed.
    environment = os.environ | {"PYTHONPATH": str(copy)}
    try:
        tests = [f"tests/{name}" for name in fault.tests.split()]
        words = [sys.executable, "-m", "pytest", "-x", "-n", "2", "-m", "not slow", *tests]
        done = subprocess.run(words, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        path.write_text(text, encoding="utf-8")
    failed = next((line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), "")
    print(f"{number:2} {'caught' if failed else 'NOT CAUGHT':12} {fault.file}: {failed.split(' - ')[0]}"
          f" ({time.monotonic() - began:.0f} s)", flush=True)  # fmt: skip
    return 0 if failed else 1


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
