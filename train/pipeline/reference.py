"""What the model that training begins from gives the texts of preferences: read once, and cached by content.

No step has to read them again, with adapters or without, and no second model lies in memory.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from train.base import console
from train.base.cache import open_cache
from train.base.storage import digest_of
from train.data.rendering import Example, PreferenceExample
from train.model import computing
from train.model.loss import nll_per_example
from train.pipeline.base_results import key_of
from train.pipeline.prepare import Prepared
from train.recipe import PREFERENCES

if TYPE_CHECKING:
    import torch


def reference_logps(model: Any, prepared: Prepared) -> torch.Tensor | None:
    """Return the log-probabilities of both texts of each training record, [records, 2] in nats, on the CPU.

    None where no reference is needed. ``model`` is the one that training begins from; replayed text has zeros. Each
    rank reads a part, and gets all.
    """
    import numpy as np
    import torch

    if prepared.objective not in PREFERENCES or prepared.objective == "orpo":
        return None
    examples, context, recipe = prepared.steps.examples, prepared.context, prepared.recipe
    texts = [(index, part) for index, example in enumerate(examples) if not example.is_replay for part in (0, 1)]
    key, cache = _key(prepared), open_cache()
    entry = cache.get(key) if cache is not None and context.is_first else None
    known = context.broadcast_object(None if entry is None else np.array(entry.arrays["logps"]))
    if known is None:
        console.talk(f"reading {len(texts):,} answers with the model that training begins from")
        mine = texts[context.rank :: context.world_size]
        with computing(prepared.device, prepared.dtype):
            parts = [_text(examples[index], part) for index, part in mine]
            nlls = nll_per_example(model, parts, batch_tokens=recipe.eval.batch_tokens)
        read = dict(pair for some in context.gather([(where, -nll.nll) for where, nll in zip(mine, nlls, strict=True)])
                    for pair in some)  # fmt: skip
        known = np.array([[read.get((index, part), 0.0) for part in (0, 1)] for index in range(len(examples))])
        if cache is not None and context.is_first:
            cache.put(key, [{"logps": known}], {})
    return torch.from_numpy(known).float()


def _text(example: Example, part: int) -> Example:
    assert isinstance(example, PreferenceExample), "its objective compares answers"
    return example.parts[part]


def _key(prepared: Prepared) -> str:
    # Everything that a base's results depend on, and the texts; not the order of the steps, but that of the records.
    hashed = hashlib.sha256()
    for example in prepared.steps.examples:
        hashed.update(repr((example.ids, example.mask)).encode())
    return digest_of(key_of(prepared) | {"texts": hashed.hexdigest()})
