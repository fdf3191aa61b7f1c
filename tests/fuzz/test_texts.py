"""Whatever a configuration, a GLM, a language model or a transcript holds: it is read right, or refused in one line."""

import functools
import gzip
import json
import re

import build_language_model
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from arpa import arpa
from conftest import ROOT
from mutations import ODD, check_cleaned, check_message, damaged, in_time, never_worse
from rnnt import config, configfile
from rnnt.corpora import glm
from rnnt.data import families, tokenizers, transcripts
from rnnt.errors import UserError
from rnnt.evaluation import language_model, sclite

SHIPPED = [
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "config").glob("*.yaml")) if path.name != "schema.yaml"
]
SCHEMA = config.load_schema(ROOT / "config/schema.yaml")
GLM = """\
;; rules of the kind NIST's file has
* name "tests.glm"
* max_nrules = '2500'
* case_sensitive = 'F'

UH      =>  %HESITATION  / [ ] __ [ ] ;; hesitation token
T.      =>  TEE / __ [ SHIRT] ;; a context of more than white space
FALKNER => FAULKNER / [WILLIAM ] __
[MOM] => [{MOM / MUM / OLD MOTHER}] / [ ] __ [ ]
;; INPUT_DEPENDENT_APPLICATION = "ctm"
[HE'S] => [{HE'S / HE IS / HE HAS}] / [ ] __ [ ] ;; a/b
;; INPUT_DEPENDENT_APPLICATION = "stm|ref"
[HE'S] => [HE IS] / [ ] __ [ ]
"""
WORDS = [*"UH T. MOM HE'S (I-) {A / B} UH-HUH @ ( ) { } / - <B_ASIDE> ((X)".split(), "{ " * 999 + "A" + " }" * 999]
WORDS = st.lists(st.sampled_from([*WORDS, *(text for text in ODD if len(text) < 12)]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("texts")


def check_configuration(path):
    """Read it as Snakemake does; what is valid is complete, and stays as it is."""
    from snakemake.common.configfile import load_configfile

    never_worse(configfile.check, [path], names=[path])
    try:
        configfile.check([path])
    except UserError:
        return
    with in_time():
        read = load_configfile(path)
        try:
            valid = config.validate(read, SCHEMA)
        except UserError as error:
            check_message(str(error), ["config: ", "config "])
            return
    assert config.validate(valid, SCHEMA) == valid
    json.dumps(valid, allow_nan=False).encode()
    for dataset in valid["datasets"]:
        sections = config.dataset_config(valid, dataset, *config.SHARED_SECTIONS)
        assert config.beam_width(sections["evaluation"]["beam"]) > 0
        config.as_argument(sections).encode()


@given(data=damaged(*SHIPPED))
def test_configuration_files(folder, data):
    (folder / "mine.yaml").write_bytes(data)
    check_configuration(folder / "mine.yaml")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(ODD), st.text(max_size=8)),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
    max_leaves=5,
)


@functools.cache
def known_keys():
    """All names of keys that the schema has, and the words it allows."""
    found = set()

    def walk(node):
        if isinstance(node, dict):
            found.update(node.get("properties", {}), map(str, node.get("enum", [])))
            for child in node.values():
                walk(child)
        elif isinstance(node, list):
            for child in node:
                walk(child)

    walk(SCHEMA)
    return sorted(found)


@given(data=st.data())
def test_configurations_with_any_values(folder, data):
    given = yaml.safe_load(data.draw(st.sampled_from(SHIPPED)))
    for _ in range(data.draw(st.integers(1, 3))):
        place = given
        while True:
            keys = sorted(place)
            key = data.draw(st.sampled_from(keys) if keys else st.sampled_from(known_keys()))
            if not isinstance(place.get(key), dict) or data.draw(st.booleans()):
                break
            place = place[key]
        key = data.draw(st.sampled_from([key, key, *known_keys()]))
        place[key] = data.draw(VALUES | st.sampled_from(known_keys()))
    (folder / "mine.json").write_text(json.dumps(given))
    check_configuration(folder / "mine.json")


