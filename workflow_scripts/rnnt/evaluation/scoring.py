"""Score hypotheses: corpus-level WER and CER from files alone, the same scorer for every number in the table."""

from __future__ import annotations

import contextlib
import functools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from rnnt import files
from rnnt.corpora import glm
from rnnt.data import languages
from rnnt.errors import UserError
from rnnt.evaluation import board, error_rate, sclite

PREDICTIONS = 1000  # utterances per test split, where they are shown
LIBRARIES = ("jiwer", "whisper-normalizer", "kaldialign")
AGAIN = "`snakemake --forcerun transcribe_split` decodes again"


def read(path: Path) -> list[dict]:
    """Hypotheses: a manifest with `pred_text`. Raises UserError naming the utterance that is none."""
    return list(rows(path))


def rows(path: Path) -> Iterator[dict]:
    """The hypotheses of `read` one by one."""
    for _, row in files.numbered_jsonl(path):
        if not all(isinstance(row.get(key), str) for key in ("id", "text", "pred_text")):
            raise UserError(f"{path}: utterance {row.get('id')}: no `text` or `pred_text`: {AGAIN}")
        yield row


def check_complete(rows: list[dict], entries: list[dict], where: str) -> None:
    """Compare hypotheses with the manifest they are to be of.

    Raises UserError naming an utterance that is missing, there twice, not in the manifest, or has another reference.
    """
    references = {entry["id"]: entry["text"] for entry in entries}
    seen: set[str] = set()
    for row in rows:
        name = row.get("id")
        if name in seen:
            raise UserError(f"{where}: utterance {name} is there twice: {AGAIN}")
        seen.add(name)
        if name not in references:
            raise UserError(f"{where}: utterance {name} is not in the manifest: hypotheses of another one? {AGAIN}")
        if row.get("text") != references[name]:
            raise UserError(f"{where}: utterance {name} has another reference than the manifest: {AGAIN}")
    missing = references.keys() - seen
    if missing:
        raise UserError(
            f"{where}: {len(missing)} utterances of the manifest are missing, such as {min(missing)}: {AGAIN}"
        )


MANY = 2000  # utterances from which on processes are worth their start


def score(
    rows: list[dict],
    decoding: dict,
    workers: int = 1,
    mapping: Path | None = None,
    language: str = "en",
    seen: set[str] = frozenset(),
) -> dict:
    """The metrics of hypotheses (`text`, `pred_text`, `duration` in seconds) and how they were made.

    WER and CER in percent, and the WER after the normaliser for `language` (BCP 47); counts over the corpus; the 95 %
    interval of the WER, and by what it is (error_rate.Interval); RTFx = seconds of audio per second of decoding. Where
    no normaliser is right, or leaves no word of the references, `wer_normalized` is None and `not_normalized` says why;
    so with `no_board` and `wer_board`, the WER as the Open ASR board counts it (board.py), which is for English alone.
    With a `mapping` file (GLM), and utterances that have an `stm`, also the WER as sclite counts it (sclite.py). `seen`
    are the ids of utterances whose text was trained on: where some are and some are not, also the WER of those that are
    not.
    Raises UserError when there is not one reference word.
    """
    references, hypotheses = [row["text"] for row in rows], [row["pred_text"] for row in rows]
    unfit = why_not = _why_not_normalized(references, language)
    with _processes(workers if len(rows) >= MANY else 1) as submit:
        characters = submit(error_rate.count, references, hypotheses, characters=True)
        words = submit(error_rate.of, rows)
        texts = references + hypotheses
        chunks = [texts[start : start + MANY] for start in range(0, len(texts), MANY) if not unfit]
        normal, on_board = [], []
        for chunk in [submit(_normalize, chunk, language) for chunk in chunks]:
            for whole, part in zip((normal, on_board), chunk.result(), strict=True):
                whole += part
        wer_board = submit(board.word_error_rate, on_board[: len(rows)], on_board[len(rows) :])
        words, characters = words.result(), characters.result()
        if not unfit and not any(normal[: len(rows)]):
            unfit = f"{normalizer_name(language)} leaves not one word of the references"
        wer_normalized = None if unfit else error_rate.count(normal[: len(rows)], normal[len(rows) :]).percent
        wer_board = wer_board.result()
    normalized = {"wer_normalized": wer_normalized, "wer_board": wer_board}
    if unfit:
        normalized["not_normalized"] = unfit
    if wer_board is None:
        normalized["no_board"] = _why_not_on_the_board(why_not, language)
    by_glm = {}
    if mapping and all("stm" in row for row in rows):
        found = sclite.count([row["stm"] for row in rows], hypotheses, glm.read(mapping), words.speakers)
        by_glm = {
            "wer_glm": found.percent,
            "wer_glm_low": found.interval().low,
            "wer_glm_high": found.interval().high,
            "glm_sha256": files.sha256(mapping),
        }
    unseen = np.array([number for number, row in enumerate(rows) if row["id"] not in seen], dtype=int)
    of_unseen = {}
    if len(unseen) < len(rows) and words[unseen].words.any():
        of_unseen = {"wer_unseen_text": words[unseen].percent, "utterances_unseen_text": len(unseen)}
    wer, interval = words.percent, words.interval()
    audio_seconds = sum(row["duration"] for row in rows)
    return {
        "wer": wer,
        "wer_low": interval.low,
        "wer_high": interval.high,
        "interval_by": interval.by,
        "cer": characters.percent,
        **normalized,
        **by_glm,
        **of_unseen,
        "substitutions": int(words.substitutions.sum()),
        "deletions": int(words.deletions.sum()),
        "insertions": int(words.insertions.sum()),
        "reference_words": int(words.words.sum()),
        "reference_characters": int(characters.words.sum()),
        "utterances": len(rows),
        "hours": round(audio_seconds / 3600, 4),
        "rtfx": round(audio_seconds / decoding["decoding_seconds"], 1),
        "scorer": f"{', '.join(f'{name} {version(name)}' for name in LIBRARIES)}, Open ASR board {board.COMMIT[:7]}",
        **decoding,
    }


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[Callable[..., Future]]:
    """A function that calls another, in a process of its own where there are several."""
    if workers == 1:

        def call(function, *arguments, **options) -> Future:
            done = Future()
            done.set_result(function(*arguments, **options))
            return done

        yield call
    else:
        with ProcessPoolExecutor(workers, get_context("fork")) as pool:
            yield pool.submit


