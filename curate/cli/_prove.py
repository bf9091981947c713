"""`curate rule --test`: the proof of a user's own checks, as ours carry it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from curate.base import console
from curate.base.record import CurateError, Exit, Json
from curate.base.tables import counted
from curate.checks import Check, discover_in
from curate.checks.runner import read_records
from curate.checks.runner.proof import Firing, Trial, firing, trials
from curate.cli._output import print_json
from curate.project.validation import guess_name
from curate.schema import load_shape
from curate.schema.settings import Settings

# Lines that are named where a check fires.
_MAX_LOCATIONS = 5


def prove_checks(path: Path, clean: Path | None, *, is_json: bool) -> Exit:
    """Try the examples of every check in the file ``path``, count where they fire in ``clean``, and print both."""
    checks = discover_in(path)
    if not checks:
        message = f"{console.one_line(str(path), 500)} registers no check"
        hint = "Put @check of curate.checks above a function; see CONTRIBUTING.md."
        raise CurateError("E984 bad-plugin", message, hint)
    proofs = [(check, list(trials(check)), _firing(check, clean) if clean else None) for check in checks.values()]
    num_faults = sum(bool(trial.fault) for _, results, _ in proofs for trial in results)
    if is_json:
        print_json([_object_of(*proof) for proof in proofs], indent=2)
    else:
        for proof in proofs:
            _print(*proof)
    num_trials = sum(len(results) for _, results, _ in proofs)
    console.talk(f"{counted(len(proofs), 'check')}, {counted(num_trials, 'example')}, {counted(num_faults, 'fault')}")
    return Exit.FINDINGS if num_faults else Exit.OK


def _firing(check: Check, clean: Path) -> Firing:
    records = read_records([clean], load_shape(guess_name([clean])))
    try:
        return firing(check, records, Settings())
    except CurateError:
        raise
    except Exception as error:
        text = console.one_line(f"{type(error).__name__}: {error}", 300)
        message = f"{check.code} cannot look at a record of {console.one_line(str(clean), 500)}: {text}"
        raise CurateError("E984 bad-plugin", message, "Fix the check.") from error


def _print(check: Check, results: Sequence[Trial], rate: Firing | None) -> None:
    console.data(f"{check.code} {console.one_line(check.name, 60)} ({check.severity})")
    for trial in results:
        verdict = f"fails: {console.one_line(trial.fault, 300)}" if trial.fault else "passes"
        console.data(f"  {trial.kind} {trial.number} {verdict}")
    if rate is None:
        return
    records = counted(rate.num_records, "record")
    console.data(f"  fires on {len(rate.places):,} of {records}: {rate.per_1000:.1f} per 1,000")
    if rate.num_unreadable:
        console.data(f"  not looked at: {counted(rate.num_unreadable, 'fault')} of lines that are no records")
    for file, line, message in rate.places[:_MAX_LOCATIONS]:
        console.data(f"    {console.spelled(file)}:{line}: {console.one_line(message, 200)}")
    if len(rate.places) > _MAX_LOCATIONS:
        console.data(f"    and {len(rate.places) - _MAX_LOCATIONS:,} more")


def _object_of(check: Check, results: Sequence[Trial], rate: Firing | None) -> dict[str, Json]:
    examples = [
        {"kind": trial.kind, "number": trial.number, "passes": not trial.fault, "fault": trial.fault}
        for trial in results
    ]
    if rate is None:
        return {"code": check.code, "name": check.name, "examples": examples, "clean": None}
    counts = {
        "records": rate.num_records,
        "unreadable": rate.num_unreadable,
        "fired": len(rate.places),
        "per_1000": rate.per_1000,
    }
    return {"code": check.code, "name": check.name, "examples": examples, "clean": counts}
