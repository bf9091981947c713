# SPDX-License-Identifier: Apache-2.0
"""Make `tiny-base/`: a causal model of two million parameters, pre-trained here on generic skills, on one CPU core.

    python samples/make_tiny_base.py --work FOLDER [--steps 4600]

FOLDER holds the resumable state; a second call goes on from there. The checkpoint is written at every `--save-every`
steps, so the run can be stopped at any time. The learning rate is constant and falls linearly to a twentieth over the
last fifth of the steps (warmup-stable-decay, Hu et al. 2024, arXiv:2404.06395).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from tiny_base_skills import BANK, SKILLS, Dialogue, draw

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

HERE = Path(__file__).parent
SEED = 20261125
VOCABULARY, HIDDEN, LAYERS, HEADS, INNER, MAX_POSITIONS = 3072, 160, 5, 5, 448, 512
PAD, START, END = "<|pad|>", "<|im_start|>", "<|im_end|>"
BATCH, POOL, PEAK_LR, WARMUP, DECAY_SHARE = 64, 8, 2.5e-3, 200, 0.2
CHAT_TEMPLATE = (
    # Tools stand in the system's turn and calls behind what the assistant says, both as JSON; without them nothing of
    # this is written, and only that has been trained. What is in no plain record stands apart, as it costs time.
    "{%- if tools %}{{ '<|im_start|>system\\n' }}"
    "{%- if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n\\n' }}{%- endif %}"
    "{{ 'Tools:\\n' }}{%- for tool in tools %}{{ tool | tojson + '\\n' }}{%- endfor %}{{ '<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in (messages[1:] if tools and messages[0]['role'] == 'system' else messages) %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{%- if message['role'] == 'assistant' %}{%- if 'tool_calls' in message %}{% generation %}"
    "{{ message['content'] or '' }}"
    "{%- for call in message['tool_calls'] or [] %}{{ '\\n' if message['content'] or not loop.first }}"
    "{{ '<tool_call>{\"name\": ' + call['function']['name'] | tojson + ', \"arguments\": ' }}"
    "{{ call['function']['arguments'] if call['function']['arguments'] is string"
    " else call['function']['arguments'] | tojson }}{{ '}</tool_call>' }}{%- endfor %}"
    "{{ '<|im_end|>' }}{% endgeneration %}"
    "{%- else %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}{%- endif %}"
    "{%- else %}{{ message['content'] + '<|im_end|>' }}{%- endif %}{{ '\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)


Forward = Callable[["Qwen3ForCausalLM", "torch.Tensor", "torch.dtype"], "torch.Tensor"]


class Encoded(NamedTuple):
    """Token ids of one example and the positions whose token is a training target."""

    ids: list[int]
    targets: list[int]


def rendered(example: Dialogue) -> str:
    """The text that the chat template gives for a dialogue; plain text is itself, closed by the end token."""
    if not example.turns:
        return f"{example.system}{END}"
    text = f"{START}system\n{example.system}{END}\n" if example.system else ""
    return text + "".join(f"{START}user\n{q}{END}\n{START}assistant\n{a}{END}\n" for q, a in example.turns)


def train_tokenizer() -> Tokenizer:
    """Byte-level BPE with single digits, trained on the word bank and a slice of the generic skills."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    r = Random(SEED + 1)
    texts = [rendered(draw(r)[1]) for _ in range(12000)]
    texts += [" ".join(r.sample(BANK, len(BANK))) for _ in range(40)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[PAD, START, END], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The transformers tokenizer with its special tokens and chat template."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=MAX_POSITIONS,
        additional_special_tokens=[START], clean_up_tokenization_spaces=False,
    )  # fmt: skip
    wrapped.chat_template = CHAT_TEMPLATE
    return wrapped


def build_model(vocabulary: int) -> Qwen3ForCausalLM:
    """A seeded, randomly initialised Qwen3 with tied embeddings; float32."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(SEED)
    config = Qwen3Config(
        vocab_size=vocabulary, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
        num_key_value_heads=HEADS, head_dim=HIDDEN // HEADS, intermediate_size=INNER, tie_word_embeddings=True,
        max_position_embeddings=MAX_POSITIONS, pad_token_id=0, bos_token_id=None, eos_token_id=2,
        attn_implementation="sdpa", initializer_range=0.02,
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def encode(tokenizer: Tokenizer, examples: list[Dialogue]) -> list[Encoded]:
    """Ids and targets: assistant tokens with their end token, or every token after the first of a plain text."""
    tokenizer.no_padding()  # a padded call in `exact_match` leaves padding switched on
    start, end = int(tokenizer.token_to_id(START) or 0), int(tokenizer.token_to_id(END) or 0)
    opening = tokenizer.encode("assistant\n").ids
    encoded: list[Encoded] = []
    for example, encoding in zip(examples, tokenizer.encode_batch([rendered(e) for e in examples]), strict=True):
        ids: list[int] = encoding.ids
        if not example.turns:
            encoded.append(Encoded(ids, list(range(1, len(ids)))))
            continue
        targets: list[int] = []
        position = 0
        while position < len(ids):
            head = position + 1 + len(opening)
            if ids[position] == start and ids[position + 1 : head] == opening:
                stop = ids.index(end, head)
                targets += range(head, stop + 1)
                position = stop
            position += 1
        encoded.append(Encoded(ids, targets))
    return encoded


def batches(tokenizer: Tokenizer, r: Random) -> list[list[Encoded]]:
    """`POOL` batches of similar lengths, in random order."""
    pool = sorted(encode(tokenizer, [draw(r)[1] for _ in range(BATCH * POOL)]), key=lambda e: len(e.ids))
    cut = [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
    r.shuffle(cut)
    return cut


def batch_loss(model: Qwen3ForCausalLM, batch: list[Encoded], forward: Forward) -> torch.Tensor:
    """Mean cross-entropy over the batch's targets; right padding needs no mask, because attention is causal."""
    import torch
    from torch.nn import functional

    width = max(len(e.ids) for e in batch)
    ids = torch.tensor([e.ids + [0] * (width - len(e.ids)) for e in batch])
    rows = torch.tensor([b * width + t - 1 for b, e in enumerate(batch) for t in e.targets])
    labels = torch.tensor([e.ids[t] for e in batch for t in e.targets])
    hidden = forward(model, ids, torch.bfloat16).flatten(0, 1)[rows]
    return functional.cross_entropy((hidden @ model.lm_head.weight.to(hidden.dtype).t()).float(), labels)


