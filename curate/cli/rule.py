"""`curate rule`: what a finding's code means."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from curate import say
from curate.record import CurateError, Json


@click.command("rule")
@click.argument("code_or_name", required=False)
def command(code_or_name: str | None) -> None:
    """Explain a check by its code or name; a prefix lists its family, and nothing lists all checks.

    Example: curate rule S105
    """
    from curate.checks import Check, discover
    from curate.door import FAULTS, Fault

    rules: dict[str, Fault | Check] = dict(sorted([*FAULTS.items(), *discover().items()]))
    asked = (code_or_name or "").lower()
    found = [rule for rule in rules.values() if asked in (rule.code.lower(), rule.name)]
    family = [rule for rule in rules.values() if rule.code.lower().startswith(asked)]
    if not found and family:
        for rule in family:
            say.data(f"{rule.code}  {rule.severity:<7}  {rule.name}")
        return
    if not found:
        from difflib import get_close_matches

        near = get_close_matches(
            asked, [*(code.lower() for code in rules), *(rule.name for rule in rules.values())], n=1
        )
        hint = f"Did you mean {near[0]!r}?" if near else "`curate rule` lists all."
        raise CurateError("E902 bad-settings", f"there is no check {code_or_name!r}", hint)
    rule = found[0]
    say.data(f"{rule.code} {rule.name} ({rule.severity})\n")
    say.data(rule.help)
    _examples("Passes", rule.good)
    _examples("Is reported", rule.bad)


def _examples(title: str, examples: bytes | Sequence[Json]) -> None:
    shown = [example for example in ([examples] if isinstance(examples, bytes) else examples) if example]
    if shown:
        say.data(f"\n{title}:")
    for example in shown:
        if isinstance(example, bytes):
            text = say.visible(example[:300].decode("utf-8", "backslashreplace").rstrip("\n").replace("\n", "\n  "))
            say.data(f"  {text}" + ("…" if len(example) > 300 else ""))
        else:
            # A dataset check's example is a list of lines.
            for line in example if isinstance(example, list) else [example]:
                say.data(f"  {say.one_line(json.dumps(line, ensure_ascii=False), 300)}")
            if isinstance(example, list):
                say.data()
