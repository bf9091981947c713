"""Rows are rendered once per machine: their examples, or the refusal, are stored by `train.base.cache`.

The key is everything that decides the result: the rows, the tokenizer, the template, the settings of the `Renderer`,
the versions of the libraries and this folder's source. The cache returns the same ids, masks, cuts, skips and refusals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.base.cache import Cache, Entry
from train.base.errors import TrainError
from train.base.storage import digest_of
from train.base.versions import installed_version, sources_digest
from train.data.rendering.examples import Examples, Rendered
from train.data.rendering.renderer import Renderer

if TYPE_CHECKING:
    from train.data.dataset import Row

_COUNTED = ("skipped", "cut", "silent", "refused", "notes")
"""What `Rendered` says of rows besides its examples."""
_LIBRARIES = ("tokenizers", "transformers", "jinja2", "numpy")


def render_cached(renderer: Renderer, rows: Sequence[Row], digest: str, cache: Cache | None) -> Rendered:
    """Return what ``renderer.examples`` returns, from the cache where it has it, and let the renderer know it.

    ``digest`` is a SHA-256 of the rows. Raises the TrainError that ``renderer.examples`` raises; a refusal is cached
    too, unless the template's child process died, which it may not do again.
    """
    if cache is None or not rows:
        return renderer.examples(rows)
    key = _key(renderer, digest)
    entry = cache.get(key)
    if entry is not None:
        rendered = _open_entry(entry)
        renderer.learn(rows, rendered)
        return rendered
    deaths = renderer.conversations.template.num_deaths
    try:
        rendered = renderer.examples(rows)
    except TrainError as error:
        if renderer.conversations.template.num_deaths == deaths:
            cache.put(key, {}, {"refusal": [error.code, error.message, error.hint, int(error.exit_code)]})
        raise
    examples = rendered.examples
    if isinstance(examples, Examples):
        counts = {name: getattr(rendered, name) for name in _COUNTED}
        cache.put(key, examples.arrays, {"names": [list(name) for name in examples.names], **counts})
        # The written arrays replace those in memory: mapped, they cost none.
        if (entry := cache.get(key)) is not None:
            rendered = _open_entry(entry)
            renderer.learn(rows, rendered)
    return rendered


def _open_entry(entry: Entry) -> Rendered:
    values: dict[str, Any] = entry.values
    if "refusal" in values:
        code, message, hint, exit_code = values["refusal"]
        raise TrainError(code, message, hint, exit_code=exit_code)
    examples = Examples(entry.arrays, values["names"])
    return Rendered(examples, **{name: values[name] for name in _COUNTED})


def _key(renderer: Renderer, digest: str) -> str:
    return digest_of({
        "rows": digest,
        "tokenizer and template": renderer.digest,
        "objective": renderer.objective,
        "max_length": renderer.max_length,
        "on_too_long": renderer.on_too_long,
        "on_unrenderable": renderer.on_unrenderable,
        "allow_special_tokens": renderer.allow_special_tokens,
        "code": sources_digest(Path(__file__).resolve().parent),
        "libraries": [installed_version(name) for name in _LIBRARIES],
    })  # fmt: skip