def learning_rate(step: int, steps: int) -> float:
    """Linear warmup, constant, linear decay to a twentieth."""
    decay = max(1, int(steps * DECAY_SHARE))
    return PEAK_LR * min((step + 1) / WARMUP, 1.0, 0.05 + 0.95 * (steps - step) / decay)


def exact_match(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, pairs: list[tuple[str, str]]) -> float:
    """Share of greedy answers that equal the reference."""
    import torch

    model.eval()
    hits = 0
    tokenizer.padding_side = "left"
    for start in range(0, len(pairs), 40):
        chunk = pairs[start : start + 40]
        prompts = [f"{START}user\n{q}{END}\n{START}assistant\n" for q, _ in chunk]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        with torch.no_grad():
            out = model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                max_new_tokens=40,
                do_sample=False,
            )
        texts = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        hits += sum(text == answer for text, (_, answer) in zip(texts, chunk, strict=True))
    model.train()
    return hits / len(pairs)


def skill_scores(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Held-out exact match on the first turn of every skill, 32 examples each, from a seed that training never uses."""
    r = Random(SEED + 999)
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, (skill, _) in SKILLS.items():
        if name != "plain":
            found[name] = [skill(r).turns[0] for _ in range(32)]
    return {name: round(exact_match(model, tokenizer, pairs), 2) for name, pairs in found.items()}


def save(model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, recipe: dict[str, Any]) -> None:
    """Write the checkpoint in bfloat16 with tokenizer, template, generation settings and the recipe so far."""
    import copy

    import torch
    from transformers import GenerationConfig

    half = copy.deepcopy(model).to(torch.bfloat16)
    half.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=64, pad_token_id=0, eos_token_id=2, bos_token_id=None
    )
    half.save_pretrained(folder)
    tokenizer.padding_side = "right"
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)
    (folder / "pretraining.json").write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def pretrain(work: Path, out: Path, steps: int, save_every: int, limit: int, is_compiled: bool) -> None:
    """Train from scratch or from the state in `work` up to `steps` (or `limit`, where a rehearsal stops early)."""
    import torch
    from tiny_base_forward import hidden_states

    torch.set_num_threads(1)
    forward: Forward = torch.compile(hidden_states, dynamic=True) if is_compiled else hidden_states
    work.mkdir(parents=True, exist_ok=True)
    wrapped = wrap_tokenizer(train_tokenizer())
    tokenizer = wrapped.backend_tokenizer
    model = build_model(len(wrapped))
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.05, fused=True)
    done, tokens, seconds, state = 0, 0, 0.0, work / "state.pt"
    if state.exists():
        kept = torch.load(state, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        done, tokens, seconds = kept["done"], kept["tokens"], kept["seconds"]
    queue: list[list[Encoded]] = []
    recent: list[float] = []
    mark = time.process_time()
    for step in range(done, min(steps, limit)):
        if not queue:
            queue = batches(tokenizer, Random(f"{SEED}/{step}"))
        batch = queue.pop()
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps)
        loss = batch_loss(model, batch, forward)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent.append(loss.item())
        tokens += sum(len(e.ids) for e in batch)
        if (step + 1) % 100 == 0:
            spent = seconds + time.process_time() - mark
            sys.stderr.write(f"step {step + 1} loss {sum(recent) / len(recent):.3f} tokens {tokens} cpu {spent:.0f}\n")
            recent.clear()
        if (step + 1) % save_every == 0 or step + 1 == steps:
            seconds, mark = seconds + time.process_time() - mark, time.process_time()
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "done": step + 1, "tokens": tokens,
                 "seconds": seconds}, state,
            )  # fmt: skip
            scores = skill_scores(model, wrapped)
            sys.stderr.write(f"{scores}\n")
            save(model, wrapped, out, {
                "seed": SEED, "steps_done": step + 1, "steps_planned": steps, "batch_size": BATCH, "peak_lr": PEAK_LR,
                "tokens": tokens, "cpu_seconds": round(seconds), "threads": 1, "held_out_exact_match": scores,
            })  # fmt: skip
            mark = time.process_time()


def main() -> None:
    """Parse the command line and pre-train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--work", type=Path, required=True, help="folder of the resumable state")
    parser.add_argument("--out", type=Path, default=HERE / "tiny-base", help="folder of the checkpoint")
    parser.add_argument("--steps", type=int, default=4600, help="planned steps (sets the schedule)")
    parser.add_argument("--stop-at", type=int, default=10**9, help="stop early, without changing the schedule")
    parser.add_argument("--eager", action="store_true", help="do not compile (no C++ compiler; half the speed)")
    parser.add_argument("--save-every", type=int, default=500)
    given = parser.parse_args()
    pretrain(given.work, given.out, given.steps, given.save_every, given.stop_at, not given.eager)


if __name__ == "__main__":
    main()
