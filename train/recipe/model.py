"""The recipe as types: names, ranges, defaults and their meaning; `schemas/recipe.schema.json` is made from this."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Auto = Literal["auto"]
# Bounds keep a number with a zero too many from filling the memory before anybody reads it.
Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
CountFromZero = Annotated[int, Field(ge=0, le=1_000_000_000)]
Tokens = Annotated[int, Field(ge=16, le=1_073_741_824)]
Amount = Annotated[float, Field(ge=0, le=1e6)]
Positive = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]
ReplayShare = Annotated[float, Field(gt=0, le=0.9)]
Rate = Annotated[float, Field(gt=0, le=10)]
# Control characters break the programs that a path or name is handed to.
Name = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
FileName = Annotated[Name, Field(min_length=1)]


class Section(BaseModel):
    """A table of a recipe; unknown keys are refused, types are never coerced, NaN and infinity are no numbers."""

    # A misspelt key that is ignored trains for hours with the default. Descriptions are the texts below the fields.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def conflicts(self) -> dict[str, bool]:
        """Return the faults of keys that do not go together, each with whether these have it."""
        return {}

    @model_validator(mode="after")
    def _check_rules(self) -> Self:
        if broken := [message for message, is_broken in self.conflicts().items() if is_broken]:
            raise ValueError("; ".join(broken))
        return self


SHIPPED_TEXT = "general"
"""The value of mixing.replay that means the general text that ships with us."""


class MixingRecipe(Section):
    """Which categories an epoch is made of; as it stands here, each record once."""

    temperature: float = Field(default=1.0, ge=1, le=100)
    """1 takes categories as large as they are; above it small ones are repeated and large ones thinned, in proportion
    to size^(1/temperature).
    """
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of each category's records that is trained on, in whole clusters of repeats: those of .25 are among those
    of .5, and the seed chooses them. A category keeps one cluster at the least.
    """
    caps: dict[str, Count] = Field(default={})
    """Most records that an epoch takes of a category, such as { chat = 500 }."""
    replay: FileName | None = None
    """General text that is trained along against forgetting: a JSONL or text file, or "general" for ours. Texts that
    eval.general measures are left out.
    """
    replay_share: ReplayShare = 0.05
    """Share of an epoch's records that are replayed text, where replay names one."""

    @property
    def is_plain(self) -> bool:
        """True where an epoch is each record once."""
        return self.temperature == 1 and not self.caps and self.replay is None


class GuardRecipe(Section):
    """When a run stops before its last step; off unless asked for, since a small validation split is noisy."""

    regress: Share | None = None
    """Stop once a category's validation score stays lower by more than this (0 to 1)."""
    against: Literal["base", "best"] = "base"
    """Lower than what: the "base" model's score or the category's "best" so far."""
    general: Amount | None = None
    """End the run with an error once general text takes more bits per byte than with the base by more than this share,
    such as 0.05.
    """
    plateau: bool = False
    """Stop once validation as a whole no longer improves."""
    patience: Count = 3
    """How many validations in a row it takes for either of the two."""

    @property
    def is_on(self) -> bool:
        """True where something may stop the run."""
        return self.regress is not None or self.plateau or self.general is not None


