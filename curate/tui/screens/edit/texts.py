"""What the Edit screen says of the record that is open, and where there is no form to show."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from curate.base.record import Finding
from curate.sessions.edits import EditSession
from curate.tui.border import safe_text

_MOST_DRAFTS = 8
_SIGNS = {"error": ("! error ", "error"), "warning": ("~ warn ", "warn")}

HELP = """
Each field is one value of the record; `tab` goes to the next. What is wrong stands under its field, and nothing is
saved until nothing is. What you type is kept as a draft in `.curate/drafts` from one second to the next.

A card (`- 1 user`) takes letters while it has the focus: `enter` opens and closes it, `a` adds one, `K` and `J` move
it, `x` takes it out. `f8` leaves out the key with the focus; of what may be null, null comes first. `f3` or `ctrl+z`
takes back what you typed. A field of short texts parts them by commas. Characters that a terminal must not see stand as
`<U+202E>`: typed so in such a field, they are the character. What no field can show, because its schema allows several
forms of it or does not say, stands as JSON, with the same checks.

`f4` hands the whole record to your own editor as JSON. Records above 256 KB can be edited only there, and lines that
are no JSON. A line that is no record yet, opened from Validate, is saved into its file; no undo takes that back.
"""


def title(edit: EditSession | None, schema: str) -> Text:
    """Return the line above the form."""
    text = Text.assemble((" FORM  ", "strong"), "schema ", safe_text(schema, 30))
    if edit is None:
        return text
    state = ("  edited", "warn") if edit.is_changed else ("", "")
    if edit.is_new and not edit.is_line:
        return Text.assemble(text, "   a new record", state)
    what = "line " if edit.is_line else "record "
    return Text.assemble(text, "   ", what, safe_text(edit.name, 40, style="accent"), state)


def finding_text(finding: Finding, pointer: str) -> Text:
    """Return what is wrong with the record that was opened for it, where, and what can be done about it."""
    sign, style = _SIGNS.get(finding.severity, ("  info ", ""))
    where = (
        Text.assemble(("in ", "muted"), safe_text(pointer, 80, "accent")) if pointer else Text("about the whole record")
    )
    fix = Text.assemble("   ", safe_text(finding.fix, 300)) if finding.fix else Text("")
    head = Text.assemble(" ", (sign, style), (f"{finding.code} {finding.name}", "strong"), "  ")
    return Text.assemble(head, safe_text(finding.message, 400), "\n   ", where, fix)


def fixed_text(finding: Finding) -> Text:
    """Return that what the record was opened for is no longer wrong."""
    return Text.assemble(" ", ("ok ", "ok"), (f"{finding.code} {finding.name}", "strong"), "  is no longer found")


def without_form(edit: EditSession) -> Text:
    """Return why the record that is open has no form, and what can be done."""
    if not edit.text:
        return Text("This record is larger than 256 KB. Edit it in your own editor: f4.\n", "warn")
    left = "What your editor left is no JSON yet. It is kept as a draft; f4 goes back to it.\n"
    unread = "The line is no JSON. f4 opens it in your own editor.\n"
    why = Text(unread if edit.is_line and not edit.is_changed else left, "warn")
    return Text.assemble(why, safe_text(edit.take(edit.text)[0], 200))


def nothing_open(drafts: Sequence[str]) -> Text:
    """Return what can be opened; ``drafts`` are the names of records that have one, the newest first."""
    text = Text("n  new record      : and its id, or e in Browse, opens one\n")
    if drafts:
        text.append("\no  goes on with the newest of your drafts:\n")
    for name in drafts[:_MOST_DRAFTS]:
        text.append_text(Text.assemble("   ", safe_text(name, 60), "\n"))
    return text
