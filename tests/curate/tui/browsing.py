"""A support desk's records, and finding one's way in Browse, for tests of that screen."""

from __future__ import annotations

from typing import Any

from curate.project.data import ProjectData, load_data
from curate.tui.frame_table import FrameTable

SETTINGS = """[split]
seed = 1
[checks]
min_category = 0
[[label.questions]]
name = "quality"
ask = "How good is the answer?"
values = ["good", "bad"]
guide = { good = "as it should be" }
[[label.questions]]
name = "why"
"""


def lines() -> list[dict[str, Any]]:
    """Return records as a support desk would have them."""
    asked = [
        "I was charged twice for order A-17.", "Refund not received after 14 days, can you check?",
        "Where do I see my invoice?", "The parcel arrived broken.", "Refund for a cancelled order, please.",
        "Can I pay by bank transfer?", "Change the card on file.",
    ]  # fmt: skip
    return [
        {
            "id": f"ex-{number:03}",
            "instruction": asked[number % len(asked)] + (f" Ticket {number}." if number >= len(asked) else ""),
            "output": f"Thank you, we look into ticket {number} and write to you today.",
            "category": "returns" if number % 3 == 0 else "billing",
            "meta": {"source": "zendesk", "lang": "en"},
        }
        for number in range(40)
    ]


def shown(app: Any) -> list[str]:
    """Return the ids in the table."""
    table = app.screen.query_one("#rows", FrameTable)
    return [row[0] for row in table.source[:]]


async def browse(pilot: Any, settled: Any, *keys: str) -> None:
    await pilot.press("g", "b", *keys)
    await settled(pilot)


async def type_filter(pilot: Any, settled: Any, text: str) -> None:
    await pilot.press("slash")
    field = pilot.app.screen.query_one("#filter")
    field.value = text
    await pilot.pause(0.3)
    await settled(pilot)
    await pilot.press("enter")


def reopened(workspace: ProjectData) -> ProjectData:
    return load_data(workspace.root)
