"""Clean transcripts: references and training targets are what these rules leave."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rule:
    """Replace `pattern` by `replacement`. The tests run the examples, input to output."""

    name: str
    pattern: str
    replacement: str
    examples: dict[str, str] = field(hash=False)

    def apply(self, text: str) -> str:
        """Apply the rule everywhere in `text`."""
        return re.sub(self.pattern, self.replacement, text)


RULES = [
    Rule(
        "drop control and zero-width characters",
        "[\u0000-\u0008\u000e-\u001f\u007f\u200b\u200c\u200d\u2060\ufeff]",
        "",
        examples={"seven\u200b two": "seven two", "\ufeffone": "one"},
    ),
    Rule(
        "collapse white space",
        r"\s+",
        " ",
        examples={"one\ttwo\n three": "one two three", "one\u00a0two": "one two"},
    ),
]


def clean(text: str, case: str) -> str:
    """Compose Unicode (NFC), apply the rules, and convert to lower case where `case` is `lower`."""
    text = unicodedata.normalize("NFC", text)
    for rule in RULES:
        text = rule.apply(text)
    text = text.strip()
    return text.lower() if case == "lower" else text
