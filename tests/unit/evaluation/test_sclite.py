"""Scoring as NIST's tools do it: the rules of a GLM, optional words, alternations, fragments; sclite is the oracle."""

import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from conftest import SHARED_DATA
from rnnt.corpora import glm
from rnnt.errors import UserError
from rnnt.evaluation import sclite

GLM = """\
;; rules of the kind NIST's file has
* name "tests.glm"
* desc = 'rules of the tests'
* format = 'NIST1'
* max_nrules = '2500'
* copy_no_hit = 'T'
* case_sensitive = 'F'

UH      =>  %HESITATION  / [ ] __ [ ] ;; hesitation token
UM      =>  (%HESITATION)  / [ ] __ [ ] ;; free to be missed
UH-HUH  =>  %BCACK       / [ ] __ [ ] ;; affirmative token
gonna   =>  GOING TO     / [ ] __ [ ] ;; lower case too
T.      =>  TEE / __ [ SHIRT] ;; a context of more than white space
FALKNER => FAULKNER / [WILLIAM ] __
BACKUP  => BACK UP
[MOM] => [{MOM / MUM / OLD MOTHER}] / [ ] __ [ ]
[WELL-OFF] => [{RICH / @}] / [ ] __ [ ] ;; rich, or nothing
;; INPUT_DEPENDENT_APPLICATION = "ctm"
[HE'S] => [{HE'S / HE IS / HE HAS}] / [ ] __ [ ] ;; a/b
;; INPUT_DEPENDENT_APPLICATION = "stm|ref"
[HE'S] => [HE IS] / [ ] __ [ ]
"""


@pytest.fixture
def rules(tmp_path):
    return glm.read(written(tmp_path))


def written(folder, text=GLM):
    (folder / "tests.glm").write_text(text)
    return folder / "tests.glm"


def counts(rules, *pairs):
    """Substitutions, deletions, insertions and reference words."""
    found = sclite.count(*map(list, zip(*pairs, strict=True)), rules)
    assert len(found.words) == len(pairs)
    return tuple(int(each.sum()) for each in (found.substitutions, found.deletions, found.insertions, found.words))


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("%HESITATION YES UH-HUH", "uh yes uh-huh", (0, 0, 0, 3)),
        ("I'M GONNA GO", "i'm going to go", (0, 0, 0, 4)),
        ("WELL-KNOWN FACE", "well known face", (0, 0, 0, 3)),
        ("BACKUPS", "back ups", (0, 0, 0, 2)),  # a rule without contexts holds within a word
        ("T. SHIRT", "tee shirt", (0, 0, 0, 2)),
        ("T. CELL", "tee cell", (1, 0, 0, 2)),
        ("WILLIAM FALKNER AND FALKNER", "william faulkner and faulkner", (1, 0, 0, 4)),
        ("A B C", "a x c d", (1, 0, 1, 3)),
        ("A B C", "", (0, 3, 0, 3)),
    ],
)
def test_rules_and_hyphens(rules, reference, hypothesis, expected):
    assert counts(rules, (reference, hypothesis)) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("(%HESITATION) YES", "yes", (0, 0, 0, 2)),  # a reference word, and correct
        ("(%HESITATION) YES", "uh yes", (0, 0, 0, 2)),
        ("(%HESITATION) YES", "er yes", (1, 0, 0, 2)),
        ("(I MEAN) YES", "mean yes", (0, 0, 0, 3)),
        ("YES", "um yes", (0, 0, 0, 2)),  # optional in the hypothesis: sclite counts it with the reference
        ("((I-) YES <B_ASIDE> NO <E_ASIDE>", "yes no", (0, 0, 0, 3)),
    ],
)
def test_an_optional_word_may_be_missed_or_said(rules, reference, hypothesis, expected):
    assert counts(rules, (reference, hypothesis)) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("MOM SAYS", "mum says", (0, 0, 0, 2)),
        ("MOM SAYS", "old mother says", (0, 0, 0, 3)),  # every word of the alternative that was chosen counts
        ("MOM SAYS", "says", (0, 1, 0, 2)),
        ("WELL-OFF PEOPLE", "people", (0, 0, 0, 1)),
        ("{ONE / @} MOTHER", "well-off mother", (0, 0, 0, 1)),  # nothing on both sides is no word
        ("{ONE / A {B / C D}} END", "a c d end", (0, 0, 0, 4)),
        ("HE HAS GONE", "he's gone", (0, 0, 0, 3)),
        ("HE'S GONE", "he is gone", (0, 0, 0, 3)),
        ("HE'S GONE", "he has gone", (1, 0, 0, 3)),  # the reference is one reading, the hypothesis any
    ],
)
def test_alternations_on_either_side(rules, reference, hypothesis, expected):
    assert counts(rules, (reference, hypothesis)) == expected


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("TH- THE DOOR", "this the door", (0, 0, 0, 3)),
        ("(TH-) THE DOOR", "this the door", (0, 0, 0, 3)),
        ("(TH-) THE DOOR", "a the door", (1, 0, 0, 3)),
        ("-ING IS", "going is", (0, 0, 0, 2)),
        ("THING IS", "th- is", (0, 0, 0, 2)),
    ],
)
def test_a_fragment_is_any_word_it_may_be_of(rules, reference, hypothesis, expected):
    assert counts(rules, (reference, hypothesis)) == expected