@given(
    data=damaged(GLM), references=st.lists(WORDS.map(" ".join), min_size=1, max_size=2), hypothesis=WORDS.map(" ".join)
)
def test_global_mapping_files(folder, data, references, hypothesis):
    (folder / "tests.glm").write_bytes(data)
    rules = never_worse(glm.read, folder / "tests.glm", names=[folder / "tests.glm"])
    assume(rules)
    pairs = references, [hypothesis] * len(references)
    found = never_worse(sclite.count, *pairs, rules, names=["reference"])
    assert found is None or (found.words >= found.substitutions + found.deletions).all()


@pytest.fixture(scope="module")
def language_models(tmp_path_factory):
    return [arpa(tmp_path_factory.mktemp("arpa") / "x.arpa", [[0, 1, 2], [2, 3, 1]], 8).read_bytes()]


@given(data=st.data())
def test_language_models(folder, language_models, data):
    (folder / "x.arpa").write_bytes(data.draw(damaged(*language_models)))
    never_worse(language_model.check_file, folder / "x.arpa", 8, names=[folder / "x.arpa"])


@given(data=st.data(), name=st.sampled_from(["words.txt", "words.txt.gz"]))
def test_texts_of_a_language_model(folder, data, name):
    text = b"one two\n\nthree\n"
    (folder / name).write_bytes(data.draw(damaged(gzip.compress(text, mtime=0) if name.endswith("gz") else text)))
    lines = never_worse(build_language_model.read, folder / name, names=[folder / name])
    assert lines is None or all(line.strip() for line in lines)


TAGS = re.findall(
    r"[^\s\\]+", " ".join(text for rules in transcripts.RULES.values() for r in rules for text in r.examples)
)
TEXTS = st.lists(st.sampled_from([*TAGS, *ODD, *" '\"-()[]{}<>/~._"]) | st.text(max_size=6), max_size=8)
LANGUAGES = st.sampled_from(["en", "tr", "az-Latn", "lt", "el", "de", "hi", "fa", "mn", "zh-Hans", "und", "x-private"])


@given(
    text=st.tuples(st.sampled_from(["", " "]), TEXTS).map(lambda pair: pair[0].join(pair[1])),
    case=st.sampled_from(["lower", "keep"]),
    rules=st.sampled_from(sorted(transcripts.RULES)),
    language=LANGUAGES,
)
def test_transcripts(text, case, rules, language):
    with in_time():
        cleaned, fired = transcripts.clean(text, case, rules, language)
        again = transcripts.clean(cleaned, case, "none", language)[0]
    known = {rule.name for rule in [*transcripts.BEFORE, *transcripts.RULES[rules]]}
    assert set(fired) <= known
    if not any("\ud800" <= sign <= "\udfff" for sign in text):  # which no reader lets pass
        check_cleaned(cleaned)
        assert again == cleaned


@given(text=st.text(), language=st.text(max_size=6))
def test_language_tags(text, language):
    """What the schema takes for a tag is one that the cleaning knows what to do with."""
    assert isinstance(transcripts.clean(text, "lower", "none", language)[0], str)


@given(data=st.data())
def test_model_files(folder, models, data):
    (folder / "x.nemo").write_bytes(data.draw(damaged(*models)))
    for reader in (tokenizers.from_nemo, tokenizers.joint_outputs, tokenizers.check_nemo, families.of_nemo):
        never_worse(reader, folder / "x.nemo", names=[folder / "x.nemo"])


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A `.nemo` file as it is packed, with small contents."""
    import io
    import tarfile

    single = b"tokenizer:\n  type: bpe\n  dir: tok\njoint: {num_classes: 8}\nloss: {loss_name: tdt}\n"
    several = (
        b"tokenizer: {type: agg, langs: {en: {model_path: 'nemo:0a1b_tokenizer.model'}}}\naux_ctc: {decoder: {}}\n"
    )
    made = []
    for mode, of_model in (("w", single), ("w:gz", single), ("w", several)):
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode=mode) as archive:
            for name, content in (
                ("./model_config.yaml", of_model),
                ("./model_weights.ckpt", bytes(200)),
                ("./0a1b_tokenizer.model", tokenizers.train(["one two three four", "five six seven"], 20)),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        made.append(packed.getvalue())
    return made
