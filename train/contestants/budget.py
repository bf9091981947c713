"""What may be spent on an endpoint: what was spent, and what requests on their way may still cost."""

from __future__ import annotations

from train.contestants.spec import EndpointSpec
from train.evaluate.scoring import Answer

Tokens = tuple[int, int]
"""Those of the prompt, and those of the answer."""
_NOTHING = (0, 0)


class Budget:
    """The account of one endpoint, from its opening on; `hold` before a request is sent and `settle` after it."""

    def __init__(self, spec: EndpointSpec) -> None:
        self._spec = spec
        self._spent = self._reserved = _NOTHING
        # The most tokens for a byte that the endpoint has said of a prompt; one for two bytes until then.
        self._tokens_per_byte: float | None = None
        self._has_answered = False

    @property
    def is_limited(self) -> bool:
        """Whether tokens are counted at all: there is a limit or a price."""
        return self._spec.max_tokens is not None or self._spec.price_in is not None

    def largest(self, num_bytes: int, most_new: int) -> Tokens:
        """Return the tokens that a prompt of ``num_bytes`` of UTF-8 and its answer may take."""
        per_byte = 0.5 if self._tokens_per_byte is None else self._tokens_per_byte
        return int(num_bytes * per_byte) + 1, most_new

    def tokens_of(self, answer: Answer, num_bytes: int, most_new: int) -> Tokens:
        """Return the tokens that an answer took: those that it says, else the largest number."""
        prompt, new = answer.prompt_tokens, answer.new_tokens
        self._has_answered = True
        if prompt is not None:
            self._tokens_per_byte = max(self._tokens_per_byte or 0.0, prompt / num_bytes)
        largest = self.largest(num_bytes, most_new)
        return largest[0] if prompt is None else prompt, largest[1] if new is None else new

    def cost(self, tokens: Tokens) -> float | None:
        """Return what ``tokens`` cost; None without prices."""
        if self._spec.price_in is None or self._spec.price_out is None:
            return None
        return (tokens[0] * self._spec.price_in + tokens[1] * self._spec.price_out) / 1e6

    def must_wait(self, overrun: str) -> bool:
        """Whether the next request waits for one on its way, which may take less than is held for it.

        With a limit the first goes alone: what it took tells how much the others may take.
        """
        has_limit = self._spec.max_tokens is not None or self._spec.max_cost is not None
        return self._reserved != _NOTHING and bool(overrun or (has_limit and not self._has_answered))

    def overrun(self, tokens: Tokens) -> str:
        """Return why ``tokens`` more do not fit beside what is spent and held; "" where they do."""
        booked, spec = _add(self._spent, self._reserved), self._spec
        total, cost = _add(booked, tokens), self.cost(_add(booked, tokens))
        if spec.max_tokens is not None and sum(total) > spec.max_tokens:
            return (
                f"it may take {sum(tokens):,} tokens, and {sum(booked):,} of max_tokens = {spec.max_tokens:,} are spent"
            )
        if spec.max_cost is not None and cost is not None and cost > spec.max_cost:
            single, spent = self.cost(tokens) or 0.0, self.cost(booked) or 0.0
            return f"it may cost {single:.6g}, and {spent:.6g} of max_cost = {spec.max_cost:.6g} is spent"
        return ""

    def hold(self, tokens: Tokens) -> None:
        """Count ``tokens`` as on their way."""
        self._reserved = _add(self._reserved, tokens)

    def settle(self, tokens: Tokens, spent: Tokens) -> None:
        """Count ``spent`` in place of ``tokens``, which were held."""
        self._reserved = self._reserved[0] - tokens[0], self._reserved[1] - tokens[1]
        self._spent = _add(self._spent, spent)


def _add(a: Tokens, b: Tokens) -> Tokens:
    return a[0] + b[0], a[1] + b[1]
