"""`curate rule`: what a finding's code means, and the proof of a user's own checks."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from curate.base import console
from curate.base.record import CurateError, Exit, Json, Severity
from curate.base.tables import counted
from curate.cli._output import print_json

if TYPE_CHECKING:
    from curate.checks import Check
    from curate.checks.runner.proof import Firing, Trial
    from curate.jsonl import FaultRule

# Lines that are named where a check fires.
_MAX_LOCATIONS = 5
# Codes that commands report themselves, by code, name, severity and text; every other one has a check or a row of the
# front door's table.
_OF_COMMANDS: tuple[tuple[str, str, Severity, str], ...] = (
    (
        "D302",
        "near-duplicate",
        "warning",
        """A record says nearly the same as another one, by the words that they share.

`curate dedupe` finds and shows near repeats, `curate export` leaves them out and lists them in dropped.jsonl.
`curate validate` does not look for them: it reports exact repeats alone (D301). `[dedupe]` in curate.toml says how
alike two records must be.""",
    ),
    (
        "L402",
        "annotators-disagree",
        "warning",
        """Annotators gave different answers to the same question about a record.

Every answer stays in the journal. `curate review` settles which one holds.""",
    ),
    (
        "L403",
        "edit-conflict",
        "error",
        """Two people decided on the same field of a record, or one dropped what the other edited, unseen by each other.

Both decisions stay in the journal. `curate review` settles which one holds.""",
    ),
    (
        "L406",
        "not-approved",
        "error",
        """A record waits until somebody approves what it says, as `[review]` in curate.toml asks.

The message says how many approvals are missing and who may give them. `curate approve ID` approves one, `curate approve
--where FILTER` many, and `curate label --question approval` asks about one after the other. An approval is of what the
record says: after an edit it waits again. Labels, splits and drops change nothing about that. No tolerance and no
baseline applies.""",
    ),
    (
        "L407",
        "decision-held-back",
        "warning",
        """The line of a record says something else than when people decided on it, so their decisions are held back.

A decision holds for the text that it was made about: for all of the line but the id, the category, the split, labels
and meta. A drop, a split or an edit that is held back keeps its record out of every dataset until somebody decides;
answers are asked for again. `curate review` says whether they hold for the new text. What commands rewrite themselves
(an update, a fix, applied edits) takes its decisions along.""",
    ),
    (
        "L408",
        "outdated-drop",
        "warning",
        """A record is left out as a repeat of another one, which says something else by now or is left out itself.

The drop holds until somebody looks again: `curate drop --undo` takes the record in, `curate drop` leaves it out for
another reason.""",
    ),
    (
        "L409",
        "dropped-again",
        "warning",
        """A record says, word for word, what somebody dropped under another id.

It came with another file, or the ids of a source have moved. Drop it as well, or say with `curate drop --undo` that it
stays.""",
    ),
    (
        "P506",
        "frozen-changed",
        "error",
        """A record of the frozen test set is gone, left out, or says something else than when it was frozen.

`curate validate` and `curate export` fail until the change is undone or a reason is given, which golden.json keeps:
`curate split --unfreeze REASON`, and `--freeze` afterwards.""",
    ),
    (
        "P507",
        "machine-test",
        "error",
        """A record of the test or validation split says what a model proposed, and nobody has edited or approved it.

A model would be held against the words of a model. Edit the text, approve it with `curate approve`, or drop the record.
Taking a proposal is no approval.""",
    ),
    (
        "P503",
        "stale-split",
        "warning",
        """A record and the last dataset disagree about its split, or a record is held back so that no split leaks.

Records never move from one split to another. A new record that belongs together with records of two splits is held
back: `curate split` names it, `curate export` leaves it out and lists it in dropped.jsonl.""",
    ),
    (
        "R601",
        "stale-report",
        "warning",
        """A run was trained on another dataset than the last one.

`curate report` says so. Train again on the latest dataset before you decide by its scores.""",
    ),
    (
        "R602",
        "category-got-worse",
        "warning",
        """A category scores lower after training than before, by more than chance explains.