def _why_not_normalized(references: list[str], language: str) -> str | None:
    """Why no normaliser is right for these references; None where one is."""
    if not languages.has_spaces(language):
        return (
            f"{language} is written without spaces between words, and every WER takes for a word what stands between "
            "two spaces: read cer_beam"
        )
    if languages.primary(language) == "en" and not _are_latin(references):
        return (
            f"text.language is {language}, and most letters of the references are not Latin, so that the English "
            "normaliser would take words apart: set text.language"
        )
    return None


def _why_not_on_the_board(unfit: str | None, language: str) -> str:
    """Why references that are `unfit` for a normaliser, or have no word for the board's, have no WER as the board's."""
    if languages.primary(language) != "en":
        return f"it is the Open ASR board's English scoring, and text.language is {language}"
    return unfit or "the Open ASR board's English normaliser leaves not one word of the references"


def _are_latin(texts: list[str]) -> bool:
    """Whether half of the letters are Latin."""
    letters = {c: count for c, count in Counter("".join(texts)).items() if c.isalpha()}
    latin = sum(count for c, count in letters.items() if unicodedata.name(c, "").startswith("LATIN"))
    return 2 * latin >= sum(letters.values())


def _normalize(texts: list[str], language: str) -> tuple[list[str], list[str]]:
    """Texts after the normaliser of the language, and after the Open ASR board's; no such where it is not English."""
    if languages.primary(language) != "en":
        return [normalize(text, language) for text in texts], []
    whisper, on_board = zip(*map(normalize_english, texts), strict=True)
    return list(whisper), list(on_board)


def normalizer_name(language: str) -> str:
    """What the normaliser for a language is called (Radford et al. 2022, appendix C)."""
    return f"Whisper's {'English' if languages.primary(language) == 'en' else 'basic'} text normaliser"


def normalize(text: str, language: str = "en") -> str:
    """The words of `text` in the normal form of Whisper's normaliser for the language, one space between them.

    The English one for English; the basic one for others, which takes what is in brackets, and punctuation for spaces.
    It keeps combining marks here, which Whisper's own takes for spaces too: they are the vowels of Hindi.
    """
    if languages.primary(language) == "en":
        return normalize_english(text)[0]
    return " ".join(basic_normalizer()(languages.lower(unicodedata.normalize("NFC", text), language)).split())


def normalize_english(text: str) -> tuple[str, str]:
    """The words of `text` in the normal form of Whisper's English normaliser, and in that of the Open ASR board's.

    In pieces that recur. The library takes 0.3 ms for 20 words. It is asked for the pieces between two neighbouring
    plain words instead, most of which it has seen before: nothing that it does reaches further than one plain word,
    but for the pairs that the board's joins.
    """
    text = text.lower()
    if any(sign in text for sign in "<[("):
        return " ".join(normalizer()(text).split()), " ".join(board.normalizer()(text).split())
    pieces: list[list[str]] = [[]]
    last, last_is_plain = "", False
    for word in text.split():
        plain = _is_plain(word)
        if plain and last_is_plain and not board.may_join(last, word):
            pieces.append([])
        pieces[-1].append(word)
        last, last_is_plain = word, plain
    whisper, on_board = zip(*(_normalize_piece(" ".join(piece)) for piece in pieces), strict=True)
    return " ".join(filter(None, whisper)), " ".join(filter(None, on_board))


@functools.lru_cache(maxsize=2**17)
def _normalize_piece(piece: str) -> tuple[str, str]:
    whisper = " ".join(normalizer()(piece).split())
    return whisper, whisper if board.is_as_whisper(piece, whisper) else " ".join(board.normalizer()(piece).split())


@functools.lru_cache(maxsize=2**20)
def _is_plain(word: str) -> bool:
    """A word that is none of a number, alone or with others, and is not taken away or apart."""
    if not (word.isascii() and word.isalpha()) or word == "half" or word in normalizer().standardize_numbers.words:
        return False
    return word not in board.FILLERS and _normalize_piece(word)[0].isalpha()


def predictions(split: str, hypotheses: list[dict]) -> list[dict]:
    """What is shown of a split's hypotheses: PREDICTIONS utterances, the most word errors first; without the audio."""
    errors = error_rate.of(hypotheses).errors.tolist()
    order = sorted(range(len(hypotheses)), key=lambda i: (-errors[i], hypotheses[i]["id"]))[:PREDICTIONS]
    return [
        {
            "split": split,
            "id": hypotheses[i]["id"],
            "duration": hypotheses[i]["duration"],
            "reference": hypotheses[i]["text"],
            "hypothesis": hypotheses[i]["pred_text"],
            "word_errors": errors[i],
        }
        for i in order
    ]


@functools.cache
def basic_normalizer():
    """Whisper's text normaliser for any language, with combining marks kept."""
    from whisper_normalizer.basic import BasicTextNormalizer

    return BasicTextNormalizer(preserve_marks=True)


@functools.cache
def normalizer():
    """Whisper's English text normaliser."""
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()
