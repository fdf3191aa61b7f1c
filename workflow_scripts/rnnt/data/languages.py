"""What differs between languages, by their BCP 47 tag: case, and whether spaces part the words.

Imported by the Snakefile: standard library alone.
"""

from __future__ import annotations

import re
import unicodedata

# Two letters i, one with and one without a dot, each with its own capital: Unicode's SpecialCasing.txt has tr and az,
# the Latin alphabets of Crimean Tatar, Gagauz and Tatar have them too.
_DOTTED_I = {"tr", "az", "crh", "gag", "tt"}

# Written without spaces between words. Whisper (Radford et al. 2022, appendix C) has a character error rate for
# Chinese, Japanese, Thai, Lao and Burmese; here also the other Chinese languages, Khmer, Tibetan and Dzongkha.
_UNSPACED = set("zh cmn yue wuu gan hak hsn nan lzh ja th lo my km bo dz".split())


def primary(language: str) -> str:
    """The language itself of a tag: `pt` of `pt-BR`."""
    return language.lower().split("-")[0]


def has_spaces(language: str) -> bool:
    """Whether words are what stands between spaces; in Latin script (`zh-Latn-pinyin`) they are in every language."""
    return primary(language) not in _UNSPACED or "latn" in language.lower().split("-")


def has_own_case(language: str) -> bool:
    """Whether `lower` does for this language something else than for English."""
    return primary(language) in _DOTTED_I | {"lt"}


def lower(text: str, language: str) -> str:
    """Composed text (NFC) in lower case as the language writes it; composed again.

    Turkish has a dotless i for `I` and `i` for `İ`, Lithuanian keeps the dot of an `i` or `j` below an accent
    (Unicode's SpecialCasing.txt). A Greek sigma at the end of a word becomes `ς` in every language.
    """
    if primary(language) in _DOTTED_I:
        text = text.replace("İ", "i").replace("I", "ı")
    elif primary(language) == "lt":
        decomposed = unicodedata.normalize("NFD", text)
        text = re.sub("([IJ]\u0328?)(?=[\u0300\u0301\u0303])", "\\1\u0307", decomposed)
    return unicodedata.normalize("NFC", text.lower())
