"""The recipe as types: names, ranges, defaults and their meaning; `schemas/recipe.schema.json` is made from this."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from train.recipe.section import (
    Auto,
    FileName,
    MeasuredSplits,
    Name,
    NewTokens,
    Rate,
    Records,
    ReplayShare,
    Section,
    Share,
    Steps,
)

SHIPPED_TEXT = "general"
"""The value of mixing.replay that means the general text that ships with us."""
OF_BASE = "base"
"""The value of mixing.replay that means text which the base writes itself."""


class MixingRecipe(Section):
    """Which categories an epoch is made of; as it stands here, each record once."""

    temperature: float = Field(
        default=1.0, ge=1, le=100,
        description="1 takes categories as large as they are; above it small ones are repeated and large ones thinned, "
        "in proportion to size^(1/temperature).",
    )  # fmt: skip
    share: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0,
        description="Share of each category's records that is trained on, in whole clusters of repeats: those of .25 "
        "are among those of .5, and the seed chooses them. A category keeps one cluster at the least.",
    )
    caps: dict[str, Annotated[int, Field(ge=1, le=1_000_000_000)]] = Field(
        default_factory=dict, description="Most records that an epoch takes of a category, such as { chat = 500 }."
    )
    replay: FileName | None = Field(
        default=None,
        description="General text that is trained along against forgetting: a JSONL or text file, "
        f'"{OF_BASE}" for text that the base writes itself, or "{SHIPPED_TEXT}" for ours. Texts that eval.general '
        "measures are left out.",
    )
    replay_share: ReplayShare = Field(
        default=0.05, description="Share of an epoch's records that are replayed text, where replay names one."
    )

    @property
    def is_plain(self) -> bool:
        """True where an epoch is each record once."""
        return self.temperature == 1 and not self.caps and self.replay is None


class GuardRecipe(Section):
    """When a run stops before its last step; off unless asked for, since a small validation split is noisy."""

    regress: Share | None = Field(
        default=None, description="Stop once a category's validation score stays lower by more than this (0 to 1)."
    )
    against: Literal["base", "best"] = Field(
        default="base", description='Lower than what: the "base" model\'s score or the category\'s "best" so far.'
    )
    general: Annotated[float, Field(ge=0, le=10)] | None = Field(
        default=None,
        description="End the run with an error once general text takes more bits per byte than with the base by more "
        "than this share, such as 0.05.",
    )
    plateau: bool = Field(default=False, description="Stop once validation as a whole no longer improves.")
    patience: int = Field(
        default=3, ge=1, le=10_000, description="How many validations in a row it takes for either of the two."
    )

    @property
    def is_on(self) -> bool:
        """True where something may stop the run."""
        return self.regress is not None or self.plateau or self.general is not None


class JudgeRecipe(Section):
    """A model behind an OpenAI-compatible endpoint that compares answers; off, and nothing is sent, without a url."""

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[!-~]*)?$", max_length=2048)] | None = Field(
        default=None,
        description='Where the judge is, such as "http://localhost:8000/v1"; records are sent there, so the default is '
        "none.",
    )
    model: Name = Field(default="", max_length=512, description="The judge's name there; needed with a url.")
    api_key_env: Annotated[str, Field(pattern=r"^PAIRSMITH_[A-Z0-9_]{1,100}$")] | None = Field(
        default=None,
        description="The environment variable that holds the key, such as PAIRSMITH_JUDGE_KEY; a recipe never holds "
        "one. Names begin with PAIRSMITH_, so that the recipe of somebody else reads no other secret.",
    )
    also: Literal["nothing", "validation", "all"] = Field(
        default="validation",
        description='Records of categories with the scorer "judge" are always sent. Of the others: "nothing", those of '
        '"validation", or "all", test records included.',
    )
    max_records: int = Field(default=200, ge=1, le=1_000_000, description="Most records that are sent.")
    send_flagged: bool = Field(
        default=False, description="Send records with findings X7xx too, such as those with personal data."
    )
    rubric: str = Field(
        default="Prefer the answer that does what the prompt asks, is correct, and agrees with the reference.",
        max_length=20_000,
        description="What makes an answer the better one, in words for the judge.",
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | Auto = Field(
        default=0.0, description='Sampling temperature; "auto" leaves it to the endpoint.'
    )
    timeout: float = Field(default=60.0, gt=0, le=3600, description="Seconds that one request may take.")
    retries: int = Field(
        default=2,
        ge=0,
        le=20,
        description="Further tries after no answer, no verdict, a 429 or a server's error; with a pause.",
    )
    max_concurrency: int = Field(default=4, ge=1, le=256, description="Requests at the same time.")
    min_human: int = Field(
        default=50, ge=1, le=1_000_000,
        description="Pairs that people must have judged too (`curate compare --blind RUN:base RUN`), before the judge "
        "counts as calibrated.",
    )  # fmt: skip
    min_kappa: float = Field(
        default=0.6, ge=-1, le=1, description="Cohen's kappa with them, below which the judge counts as uncalibrated."
    )


Objective = Literal["sft", "chat", "domain", "dpo", "orpo", "kto"]
PREFERENCES: frozenset[Objective] = frozenset(("dpo", "orpo", "kto"))
"""Objectives that compare answers: they train on records of the kind "preference"."""
Reasoning = Literal["train", "context", "drop-history"]
Checkpointing = bool | Literal["offload"]

DEFAULT_BASE = "tiny-base"
ALTERNATIVES = (
    ("batch_tokens", "global_batch_size", "per_device_train_batch_size"),
    ("warmup_ratio", "warmup_steps"),
)
"""Settings of which a recipe has one at the most: of what makes the size of a step, and of what makes its warmup."""


class PreferenceRecipe(Section):
    """How answers are compared; used by the objectives "dpo", "orpo" and "kto"."""

    beta: Annotated[float, Field(gt=0, le=1000)] | Auto = Field(
        default="auto",
        description="How closely the model is held to the base (dpo, kto), or what the comparison counts beside the "
        'answer (orpo). "auto" is 0.1, and 5 for sigmoid with normalised lengths.',
    )
    loss: Literal["sigmoid", "ipo"] = Field(
        default="sigmoid", description='Of dpo: "sigmoid" as in DPO, or "ipo", which aims at a margin and stops there.'
    )
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = Field(
        default=0.0, description="Of dpo with sigmoid: the share of pairs that are taken to be the wrong way round."
    )
    length_normalised: bool | Auto = Field(
        default="auto",
        description='Of dpo: compare log-probabilities a token, not of whole answers; "auto" does so for ipo alone.',
    )
    good_weight: float = Field(default=1.0, ge=0, le=1000, description="Of kto: what an answer counts that was liked.")
    bad_weight: float = Field(default=1.0, ge=0, le=1000, description="Of kto: what one counts that was not.")

    @model_validator(mode="after")
    def _check_combination(self) -> PreferenceRecipe:
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError('label_smoothing is of the loss "sigmoid", and "ipo" takes every pair as it is')
        if not self.good_weight + self.bad_weight:
            raise ValueError("good_weight and bad_weight are both 0, so nothing would be trained")
        return self

    @property
    def is_normalised(self) -> bool:
        """Whether log-probabilities of dpo are divided by the number of tokens."""
        return self.loss == "ipo" if self.length_normalised == "auto" else self.length_normalised

    @property
    def strength(self) -> float:
        """The value of beta."""
        if self.beta != "auto":
            return self.beta
        return 5.0 if self.loss == "sigmoid" and self.is_normalised else 0.1


class EvalRecipe(Section):
    """How base and tuned are measured, during the run and after it."""

    during_training: int = Field(
        default=200,
        ge=0,
        le=1_000_000,
        description="At most this many validation records are scored while training; 0 is none.",
    )
    samples: int = Field(
        default=3, ge=0, le=20,
        description="At most this many of them have their answers written to metrics.jsonl at each validation, for you "
        "to watch; the same ones each time. 0 is none.",
    )  # fmt: skip
    fit_records: int = Field(
        default=40, ge=0, le=1_000_000,
        description="At most this many training records are answered at each validation, beside which validation shows "
        "over-fitting, and tried whether they are known by heart; 0 is none.",
    )  # fmt: skip
    max_new_tokens: int = Field(
        default=256, ge=1, le=65_536, description="Longest completion that is generated, in tokens."
    )
    max_reasoning_tokens: Annotated[int, Field(ge=1, le=65_536)] | None = Field(
        default=None,
        description="Most of them that are reasoning: what has not ended by then is ended, and the answer follows.",
    )
    batch_tokens: int = Field(
        default=8192, ge=16, le=16_777_216, description="Tokens of one evaluation batch, padding included."
    )
    splits: MeasuredSplits = Field(
        default=["validation", "test", "train"],
        description="Splits whose records base and tuned are measured on; without test a run that only competes "
        "leaves the exam alone.",
    )
    general: Name | None = Field(
        default=None, description="A JSONL or text file of general text; its bits per byte show what was forgotten."
    )
    margin: Share = Field(default=0.02, description="A category is worse only when its score fell by more than this.")
    resamples: int = Field(default=2000, ge=100, le=1_000_000, description="Bootstrap and permutation resamples.")
    judge: JudgeRecipe = Field(default_factory=JudgeRecipe)

    @model_validator(mode="after")
    def _check_budget(self) -> EvalRecipe:
        if self.max_reasoning_tokens is not None and self.max_reasoning_tokens >= self.max_new_tokens:
            raise ValueError("max_reasoning_tokens leaves none of max_new_tokens for the answer")
        return self


class StageRecipe(Section):
    """One of several trainings one after another; what it does not say is as the recipe has it."""

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]{0,39})?$")] = Field(
        default="", description='What it is called; "" is stage-1, stage-2 and so on.'
    )
    data: FileName | None = Field(
        default=None,
        description="What it is trained on: a folder that `curate export` wrote, or a text or JSONL file; without it "
        "the records of DATASET.",
    )
    continued: bool = Field(
        default=False,
        description="Go on with the adapter of the stage before, instead of merging it and beginning anew.",
    )
    objective: Objective | None = Field(
        default=None, description="Its objective; of a text file all tokens are trained."
    )
    learning_rate: Rate | None = Field(default=None, description="Its highest learning rate.")
    num_train_epochs: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="Its passes over its data."
    )
    max_steps: Steps | None = Field(default=None, description="Its steps.")
    replay: FileName | None = Field(
        default=None, description=f'General text that is trained along, as mixing.replay; "{SHIPPED_TEXT}" is ours.'
    )
    replay_share: ReplayShare | None = Field(default=None, description="Its share of an epoch's records.")


class Recipe(Section):
    """Everything that decides a run's result besides the dataset and the versions of the libraries."""

    base: Name = Field(
        default=DEFAULT_BASE, min_length=1, max_length=4096,
        description="The model to tune: a Hugging Face folder, a .gguf file, a hub id, the folder of a finished run, "
        'or "tiny-base" (ships with us).',
    )  # fmt: skip
    objective: Objective | Auto = Field(
        default="auto",
        description='"sft" trains the last answer, "chat" each one, "domain" all tokens; "auto": as the dataset says. '
        '"dpo" and "orpo" train on pairs of a better and a worse answer, "kto" on answers that were liked or not.',
    )
    reasoning: Reasoning = Field(
        default="train",
        description='Reasoning before answers: "train" learns it, "context" shows it and learns the answers alone, '
        '"drop-history" learns that of the last turn, and drops that of earlier turns, whose answers are not learnt.',
    )
    method: Literal["lora", "full"] = Field(
        default="lora", description='"lora" tunes small adapters, "full" every weight.'
    )
    # Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), used when method is "lora"; names as in peft and TRL.
    lora_r: int = Field(default=16, ge=1, le=1024, description="Width of the adapters.")
    lora_alpha: float = Field(
        default=32, gt=0, le=4096, description="The adapter's output is scaled by lora_alpha / lora_r."
    )
    lora_dropout: Share = Field(default=0.0, description="Dropout before the adapters, 0 to below 1.")
    lora_target_modules: Literal["all-linear"] | list[str] = Field(
        default="all-linear",
        description='Modules that get an adapter: "all-linear" (not the output head) or a list of names.',
    )
    use_rslora: bool = Field(
        default=False, description="Rank-stabilised: scale by lora_alpha / sqrt(lora_r), so that high ranks learn too."
    )
    use_dora: bool = Field(
        default=False, description="Weight-decomposed: learn the length of each row beside its direction; slower."
    )
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "pissa", "olora"] = Field(
        default=True,
        description='How adapters begin: true, "gaussian" and "orthogonal" change nothing at first, false adds noise; '
        '"pissa" and "olora" take the largest part of each matrix over, and are turned into plain adapters when saved.',
    )
    load_in_4bit: bool = Field(
        default=False, description="QLoRA: keep the frozen weights in 4 bits (NF4). Needs CUDA and bitsandbytes."
    )
    continue_adapter: bool = Field(
        default=False,
        description="Where base is a LoRA run: go on with its adapter, whose shape counts. Without it the adapter is "
        "merged into its base in memory, and a new one begins.",
    )
    learning_rate: Rate | Auto = Field(
        default="auto",
        description='Highest learning rate; "auto" follows the method and the width of the model, and is a tenth of '
        "that for dpo, orpo and kto.",
    )
    num_train_epochs: int = Field(default=2, ge=1, le=10_000, description="Passes over the training records.")
    max_steps: Steps | None = Field(
        default=None, description="Stop after this many optimizer steps; the schedule fits itself to it."
    )
    global_batch_size: Records | Auto = Field(
        default="auto",
        description='Records of one optimizer step over all devices; "auto" aims at 32,768 tokens but at 100 steps or '
        "more.",
    )
    batch_tokens: Annotated[int, Field(ge=16, le=1_073_741_824)] | None = Field(
        default=None, description="Tokens of one optimizer step, instead of global_batch_size."
    )
    per_device_train_batch_size: Records | None = Field(
        default=None,
        description="Instead of global_batch_size: a step has this many records for each device and for each of "
        "gradient_accumulation_steps.",
    )
    gradient_accumulation_steps: int = Field(
        default=1, ge=1, le=65_536,
        description="Micro-batches of a step on each device, at the least; with per_device_train_batch_size, whose "
        "records it multiplies.",
    )  # fmt: skip
    micro_batch_tokens: Annotated[int, Field(ge=16, le=16_777_216)] | Auto = Field(
        default="auto",
        description="Most tokens of one micro-batch, padding included; lower it to save memory. "
        '"auto" is 2,048, and on CUDA what the memory takes by two sizes that are tried.',
    )
    gradient_checkpointing: Checkpointing | Auto = Field(
        default="auto",
        description="Compute activations again in the backward pass instead of keeping them: less memory, a third more "
        'work, the same gradients. "offload" also keeps what they are computed from in the memory of the machine '
        'instead of the GPU\'s. "auto" computes again only where the plan says that the run would not fit otherwise.',
    )
    optim: Literal["adamw_torch_fused", "adamw_8bit"] = Field(
        default="adamw_torch_fused",
        description='AdamW: "adamw_torch_fused", or "adamw_8bit", whose two moments of each weight take 8 bits each '
        "instead of 32: a run ends nearly the same in less memory. Needs bitsandbytes.",
    )
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "wsd"] = Field(
        default="linear",
        description='After warmup: "linear" or "cosine" to zero, "constant_with_warmup", or "wsd", which is constant '
        'and linear to zero at the end. "constant" has no warmup.',
    )
    lr_decay_ratio: Annotated[float, Field(gt=0, le=1)] = Field(
        default=0.1, description="Of wsd: the share of all steps at the end in which the rate falls."
    )
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | Auto = Field(
        default="auto",
        description='Share of all steps with linear warmup; "auto" is 3 % but 10 steps or more, and never over half '
        "the run.",
    )
    warmup_steps: Annotated[int, Field(ge=0, le=10_000_000)] | None = Field(
        default=None, description="Steps of linear warmup, instead of warmup_ratio."
    )
    weight_decay: Share | Auto = Field(
        default="auto", description='AdamW weight decay; "auto" is 0 for lora and 0.01 for full.'
    )
    adam_beta1: Share | Auto = Field(default="auto", description='AdamW\'s beta1; "auto" is 0.9.')
    adam_beta2: Share | Auto = Field(
        default="auto", description='AdamW\'s beta2; "auto" is 0.999 for lora and 0.95 for full.'
    )
    adam_epsilon: Annotated[float, Field(gt=0, le=1)] = Field(default=1e-8, description="AdamW's epsilon.")
    neftune_noise_alpha: float = Field(
        default=0.0, ge=0, le=1000,
        description="Noise on the input embeddings while training (NEFTune's alpha, such as 5); 0 is none.",
    )  # fmt: skip
    max_grad_norm: float = Field(
        default=1.0, ge=0, le=1e6, description="Gradients of a larger norm are clipped to it; 0 never clips."
    )
    max_length: Annotated[int, Field(ge=8, le=16_777_216)] | Auto = Field(
        default="auto", description='Most tokens of one record; "auto" is what the model can read.'
    )
    on_too_long: Literal["refuse", "cut", "skip"] = Field(
        default="refuse",
        description='A record over max_length: "refuse" the run, "cut" its end or "skip" it; both are counted.',
    )
    on_unrenderable: Literal["refuse", "skip"] = Field(
        default="refuse",
        description="A record that the base's chat template refuses, or of which it drops something (tools, calls, "
        'reasoning): "refuse" the run or "skip" the record; it is counted.',
    )
    allow_special_tokens: bool = Field(
        default=False,
        description="Take control tokens that stand in the data as plain text instead of refusing their records.",
    )
    new_tokens: NewTokens = Field(
        default_factory=list,
        description='Words that become tokens of their own, such as ["<note>"]; their rows of the embedding and of the '
        "head are trained.",
    )
    seed: int = Field(default=0, ge=0, le=4_294_967_295, description="Decides order, initial adapters and dropout.")
    bf16: bool | Auto = Field(
        default="auto",
        description='Matrix products in bfloat16, with float32 weights where they are trained; "auto": where the '
        "hardware computes in it. Without it, a GPU that has TF32 rounds their factors to it.",
    )
    eval_steps: Steps | Auto = Field(
        default="auto", description='Validate every this many steps; "auto" is four times a run.'
    )
    save_steps: Steps | Auto = Field(
        default="auto", description='Write a checkpoint every this many steps; "auto" is with each validation.'
    )
    save_total_limit: int = Field(
        default=3, ge=2, le=1000, description="Checkpoints that are kept: the best one and the newest others."
    )
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = Field(
        default="auto", description='"auto", "cpu", "mps" or "cuda" (also "cuda:1").'
    )
    compile: bool | Auto = Field(
        default="auto",
        description='Compile the layers: faster steps after a minute of preparation; "auto" does so on CUDA, where the '
        "run is ten times as long.",
    )
    threads: Annotated[int, Field(ge=1, le=4096)] | Auto = Field(
        default="auto",
        description='CPU threads; "auto" is 1 for models under 20 million parameters, else the cores that are free.',
    )
    parallel: Literal["auto", "fsdp", "hsdp"] = Field(
        default="auto",
        description='How several ranks of torchrun hold a model of method "full": "fsdp" in shards, "hsdp" in shards '
        'within a node; "auto": "hsdp" on several nodes. With adapters each has it whole.',
    )
    eval: EvalRecipe = Field(default_factory=EvalRecipe)
    mixing: MixingRecipe = Field(default_factory=MixingRecipe)
    guard: GuardRecipe = Field(default_factory=GuardRecipe)
    preference: PreferenceRecipe = Field(default_factory=PreferenceRecipe)
    stage: list[StageRecipe] = Field(
        default_factory=list, max_length=20,
        description="Trainings one after another, each on the model of the one before: a table [[stage]] for each.",
    )  # fmt: skip

    @model_validator(mode="after")
    def _check_steps(self) -> Recipe:
        for names in ALTERNATIVES:
            given = [name for name in names if getattr(self, name) not in (None, "auto")]
            if len(given) > 1:
                raise ValueError(f"{' and '.join(given)} say one thing in several ways: give one of them")
        if self.gradient_accumulation_steps > 1 and self.per_device_train_batch_size is None:
            raise ValueError(
                "gradient_accumulation_steps multiplies the records of a step: write per_device_train_batch_size "
                "beside it, or global_batch_size alone"
            )
        # transformers takes it without a word, and warms nothing up.
        if self.lr_scheduler_type == "constant" and (self.warmup_steps or self.warmup_ratio not in ("auto", 0)):
            raise ValueError('lr_scheduler_type "constant" has no warmup: write "constant_with_warmup"')
        if self.lr_scheduler_type != "wsd" and self.lr_decay_ratio != 0.1:
            raise ValueError(
                f'lr_decay_ratio is of lr_scheduler_type "wsd", and this one is "{self.lr_scheduler_type}"'
            )
        return self

    @model_validator(mode="after")
    def _check_lora(self) -> Recipe:
        # Refused here, by the names of the settings, and not by peft after the base was loaded.
        begin = f'init_lora_weights "{self.init_lora_weights}"'
        takes_over = self.init_lora_weights in ("pissa", "olora")
        if takes_over and self.use_dora:
            raise ValueError(
                f"{begin} changes the weights that use_dora measures, and could not be saved as an adapter of the "
                "base: leave init_lora_weights out with use_dora"
            )
        if takes_over and self.load_in_4bit:
            raise ValueError(f"{begin} needs whole weights, which load_in_4bit does not keep: use one of them")
        if self.init_lora_weights == "orthogonal" and self.lora_r % 2:
            raise ValueError(f"{begin} needs an even lora_r, not {self.lora_r}")
        if self.method == "full" and self.load_in_4bit:
            raise ValueError('load_in_4bit freezes the weights that method "full" trains: use method "lora"')
        if self.method == "full" and self.continue_adapter:
            raise ValueError('continue_adapter goes on with an adapter, which method "full" has none of')
        if self.continue_adapter and self.new_tokens:
            raise ValueError("continue_adapter goes on with an adapter, whose tokens are given: leave new_tokens out")
        return self

    @model_validator(mode="after")
    def _check_combination(self) -> Recipe:
        without_adapter = self.stage if self.method == "full" else self.stage[:1]
        if any(stage.continued for stage in without_adapter):
            raise ValueError("a stage is continued from the adapter of the stage before, and there is none")
        if self.method == "lora" and self.parallel != "auto":
            raise ValueError(f'adapters are not sharded, so parallel "{self.parallel}" is for method "full"')
        if self.objective in ("orpo", "kto") and (self.preference.loss == "ipo" or self.preference.label_smoothing):
            name = "loss" if self.preference.loss == "ipo" else "label_smoothing"
            raise ValueError(f'preference.{name} is of the objective "dpo", and this one is "{self.objective}"')
        # The guard sees scores, and without evaluations there are none.
        if self.guard.is_on and not self.eval.during_training:
            raise ValueError("the guard looks at validation, and eval.during_training is 0")
        return self

    @property
    def dtype(self) -> str:
        """The number format of the matrix products: "auto", "bfloat16" or "float32"."""
        return "auto" if self.bf16 == "auto" else "bfloat16" if self.bf16 else "float32"
