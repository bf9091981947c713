"""The keys of the Label screen."""

from __future__ import annotations

from typing import Any

from textual.binding import Binding

from curate.tui.screens.label.rendering import KEYS

_HEAD = "1-9,0"


def _value(index: int, key: str) -> Binding:
    is_first = index == 0
    word = "Label" if is_first else f"Value {index + 1}"
    return Binding(
        key, f"choose({index})", word, show=is_first, key_display=_HEAD if is_first else None,
        id=f"label.value_{index + 1}",
    )  # fmt: skip


BINDINGS: list[Any] = [
    *(_value(index, key) for index, key in enumerate(KEYS)),
    Binding("a", "accept", "Accept *", id="label.accept"),
    Binding("s,space", "skip", "Skip", id="label.skip"),
    Binding("f", "flag", "Flag", id="label.flag"),
    Binding("backspace", "app.undo", "Undo", id="label.undo", key_display="u"),
    Binding("n", "move(1)", "Move", id="label.next", key_display="n/p"),
    Binding("p,N", "move(-1)", "Previous record", id="label.previous", show=False),
    Binding("c", "type('note')", "Note", id="label.note"),
    Binding("i", "guide", "Guide", id="label.guide"),
    Binding("slash", "type('value')", "Find a value", id="label.find", show=False),
    Binding("x", "reject", "Reject suggestion", id="label.reject", show=False),
    Binding("m", "several", "Several values", id="label.several", show=False),
    Binding("enter", "save_several", "Save several", id="label.save_several", show=False),
    Binding("plus", "quality(0)", "Quality: first value", id="label.quality_1", show=False),
    Binding("equals_sign", "quality(1)", "Quality: second value", id="label.quality_2", show=False),
    Binding("minus", "quality(2)", "Quality: third value", id="label.quality_3", show=False),
    Binding("o", "order", "Order", id="label.order", show=False),
    Binding("w", "question", "Next question", id="label.question", show=False),
    Binding("t", "all", "All records", id="label.all", show=False),
    Binding("v", "review", "Review", id="label.review", show=False),
    Binding("e", "edit", "Edit", id="label.edit", show=False),
    Binding("tab", "pane", "Other pane", id="label.pane", show=False),
    Binding("j,down", "scroll(1)", "Down", id="label.down", show=False),
    Binding("k,up", "scroll(-1)", "Up", id="label.up", show=False),
    Binding("ctrl+d,pagedown", "scroll(10)", "Page down", id="label.page_down", show=False),
    Binding("ctrl+u,pageup", "scroll(-10)", "Page up", id="label.page_up", show=False),
]
HELP = """\
One key answers and the next record comes; nothing asks whether you are sure, `u` takes back. `s` skips: the record
comes again when no others are left. What others answered is hidden until you have answered.

With more than ten values, or none, `/` finds or types one. `m` lets several values be an answer: keys mark, `enter`
saves. `+ = -` answer the question called *quality* beside. Flags and notes are kept as answers to *flag* and *note*.

`o` changes the order, `w` the question, `t` asks about records whose line has an answer already, `v` shows what was
answered differently and what was decided apart; there a key settles. The model behind `*` learns from the answers
in a process of its own, and judges no record by an answer to it.
"""
CSS = """
LabelScreen #session { width: 66%; }
LabelScreen.-narrow #session { width: 1fr; }
LabelScreen #session Panel { height: auto; padding: 0 1; }
LabelScreen #session TitleRule { padding: 0; }
LabelScreen #session #head { height: 2; }
LabelScreen #record { height: 1fr; padding: 0 1; }
LabelScreen #session #choices { max-height: 9; }
LabelScreen #session #last { max-height: 2; }
LabelScreen.-narrow #session #last { max-height: 1; }
LabelScreen #line { display: none; }
LabelScreen.-typing #line { display: block; }
"""