class JudgeRecipe(Section):
    """A model behind an OpenAI-compatible endpoint that compares answers; off, and nothing is sent, without a url."""

    url: Annotated[str, Field(pattern=r"^https?://[A-Za-z0-9.:\[\]-]+(/[!-~]*)?$", max_length=2048)] | None = None
    """Where the judge is, such as "http://localhost:8000/v1"; records are sent there, so the default is none."""
    model: Name = Field(default="", max_length=512)
    """The judge's name there; needed with a url."""
    api_key_env: Annotated[str, Field(pattern=r"^PAIRSMITH_[A-Z0-9_]{1,100}$")] | None = None
    """The environment variable that holds the key, such as PAIRSMITH_JUDGE_KEY; a recipe never holds one. Names begin
    with PAIRSMITH_, so that the recipe of somebody else reads no other secret.
    """
    also: Literal["nothing", "validation", "all"] = "validation"
    """Records of categories with the scorer "judge" are always sent. Of the others: "nothing", those of "validation",
    or "all", test records included.
    """
    max_records: Count = 200
    """Most records that are sent."""
    send_flagged: bool = False
    """Send records with findings X7xx too, such as those with personal data."""
    rubric: str = Field(
        default="Prefer the answer that does what the prompt asks, is correct, and agrees with the reference.",
        max_length=20_000,
    )
    """What makes an answer the better one, in words for the judge."""
    temperature: Annotated[float, Field(ge=0, le=2)] | Auto = 0.0
    """Sampling temperature; "auto" leaves it to the endpoint."""
    timeout: Positive = 60.0
    """Seconds that one request may take."""
    retries: CountFromZero = 2
    """Further tries after no answer, no verdict, a 429 or a server's error; with a pause."""
    max_concurrency: int = Field(default=4, ge=1, le=256)
    """Requests at the same time."""
    min_human: Count = 50
    """Pairs that people must have judged too (`curate compare --blind RUN:base RUN`), before the judge counts as
    calibrated.
    """
    min_kappa: float = Field(default=0.6, ge=-1, le=1)
    """Cohen's kappa with them, below which the judge counts as uncalibrated."""


Objective = Literal["sft", "chat", "domain", "dpo", "orpo", "kto"]
PREFERENCES: frozenset[Objective] = frozenset(("dpo", "orpo", "kto"))
"""Objectives that compare answers: they train on records of the kind "preference"."""
Reasoning = Literal["train", "context", "drop-history"]
Checkpointing = bool | Literal["offload"]

DEFAULT_BASE = "tiny-base"
ALTERNATIVES = (
    ("global_batch_size", "per_device_train_batch_size"),
    ("warmup_ratio", "warmup_steps"),
)
"""Settings of which a recipe has one at the most: of what makes the size of a step, and of what makes its warmup."""


class PreferenceRecipe(Section):
    """How answers are compared; used by the objectives "dpo", "orpo" and "kto"."""

    beta: Positive | Auto = "auto"
    """How closely the model is held to the base (dpo, kto), or what the comparison counts beside the answer (orpo).
    "auto" is 0.1, and 5 for sigmoid with normalised lengths.
    """
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    """Of dpo: "sigmoid" as in DPO, or "ipo", which aims at a margin and stops there."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Of dpo with sigmoid: the share of pairs that are taken to be the wrong way round."""
    length_normalised: bool | Auto = "auto"
    """Of dpo: compare log-probabilities a token, not of whole answers; "auto" does so for ipo alone."""
    desirable_weight: Amount = 1.0
    """Of kto: what an answer counts that was liked."""
    undesirable_weight: Amount = 1.0
    """Of kto: what one counts that was not."""

    def conflicts(self) -> dict[str, bool]:
        """Return the faults of keys that do not go together, each with whether these have it."""
        return {
            'label_smoothing is of the loss "sigmoid", and "ipo" takes every pair as it is': (
                self.loss == "ipo" and self.label_smoothing > 0
            ),
            "desirable_weight and undesirable_weight are both 0, so nothing would be trained": not self.desirable_weight
            + self.undesirable_weight,
        }

    @property
    def is_length_normalised(self) -> bool:
        """Whether log-probabilities of dpo are divided by the number of tokens."""
        return self.loss == "ipo" if self.length_normalised == "auto" else self.length_normalised

    @property
    def resolved_beta(self) -> float:
        """The value of beta, also where that is "auto"."""
        if self.beta != "auto":
            return self.beta
        return 5.0 if self.loss == "sigmoid" and self.is_length_normalised else 0.1


