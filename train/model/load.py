"""Load a base that passed the safety check, and choose device, number format and threads for it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from train.base import console
from train.base.errors import Exit, TrainError, first_line
from train.model.cores import free_cores, usable_cores
from train.model.find import find_base
from train.model.gguf import check_gguf
from train.model.quantised import check_can_quantise, check_quantised, four_bit_arguments
from train.model.safety import check_folder
from train.model.tokens import add_tokens, name_tokens
from train.recipe import Recipe

if TYPE_CHECKING:
    import torch

SMALL_MODEL = 20_000_000


def load_base(
    name: str, *, device: str = "auto", folder: Path | None = None, four_bits: torch.dtype | None = None,
    new_tokens: Sequence[str] = (),
) -> tuple[Any, Any]:  # fmt: skip
    """Return (model in float32 on its device, fast tokenizer with a padding token) of a folder, .gguf file or hub id.

    ``four_bits``: keep its matrices in 4 bits, with products in that format; see `check_can_quantise`. ``new_tokens``
    are added to both. Code that a model brings is never run. Raises TrainError "E921 bad-model", "E926 no-such-base",
    or "E940 missing-extra" where a .gguf file needs the gguf package.
    """
    # Imports torch.
    from train.model.compute import optimize_for_device

    path = find_base(name, folder)
    where = pick_device(device)
    if path.is_file() and four_bits is not None:
        raise TrainError("E920 bad-recipe", f"{path}: lora.quantize needs whole weights, not those of a .gguf file",
                         "take the base as a folder in Hugging Face format")  # fmt: skip
    path, arguments = _checked(path, needs="weights")
    model, tokenizer = _load(path, arguments, {} if four_bits is None else four_bit_arguments(where, four_bits))
    if four_bits is not None:
        check_quantised(model)
    _prepare(model, tokenizer, path)
    model = optimize_for_device(model if four_bits is not None else model.to(where))
    add_tokens(model, tokenizer, new_tokens)
    return model, tokenizer


def load_tokenizer(name: str, *, folder: Path | None = None, new_tokens: Sequence[str] = ()) -> tuple[Any, list[int]]:
    """Return the tokenizer of a base as `load_base` does, and the end tokens that its config names; no weight is read.

    A folder that holds a tokenizer alone will do. Code that a model brings is never run. Raises TrainError as
    `load_base` does.
    """
    # transformers takes seconds to import; commands that need no tokenizer do without.
    from transformers import AutoTokenizer

    path, arguments = _checked(find_base(name, folder), needs="tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True, **arguments)
    except Exception as error:
        # The border to libraries, as in `_load`.
        raise _not_loaded(path, arguments, error, "is it the folder of a model, with its tokenizer.json?") from error
    _give_padding(tokenizer)
    name_tokens(tokenizer, new_tokens)
    # As transformers does for a loaded model: without a generation config the config decides.
    files = [file for name in ("generation_config.json", "config.json") if (file := path / name).is_file()]
    ends = json.loads(files[0].read_bytes()).get("eos_token_id") if files else None
    return tokenizer, [end for end in _as_list(ends) if type(end) is int]


def read_length(name: str, *, folder: Path | None = None) -> int | None:
    """Return how many positions a base has, None where its config names no limit; no weight is read.

    Raises TrainError as `load_base` does.
    """
    from transformers import AutoConfig

    path, arguments = _checked(find_base(name, folder), needs="config")
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True, **arguments)
    except Exception as error:
        # The border to libraries, as in `_load`.
        raise _not_loaded(path, arguments, error, "is it the folder of a model, with its config.json?") from error
    reads = getattr(config, "max_position_embeddings", None)
    return reads if type(reads) is int else None


def _checked(path: Path, *, needs: Literal["weights", "config", "tokenizer"]) -> tuple[Path, dict[str, Any]]:
    """Return the folder to load a base from, after checking it, and the arguments that a .gguf file needs."""
    if path.is_file():
        check_gguf(path)
        return path.parent, {"gguf_file": path.name}
    if needs != "tokenizer":
        if (path / "adapter_config.json").exists():
            raise TrainError(
                "E921 bad-model", f"{path} is an adapter, not a base", "train export merges an adapter into its base"
            )
        if not (path / "config.json").is_file():
            raise TrainError(
                "E921 bad-model", f"{path} has no config.json", "a base is a folder in Hugging Face format"
            )
    check_folder(path, needs_weights=needs == "weights")
    if needs != "tokenizer":
        _check_type(path)
    return path, {}


def _not_loaded(path: Path, arguments: Mapping[str, Any], error: Exception, hint: str) -> TrainError:
    path = path / arguments.get("gguf_file", "")
    return TrainError("E921 bad-model", f"{path} cannot be loaded: {first_line(error)}", hint)


def _load(path: Path, arguments: dict[str, Any], quantisation: dict[str, Any]) -> tuple[Any, Any]:
    # torch and transformers take seconds to import; commands that need no model do without.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    # Its warnings speak of missing weights, which are refused below with their names.
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True, **arguments)
        model, report = AutoModelForCausalLM.from_pretrained(
            path, trust_remote_code=False, local_files_only=True, dtype=torch.float32, attn_implementation="sdpa",
            output_loading_info=True, **({} if arguments else {"use_safetensors": True}), **arguments, **quantisation,
        )  # fmt: skip
    except Exception as error:
        # The border to libraries, which raise anything over a hostile file; tokenizers raises Exception itself.
        raise _not_loaded(path, arguments, error, "is it a causal language model?") from error
    finally:
        logging.set_verbosity(verbosity)
    missing = sorted(report.get("missing_keys", ())) + sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing:
        raise TrainError("E921 bad-model", f"{path}: weights that the config asks for are not there: "
                         + console.join_names(missing, 3), "copy the model again")  # fmt: skip
    return model, tokenizer


def _prepare(model: Any, tokenizer: Any, path: Path) -> None:
    """Fill in what is needed here and often missing: a padding token, and generation without leftovers of sampling."""
    from transformers import GenerationConfig

    from train.model.compute import first_not_finite

    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise TrainError(
            "E921 bad-model", f"{path}: the tokenizer has {len(tokenizer)} tokens, the model only {rows} embeddings",
            "tokenizer and weights are not of one model",
        )  # fmt: skip
    if not isinstance(tokenizer.model_max_length, int | float):
        raise TrainError("E921 bad-model", f"{path}: tokenizer_config.json: model_max_length is not a number",
                         "copy the model again")  # fmt: skip
    _give_padding(tokenizer)
    ends = getattr(model.generation_config, "eos_token_id", None) if model.generation_config else None
    if not all(type(end) is int and 0 <= end < rows for end in _as_list(ends)):
        raise TrainError(
            "E921 bad-model", f"{path}: generation_config.json: eos_token_id {str(ends)[:80]} is not a token of it",
            "copy the model again",
        )  # fmt: skip
    # Weights in 4 bits are packed bytes, which cannot be NaN.
    if (name := first_not_finite(model.named_parameters())) is not None:
        raise TrainError("E921 bad-model", f"{path}: {name} holds numbers that are not finite (NaN or infinity)",
                         "copy the model again")  # fmt: skip
    model.generation_config = GenerationConfig(
        eos_token_id=ends if ends is not None else tokenizer.eos_token_id, bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id, do_sample=False,
    )  # fmt: skip
    model.config.use_cache = True
    model.eval()


def _give_padding(tokenizer: Any) -> None:
    if tokenizer.pad_token_id is None:
        # Padding is never trained and never attended to: it is on the right of causal attention, or masked.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)


def eos_ids(model: Any) -> list[int]:
    """Return the end tokens that the model's own generation config names."""
    return _as_list(model.generation_config.eos_token_id)


