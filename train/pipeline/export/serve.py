"""What a program that serves a model sees of a record: text, and the tokens that it makes of it by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from train.data.rendering import Renderer

if TYPE_CHECKING:
    from train.data.dataset import Row


def render_texts(renderer: Renderer, row: Row) -> tuple[str, str]:
    """Return a record's prompt and its answer with the end token, as text that holds every token."""
    located = renderer.locate(row)
    return renderer.served_bos + located.prompt, located.answer


def plain_ids(renderer: Renderer, text: str) -> list[int]:
    """Return the ids that a server makes of a rendered text: nothing added, control tokens read as such."""
    return list(renderer.tokenizer(text, add_special_tokens=False).input_ids)


def ids_served_differently(renderer: Renderer, rows: Iterable[Row]) -> list[str]:
    """Return the ids of records that a server would ask in other tokens than evaluation did.

    Control tokens that stand in data are mere text in training, where the recipe allows them; a server that is sent
    such a text takes them for structure.
    """
    return [
        row.id
        for row in rows
        if (prompt := renderer.prompt(row)) is not None
        and plain_ids(renderer, render_texts(renderer, row)[0]) != prompt.ids
    ]