`curate report` names it with both scores, and shows its worst records.""",
    ),
)


@click.command("rule")
@click.argument("code_or_name", required=False)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Text explains; JSON is a list of all that is known of each rule.",
)
@click.option(
    "--test",
    "test_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Run a file of own checks, and try its examples.",
)
@click.option(
    "--on",
    "clean",
    metavar="JSONL",
    type=click.Path(path_type=Path),
    help="Count where they fire among fine records.",
)
def command(code_or_name: str | None, format_: str, test_file: Path | None, clean: Path | None) -> int:
    """Explain a finding by its code or name; a prefix lists its family, and nothing lists all codes.

    With --test a Python file of your own checks is run, and each of its good and bad examples is tried: a good one must
    pass, a bad one must be reported. --on names records that are fine, on which a check should rarely fire. Exits 1
    when an example fails.

    Example: curate rule S105
    """
    if test_file:
        if code_or_name:
            raise click.UsageError("--test takes all checks of the file: leave the code out.")
        return _prove_checks(test_file, clean, is_json=format_ == "json")
    if clean:
        raise click.UsageError("--on goes with --test.")
    rules = catalogue()
    query = (code_or_name or "").lower()
    # A whole code or name comes before a prefix: S1 lists a family, S105 explains one rule.
    matches = [rule for rule in rules.values() if query in (rule.code.lower(), rule.name)]
    family = [rule for rule in rules.values() if rule.code.lower().startswith(query)]
    if format_ == "json" and (matches or family):
        print_json([_object_of(rule) for rule in matches or family], indent=2)
        return Exit.OK
    if not matches and family:
        for rule in family:
            console.data(f"{rule.code}  {rule.severity:<7}  {rule.name}")
        return Exit.OK
    if not matches:
        from difflib import get_close_matches

        near = get_close_matches(
            query, [*(code.lower() for code in rules), *(rule.name for rule in rules.values())], n=1
        )
        hint = f"Did you mean {near[0]!r}?" if near else "`curate rule` lists all."
        raise CurateError("E902 bad-settings", f"no finding has the code or name {code_or_name!r}", hint)
    rule = matches[0]
    console.data(f"{rule.code} {rule.name} ({rule.severity})\n")
    console.data(rule.help)
    _examples("Passes", rule.good)
    _examples("Is reported", rule.bad)
    return Exit.OK


def catalogue() -> Mapping[str, Check | FaultRule]:
    """Return what is known of every code that a finding may have, in the order of the codes."""
    from curate.checks import discover
    from curate.jsonl import FAULTS, FaultRule

    own = [FaultRule(*row, good=b"") for row in _OF_COMMANDS]
    return dict(sorted([*FAULTS.items(), *discover().items(), *((rule.code, rule) for rule in own)]))


def _object_of(rule: Check | FaultRule) -> dict[str, Json]:
    """Return a rule as JSON; the examples of the front door are bytes, which stand here as text where they are it."""
    examples: dict[str, Json] = {}
    for name, given in {"good": rule.good, "bad": rule.bad}.items():
        if isinstance(given, bytes):
            examples[name] = [given.decode("utf-8", "backslashreplace")] if given else []
        else:
            examples[name] = list(given)
    return {"code": rule.code, "name": rule.name, "severity": rule.severity, "help": rule.help} | examples


def _examples(title: str, examples: bytes | Sequence[Json]) -> None:
    present = [example for example in ([examples] if isinstance(examples, bytes) else examples) if example]
    if present:
        console.data(f"\n{title}:")
    for example in present:
        if isinstance(example, bytes):
            text = console.visible(example[:300].decode("utf-8", "backslashreplace").rstrip("\n").replace("\n", "\n  "))
            console.data(f"  {text}" + ("…" if len(example) > 300 else ""))
        else:
            # A dataset check's example is a list of lines.
            for line in example if isinstance(example, list) else [example]:
                console.data(f"  {console.one_line(json.dumps(line, ensure_ascii=False), 300)}")
            if isinstance(example, list):
                console.data()


# The proof of a user's own checks: their examples, and where they fire in clean records.
def _prove_checks(path: Path, clean: Path | None, *, is_json: bool) -> Exit:
    """Try the examples of every check in the file ``path``, count where they fire in ``clean``, and print both."""
    from curate.checks import discover_in
    from curate.checks.runner.proof import trials

    checks = discover_in(path)
    if not checks:
        message = f"{console.one_line(str(path), 500)} registers no check"
        hint = "Put @check of curate.checks above a function; see CONTRIBUTING.md."
        raise CurateError("E984 bad-plugin", message, hint)
    proofs = [(check, list(trials(check)), _firing(check, clean) if clean else None) for check in checks.values()]
    num_faults = sum(bool(trial.fault) for _, results, _ in proofs for trial in results)
    if is_json:
        print_json([_proof_object(*proof) for proof in proofs], indent=2)
    else:
        for proof in proofs:
            _print_proof(*proof)
    num_trials = sum(len(results) for _, results, _ in proofs)
    console.talk(f"{counted(len(proofs), 'check')}, {counted(num_trials, 'example')}, {counted(num_faults, 'fault')}")
    return Exit.FINDINGS if num_faults else Exit.OK


def _firing(check: Check, clean: Path) -> Firing:
    from curate.checks.runner import read_records
    from curate.checks.runner.proof import firing
    from curate.project.validation import guess_name
    from curate.schema import load_shape
    from curate.schema.settings import Settings

    records = read_records([clean], load_shape(guess_name([clean])))
    try:
        return firing(check, records, Settings())
    except CurateError:
        raise
    except Exception as error:
        text = console.one_line(f"{type(error).__name__}: {error}", 300)
        message = f"{check.code} cannot look at a record of {console.one_line(str(clean), 500)}: {text}"
        raise CurateError("E984 bad-plugin", message, "Fix the check.") from error


def _print_proof(check: Check, results: Sequence[Trial], rate: Firing | None) -> None:
    console.data(f"{check.code} {console.one_line(check.name, 60)} ({check.severity})")
    for trial in results:
        verdict = f"fails: {console.one_line(trial.fault, 300)}" if trial.fault else "passes"
        console.data(f"  {trial.kind} {trial.number} {verdict}")
    if rate is None:
        return
    records = counted(rate.num_records, "record")
    console.data(f"  fires on {len(rate.firings):,} of {records}: {rate.per_1000:.1f} per 1,000")
    if rate.num_unreadable:
        console.data(f"  not looked at: {counted(rate.num_unreadable, 'fault')} of lines that are no records")
    for file, line, message in rate.firings[:_MAX_LOCATIONS]:
        console.data(f"    {console.spelled(file)}:{line}: {console.one_line(message, 200)}")
    if len(rate.firings) > _MAX_LOCATIONS:
        console.data(f"    and {len(rate.firings) - _MAX_LOCATIONS:,} more")


def _proof_object(check: Check, results: Sequence[Trial], rate: Firing | None) -> dict[str, Json]:
    examples = [
        {"kind": trial.kind, "number": trial.number, "passes": not trial.fault, "fault": trial.fault}
        for trial in results
    ]
    if rate is None:
        return {"code": check.code, "name": check.name, "examples": examples, "clean": None}
    counts = {
        "records": rate.num_records,
        "unreadable": rate.num_unreadable,
        "fired": len(rate.firings),
        "per_1000": rate.per_1000,
    }
    return {"code": check.code, "name": check.name, "examples": examples, "clean": counts}