def _as_list(ends: Any) -> list[Any]:
    """End tokens as configs name them: none, one, or several."""
    return list(ends) if isinstance(ends, list) else [] if ends is None else [ends]


def _check_type(path: Path) -> None:
    from transformers import CONFIG_MAPPING

    config = json.loads((path / "config.json").read_bytes())
    kind = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise TrainError(
            "E921 bad-model",
            f"{path / 'config.json'}: transformers knows no model_type {str(kind)[:80]!r}",
            "models that bring their own code are never loaded",
        )


def pick_device(wanted: str) -> torch.device:
    """Return the torch device for "auto", "cpu", "mps" or "cuda"; raises TrainError "E941 no-device" (exit 3)."""
    import torch

    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    is_there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}.get(device.type, True)
    if not is_there or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise TrainError("E941 no-device", f"this machine has no {wanted}", "--set device=cpu", exit_code=Exit.MISSING)
    return device


def pick_dtype(recipe: Recipe, device: torch.device, num_parameters: int) -> torch.dtype:
    """Return the format of the matrix products: bfloat16 where the hardware computes in it and the model is not
    tiny.
    """
    import torch

    if recipe.dtype != "auto":
        return torch.bfloat16 if recipe.dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_bf16 = device.type == "cpu" and "avx512_bf16" in _cpu_flags()
    return torch.bfloat16 if has_bf16 and num_parameters >= SMALL_MODEL else torch.float32


def pick_four_bits(recipe: Recipe) -> torch.dtype | None:
    """Return the format of products with 4-bit weights, None where the recipe wants whole ones.

    Raises TrainError as `check_can_quantise` does where this machine cannot have them; nothing is loaded for it.
    """
    if recipe.lora.quantize is None:
        return None
    device = pick_device(recipe.device)
    check_can_quantise(device)
    return pick_dtype(recipe, device, SMALL_MODEL)


def pick_threads(recipe: Recipe, num_parameters: int, num_ranks: int = 1) -> int:
    """Return the CPU threads: one for small models, which lose by sharing work, else one for each core that is free.

    Ranks of one machine divide its cores among them, as each of them would find those of the others busy.
    """
    if recipe.threads != "auto":
        return recipe.threads
    if num_parameters < SMALL_MODEL:
        return 1
    return free_cores() if num_ranks == 1 else max(1, usable_cores() // num_ranks)


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    return set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())


@contextlib.contextmanager
def computing(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Run matrix products in ``dtype``: autocast for bfloat16, nothing for float32. Training and scoring both use
    it.
    """
    import torch

    with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
        yield
