"""Settings that ask something of each record, for tests of the Label screen."""

from __future__ import annotations

# A guide, and values of one key each.
TWO_QUESTIONS = """
[split]
seed = 1
[label]
overlap = 1.0
guide = "guide.md"
[[label.questions]]
name = "topic"
ask = "What is it about?"
values = ["billing", "returns", "shipping", "account"]
guide = {returns = "they want to send it back"}
[[label.questions]]
name = "quality"
values = ["good", "ok", "poor"]
"""
# More values than there are keys.
MANY = f"""
[split]
seed = 1
[[label.questions]]
name = "intent"
values = {[f"intent {number:02}" for number in range(25)]}
"""
# An answer in one's own words.
FREE = '[split]\nseed = 1\n[[label.questions]]\nname = "why"\n'