class EvalRecipe(Section):
    """How base and tuned are measured, during the run and after it."""

    during_training: CountFromZero = 200
    """At most this many validation records are scored while training; 0 is none."""
    samples: CountFromZero = 3
    """At most this many of them have their answers written to metrics.jsonl at each validation, for you to watch; the
    same ones each time. 0 is none.
    """
    fit_records: CountFromZero = 40
    """At most this many training records are answered at each validation, beside which validation shows over-fitting,
    and tried whether they are known by heart; 0 is none.
    """
    max_new_tokens: Count = 256
    """Longest completion that is generated, in tokens."""
    max_reasoning_tokens: Count | None = None
    """Most of them that are reasoning: what has not ended by then is ended, and the answer follows."""
    batch_tokens: Tokens = 8192
    """Tokens of one evaluation batch, padding included."""
    splits: list[Literal["validation", "test", "train"]] = Field(default=["validation", "test", "train"])
    """Splits whose records base and tuned are measured on; without test a run that only competes leaves that alone."""
    general: Name | None = None
    """A JSONL or text file of general text; its bits per byte show what was forgotten."""
    margin: Share = 0.02
    """A category is worse only when its score fell by more than this."""
    resamples: int = Field(default=2000, ge=100, le=1_000_000)
    """Bootstrap and permutation resamples."""
    judge: JudgeRecipe = Field(default_factory=JudgeRecipe)

    def conflicts(self) -> dict[str, bool]:
        """Return the faults of keys that do not go together, each with whether these have it."""
        return {
            "max_reasoning_tokens leaves none of max_new_tokens for the answer": (
                (self.max_reasoning_tokens or 0) >= self.max_new_tokens
            ),
            'splits always holds "validation", and each split once': (
                "validation" not in self.splits or len(set(self.splits)) < len(self.splits)
            ),
        }


class StageRecipe(Section):
    """One of several trainings one after another; what it does not say is as the recipe has it."""

    name: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9_-]{0,39})?$")] = ""
    """What it is called; "" is stage-1, stage-2 and so on."""
    data: FileName | None = None
    """What it is trained on: a folder that `curate export` wrote, or a text or JSONL file; without it the records of
    DATASET.
    """
    continued: bool = False
    """Go on with the adapter of the stage before, instead of merging it and beginning anew."""
    objective: Objective | None = None
    """Its objective; of a text file all tokens are trained."""
    learning_rate: Rate | None = None
    """Its highest learning rate."""
    num_train_epochs: Count | None = None
    """Its passes over its data."""
    max_steps: Count | None = None
    """Its steps."""
    replay: FileName | None = None
    """General text that is trained along, as mixing.replay; "general" is ours."""
    replay_share: ReplayShare | None = None
    """Its share of an epoch's records."""


