"""Records -> token ids and masks, through the model's own chat template, with the token asserts of every run.

    renderer = Renderer(tokenizer, "sft", max_length=512)
    renderer.examples(rows).examples    # what is trained
    renderer.prompt(row)                # what is generated from; its ids are a prefix of the example's

The mask is found by differencing (spans.py) and, where the template has {% generation %} blocks, checked against them.
"""

from __future__ import annotations

from train.render.cached import render_cached
from train.render.example import Example, Prompt, Rendered
from train.render.examples import Examples
from train.render.faults import RowFault
from train.render.renderer import DEFAULT_TEMPLATE, Renderer
from train.render.turns import Located

__all__ = [
    "DEFAULT_TEMPLATE",
    "Example",
    "Examples",
    "Located",
    "Prompt",
    "Rendered",
    "Renderer",
    "RowFault",
    "render_cached",
]
