"""What a minion answers, and how that is told. Needs no Salt."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

LACKING = re.compile(r"'[\w.]+' (__virtual__ returned False|is not available)")
"""What Salt says of a function that a minion can't load, or does not have."""


@dataclass(frozen=True)
class Reply:
    """A minion's answer, `after_s` seconds after the question; `ok` is False if the function failed, `value` then
    mostly its message.
    """

    node: str
    value: Any
    ok: bool
    after_s: float = 0.0

    @property
    def said(self) -> str:
        """Its value as a sentence; of a minion that lacks the function with the remedy."""
        if self.ok or not LACKING.match(str(self.value)):
            return str(self.value)
        remedy = f"`salt {self.node} state.apply` brings them, `salt {self.node} mnha_service.lost` tells which"
        return f"{str(self.value).rstrip('.')}; its minion has lost modules of this project: {remedy}"