class Recipe(Section):
    """Everything that decides a run's result besides the dataset and the versions of the libraries."""

    base: Name = Field(default=DEFAULT_BASE, min_length=1, max_length=4096)
    """The model to tune: a Hugging Face folder, a .gguf file, a hub id, the folder of a finished run, or "tiny-base"
    (ships with us).
    """
    objective: Objective | Auto = "auto"
    """"sft" trains the last answer, "chat" each one, "domain" all tokens; "auto": as the dataset says. "dpo" and "orpo"
    train on pairs of a better and a worse answer, "kto" on answers that were liked or not.
    """
    reasoning: Reasoning = "train"
    """Reasoning before answers: "train" learns it, "context" shows it and learns the answers alone, "drop-history"
    learns that of the last turn, and drops that of earlier turns, whose answers are not learnt.
    """
    method: Literal["lora", "full"] = "lora"
    """"lora" tunes small adapters, "full" every weight."""
    # Low-rank adapters (Hu et al. 2021, arXiv:2106.09685), used when method is "lora"; names as in peft and TRL.
    lora_r: Count = 16
    """Width of the adapters."""
    lora_alpha: Positive = 32
    """The adapter's output is scaled by lora_alpha / lora_r."""
    lora_dropout: Share = 0.0
    """Dropout before the adapters, 0 to below 1."""
    lora_target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Modules that get an adapter: "all-linear" (not the output head) or a list of names."""
    use_rslora: bool = False
    """Rank-stabilised: scale by lora_alpha / sqrt(lora_r), so that high ranks learn too."""
    use_dora: bool = False
    """Weight-decomposed: learn the length of each row beside its direction; slower."""
    init_lora_weights: bool | Literal["gaussian", "orthogonal"] = True
    """How adapters begin: true, "gaussian" and "orthogonal" change nothing at first, false adds noise."""
    load_in_4bit: bool = False
    """QLoRA: keep the frozen weights in 4 bits (NF4). Needs CUDA and bitsandbytes."""
    continue_adapter: bool = False
    """Where base is a LoRA run: go on with its adapter, whose shape counts. Without it the adapter is merged into its
    base in memory, and a new one begins.
    """
    learning_rate: Rate | Auto = "auto"
    """Highest learning rate; "auto" follows the method and the width of the model, and is a tenth of that for dpo, orpo
    and kto.
    """
    num_train_epochs: Count = 2
    """Passes over the training records."""
    max_steps: Count | None = None
    """Stop after this many optimizer steps; the schedule fits itself to it."""
    global_batch_size: Count | Auto = "auto"
    """Records of one optimizer step over all devices; "auto" aims at 32,768 tokens but at 100 steps or more."""
    per_device_train_batch_size: Count | None = None
    """Instead of global_batch_size: a step has this many records for each device and for each of
    gradient_accumulation_steps.
    """
    gradient_accumulation_steps: Count = 1
    """Micro-batches of a step on each device, at the least; with per_device_train_batch_size, whose records it
    multiplies.
    """
    micro_batch_tokens: Tokens | Auto = "auto"
    """Most tokens of one micro-batch, padding included; lower it to save memory. "auto" is 2,048, and on CUDA what the
    memory takes by two sizes that are tried.
    """
    gradient_checkpointing: Checkpointing | Auto = "auto"
    """Compute activations again in the backward pass instead of keeping them: less memory, a third more work, the same
    gradients. "offload" also keeps what they are computed from in the memory of the machine instead of the GPU's.
    "auto" computes again only where the plan says that the run would not fit otherwise.
    """
    optim: Literal["adamw_torch_fused", "adamw_8bit"] = "adamw_torch_fused"
    """AdamW: "adamw_torch_fused", or "adamw_8bit", whose two moments of each weight take 8 bits each instead of 32: a
    run ends nearly the same in less memory. Needs bitsandbytes.
    """
    lr_scheduler_type: Literal["linear", "cosine", "constant", "constant_with_warmup", "wsd"] = "linear"
    """After warmup: "linear" or "cosine" to zero, "constant_with_warmup", or "wsd", which is constant and linear to
    zero at the end. "constant" has no warmup.
    """
    lr_decay_ratio: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Of wsd: the share of all steps at the end in which the rate falls."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | Auto = "auto"
    """Share of all steps with linear warmup; "auto" is 3 % but 10 steps or more, and never over half the run."""
    warmup_steps: CountFromZero | None = None
    """Count of linear warmup, instead of warmup_ratio."""
    weight_decay: Share | Auto = "auto"
    """AdamW weight decay; "auto" is 0 for lora and 0.01 for full."""
    adam_beta1: Share | Auto = "auto"
    """AdamW's beta1; "auto" is 0.9."""
    adam_beta2: Share | Auto = "auto"
    """AdamW's beta2; "auto" is 0.999 for lora and 0.95 for full."""
    adam_epsilon: Positive = 1e-8
    """AdamW's epsilon."""
    max_grad_norm: Amount = 1.0
    """Gradients of a larger norm are clipped to it; 0 never clips."""
    max_length: Annotated[int, Field(ge=8, le=16_777_216)] | Auto = "auto"
    """Most tokens of one record; "auto" is what the model can read."""
    on_too_long: Literal["refuse", "cut", "skip"] = "refuse"
    """A record over max_length: "refuse" the run, "cut" its end or "skip" it; both are counted."""
    on_unrenderable: Literal["refuse", "skip"] = "refuse"
    """A record that the base's chat template refuses, or of which it drops something (tools, calls, reasoning):
    "refuse" the run or "skip" the record; it is counted.
    """
    allow_special_tokens: bool = False
    """Take control tokens that stand in the data as plain text instead of refusing their records."""
    seed: int = Field(default=0, ge=0, le=4_294_967_295)
    """Decides order, initial adapters and dropout."""
    bf16: bool | Auto = "auto"
    """Matrix products in bfloat16, with float32 weights where they are trained; "auto": where the hardware computes in
    it. Without it, a GPU that has TF32 rounds their factors to it.
    """
    eval_steps: Count | Auto = "auto"
    """Validate every this many steps; "auto" is four times a run."""
    save_steps: Count | Auto = "auto"
    """Write a checkpoint every this many steps; "auto" is with each validation."""
    save_total_limit: int = Field(default=3, ge=2, le=1000)
    """Checkpoints that are kept: the best one and the newest others."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = "auto"
    """"auto", "cpu", "mps" or "cuda" (also "cuda:1")."""
    compile: bool | Auto = "auto"
    """Compile the layers: faster steps after a minute of preparation; "auto" does so on CUDA, where the steps
    take five minutes or more.
    """
    threads: Annotated[int, Field(ge=1, le=4096)] | Auto = "auto"
    """CPU threads; "auto" is 1 for models under 20 million parameters, else the cores that are free."""
    eval: EvalRecipe = Field(default_factory=EvalRecipe)
    mixing: MixingRecipe = Field(default_factory=MixingRecipe)
    guard: GuardRecipe = Field(default_factory=GuardRecipe)
    preference: PreferenceRecipe = Field(default_factory=PreferenceRecipe)
    stage: list[StageRecipe] = Field(default=[], max_length=20)
    """Trainings one after another, each on the model of the one before: a table [[stage]] for each."""

    def conflicts(self) -> dict[str, bool]:
        """Return the faults of keys that do not go together, each with whether these have it."""
        named = [[name for name in names if getattr(self, name) not in (None, "auto")] for names in ALTERNATIVES]
        is_full, schedule = self.method == "full", self.lr_scheduler_type
        # What only dpo has, as it is set.
        of_dpo = ["preference.loss"] * (self.preference.loss == "ipo")
        of_dpo += ["preference.label_smoothing"] * (self.preference.label_smoothing > 0)
        return {
            **{
                f"{' and '.join(names)} say one thing in several ways: give one of them": len(names) > 1
                for names in named
            },
            "gradient_accumulation_steps multiplies the records of a step: write per_device_train_batch_size beside "
            "it, or global_batch_size alone": (
                self.gradient_accumulation_steps > 1 and self.per_device_train_batch_size is None
            ),
            # transformers takes it without a word, and warms nothing up.
            'lr_scheduler_type "constant" has no warmup: write "constant_with_warmup"': (
                schedule == "constant" and bool(self.warmup_steps or self.warmup_ratio not in ("auto", 0))
            ),
            f'lr_decay_ratio is of lr_scheduler_type "wsd", and this one is "{schedule}"': (
                schedule != "wsd" and self.lr_decay_ratio != 0.1
            ),
            # Refused here, by the names of the settings, and not by peft after the base was loaded.
            f'init_lora_weights "{self.init_lora_weights}" needs an even lora_r, not {self.lora_r}': (
                self.init_lora_weights == "orthogonal" and self.lora_r % 2 == 1
            ),
            'load_in_4bit freezes the weights that method "full" trains: use method "lora"': is_full
            and self.load_in_4bit,
            'continue_adapter goes on with an adapter, which method "full" has none of': is_full
            and self.continue_adapter,
            "a stage is continued from the adapter of the stage before, and there is none": (
                any(stage.continued for stage in (self.stage if is_full else self.stage[:1]))
            ),
            f'{" and ".join(of_dpo)} is of the objective "dpo", and this one is "{self.objective}"': (
                bool(of_dpo) and self.objective in ("orpo", "kto")
            ),
            # The guard sees scores, and without evaluations there are none.
            "the guard looks at validation, and eval.during_training is 0": (
                self.guard.is_on and not self.eval.during_training
            ),
        }

    @property
    def dtype(self) -> str:
        """The number format of the matrix products: "auto", "bfloat16" or "float32"."""
        return "auto" if self.bf16 == "auto" else "bfloat16" if self.bf16 else "float32"