def test_counts_are_over_the_corpus(rules):
    assert counts(rules, ("A B", "a"), ("C", "d e"), ("UH", "")) == (1, 2, 1, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("UH => X\n", "tests.glm:1: expected a comment"),
        ("", "tests.glm:1: expected a comment"),
        (";; x\nUH X\n", "tests.glm:2: expected SOURCE => TARGET"),
        (";; x\n\n  ;; y\n", "tests.glm:3: expected SOURCE => TARGET"),
        (";; x\n* case_sensitive = F\n", "tests.glm:2: expected a quoted value"),
        (";; x\n* format = 'NIST2'\n", "tests.glm:2: expected format 'NIST1'"),
        (";; x\n* max_nrules = 'many'\n", "tests.glm:2: expected format 'NIST1' and a number"),
        (";; x\n* max_nrules = '1'\nA => B\nC => D\n", "tests.glm:4: more than 1 rules"),
        (f";; x\nA => B ;; {'y' * 130}\n", "tests.glm:2: rfilter1 reads at most 131 characters"),
        (';; x\n;; INPUT_DEPENDENT_APPLICATION = "("\n', r"tests.glm:2: not a regular expression: \("),
        (f';; x\n;; INPUT_DEPENDENT_APPLICATION = "{"(" * 5000}"\n', r"tests.glm:2: not a regular expression: \(\("),
        (';; x\n;; INPUT_DEPENDENT_APPLICATION = "a{99999999999}"\n', r"tests.glm:2: not a regular expression: a{9"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(UserError, match=message) as caught:
        glm.read(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(UserError, match="none.glm: cannot read it: No such file"):
        glm.read(tmp_path / "none.glm")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("(I YES", r"reference '\(I YES': its parentheses do not match"),
        ("{A / B", "reference '{A / B': its braces do not match"),
        ("A } B", "reference 'A } B': its braces do not match"),
        ("(MOM) YES", r"reference '\(MOM\) YES': the GLM puts an alternation in parentheses"),
        ("{ " * 999 + "A" + " }" * 999, "its braces are nested deeper than 50 levels"),
        ("", "not one reference word"),
    ],
)
def test_a_reference_that_cannot_be_scored_is_named(rules, reference, message):
    with pytest.raises(UserError, match=message):
        _ = sclite.count([reference], ["yes"], rules).percent


HUB5 = SHARED_DATA / "corpora" / "eval2000" / "LDC2002T43" / "reference"


@pytest.mark.shared_data
@pytest.mark.skipif(not HUB5.is_dir(), reason="no ../shared/data/corpora/eval2000 here")
def test_files_of_hub5_are_read():
    rules = glm.read(HUB5 / "en20000405_hub5.glm")
    lines = (HUB5 / "hub5e00.english.000405.stm").read_text().splitlines()
    references = [line.split(maxsplit=6)[6] for line in lines if not line.startswith(";;") and "IGNORE_" not in line]
    said = [re.sub("[()]", "", text).replace("%HESITATION", "%ah").lower() for text in references]
    words = sum(len(text.replace("uh-huh", "uh huh").split()) for text in said)
    assert counts(rules, *zip(references, said, strict=True)) == (0, 0, 0, words)
    fluent = [re.sub(r"\([^)]*\)", "", text) for text in references]
    assert counts(rules, *zip(references, fluent, strict=True)) == (0, 0, 0, words)
    needed = sum(len(text.replace("UH-HUH", "UH HUH").split()) for text in fluent)
    assert counts(rules, *((text, "") for text in references)) == (0, needed, 0, words)


SCTK = Path("/usr/lib/sctk/bin")
LABELS = "".join(f';; LABEL "{name}" "{name}" "{name}"\n' for name in ("O", "sw", "F", "sw-F"))


def hubscr(folder, rules, references, hypotheses):
    """The counts of hubscr.pl, from the raw summary that sclite writes."""
    stm, ctm = [f';; CATEGORY "0" "" ""\n{LABELS}'], []
    for number, (reference, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        start, words = 10 * number, hypothesis.split()
        stm.append(f"sw_1 A sw_1_A {start:.2f} {start + 9:.2f} <O,sw,F,sw-F> {reference}\n")
        for place, word in enumerate(words):
            ctm.append(f"sw_1 A {start + 0.5 + 8 * place / len(words):.3f} {7 / len(words):.3f} {word} 1.00\n")
    (folder / "ref.stm").write_text("".join(stm))
    (folder / "hyp.ctm").write_text("".join(ctm))
    command = [SCTK / "hubscr.pl", "-V", "-l", "english", "-h", "hub5", "-g", rules, "-r", "ref.stm", "hyp.ctm"]
    environment = {**os.environ, "PATH": f"{SCTK}:{os.environ['PATH']}"}
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    printed = (folder / "hyp.ctm.filt.raw").read_text()
    line = next(line for line in printed.splitlines() if line.strip().startswith("| Sum"))
    sentences, words, _, substitutions, deletions, insertions = map(int, re.findall(r"\d+", line)[:6])
    assert sentences == len(references)
    return substitutions, deletions, insertions, words


def utterances(draw, number):
    """Random references of an STM, and hypotheses that miss, add and mistake words."""
    vocabulary = "A B C I IT UH UM UH-HUH HE'S HE IS GONNA BACKUP T. SHIRT WELL-KNOWN X-Y-Z TH- TH THE THEM -ING THING"
    words = [*vocabulary.split(), "GOING", "OLD", "MOTHER", "MUM", "%HESITATION", "RICH"]
    shapes = ["{0}"] * 8 + [
        "MOM",
        "WELL-OFF",
        "({0})",
        "({0} {1})",
        "{{{0} / {1} {2} / @}}",
        "{{ {0} / {{{1} / {2}}} }}",
    ]

    def mistaken(word):
        return draw.choices([[word], [], [draw.choice(words)], [word, draw.choice(words)]], [14, 2, 3, 1])[0]

    for _ in range(number):
        reference, hypothesis = [], []
        for shape in draw.choices(shapes, k=draw.randint(1, 9)):
            reference.append(shape.format(*draw.choices(words, k=3)))
            spoken = re.sub("[()]", "", reference[-1]).strip("{}").split(" / ")
            hypothesis += [new for word in draw.choice(spoken).strip("{} @").split() for new in mistaken(word)]
        yield " ".join(reference), " ".join(hypothesis).lower()


@pytest.mark.skipif(not (SCTK / "hubscr.pl").is_file(), reason="needs hubscr.pl, of Debian's package sctk")
@pytest.mark.parametrize("seed", [1, 2])
def test_the_counts_are_those_of_hubscr(tmp_path, seed):
    pairs = list(utterances(random.Random(seed), 400))
    path = written(tmp_path)
    theirs = hubscr(tmp_path, path, *zip(*pairs, strict=True))
    assert counts(glm.read(path), *pairs) == theirs
    assert min(theirs) > 100


@pytest.mark.skipif(not (SCTK / "rfilter1").is_file(), reason="needs rfilter1, of Debian's package sctk")
def test_odd_rules_are_read_as_rfilter1_reads_them(tmp_path):
    odd = """A => B ;; x / [ ] __ [ ]|B=> C|C =>D|D =>D E|[E F] => [ G ]|F => [H/I]|G => {I / J}|H => [{I / J}]
        |"Q" => "R " / [ ] __ [ ]|K => L / [ ]__[ ]|L => M /[ ] __ [ ]|/SLASH => S|[M/N] => [O]|N => / [ ] __ [ ]
        |O =>|P_Q => R_S / [X_] __ [ ]|R => S / __ [ T]|T => U / [ ] __|V => W / [ ] _ Y|1 => 2 => 3|=> 4|[  ] => [ ]
        |i => j"""
    odd, draw = [line.strip() for line in odd.split("|")], random.Random(7)
    pieces = [" ", " ", "  ", "E F", "M/N", "P_Q", "X_P_Q ", "/SLASH", *"ABCDFGHIKLNOQRTVXY1/_"]
    for _ in range(30):
        header = f"* case_sensitive = '{draw.choice('TF')}'\n* COPY_NO_HIT : \"{draw.choice(['T', 'yes', 'No'])}\"\n"
        path = written(tmp_path, f";; odd\n{header}{chr(10).join(draw.sample(odd, 9))}\n")
        texts = [f"  {''.join(draw.choices(pieces, k=12))}  " for _ in range(40)]
        given = "".join(f"{text}\n" for text in texts)
        theirs = subprocess.run([SCTK / "rfilter1", path], input=given, capture_output=True, text=True, check=True)
        rules = glm.read(path).reference
        assert "".join(rules.apply(f"{text}\n") for text in texts) == theirs.stdout
