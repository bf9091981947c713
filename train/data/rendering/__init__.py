"""Records -> token ids and masks, through the model's own chat template, with the token asserts of every run.

renderer = Renderer(tokenizer, "sft", max_length=512)
renderer.render(rows).examples    # what is trained
renderer.render_prompt(row)       # what is generated from; its ids are a prefix of the example's
"""

from __future__ import annotations

from train.data.dataset import RowFault
from train.data.rendering.preferences import preference_examples
from train.data.rendering.renderer import Renderer, render_cached
from train.data.rendering.tokens import Example, Examples, Rendered
