"""Every kind of transducer that people fine-tune, through zero-shot search, training across a kill, and evaluation."""

import itertools
import random
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import safetensors.torch
import torch
import yaml

import nemo_files
from arpa import arpa
from conftest import run_script
from legs import difference, train, weights
from rnnt import files
from rnnt.data import families, manifests, tokenizers
from rnnt.errors import UserError
from rnnt.evaluation import decoding, suspects
from rnnt.training import batching, callbacks, legs, memory, models, preflight
from rnnt.training.batching import Bucket

SEARCHED = sorted(nemo_files.FAMILIES.keys() - {"prompt", "prompt hybrid"})
TRAINED = sorted(set(SEARCHED) - {"multi-blank"})
GREEDY = {"strategy": "greedy_batch", "max_symbols": 3}


@pytest.fixture(scope="module")
def few(prepared, tmp_path_factory):
    """The shortest utterances, for these many trainings, and their tokenizer."""
    folder = tmp_path_factory.mktemp("few")
    rows = sorted(manifests.read(prepared / "train.jsonl"), key=lambda row: row["duration"])[:6]
    manifests.write(folder / "train.jsonl", sorted(rows, key=lambda row: row["id"]))
    (folder / "tokenizer").symlink_to(prepared / "tokenizer")
    return folder


def hear(model, seconds=1.0):
    """What a model finds in a second of noise, and in half a second."""
    rate = model.cfg.sample_rate
    torch.manual_seed(3)
    audio = 0.1 * torch.randn(2, int(seconds * rate))
    with torch.inference_mode():
        return decoding._search(model.eval(), audio, torch.tensor([1, 0.5]).mul(seconds * rate).long())


@pytest.mark.parametrize("name", SEARCHED)
def test_every_search_works_or_is_refused_in_one_line_with_those_that_do(bases, name):
    model = models.restore(bases(name))
    family = families.of_nemo(bases(name))
    assert family == models.family(model), "by the file alone, and by the model"
    durations = model.joint.num_extra_outputs if family.loss == "tdt" else 0  # which follow the blank
    for strategy in families.SEARCHES:
        search = {"strategy": strategy} | ({"max_symbols": 3} if strategy in decoding.GREEDY else {"beam_size": 2})
        if strategy in family.searches:
            decoding.set_search(model, search)
            assert len(hear(model)) == 2, strategy
            assert model.decoding.blank_id == model.joint.num_classes_with_blank - 1 - durations
        else:
            with pytest.raises(UserError, match=f"evaluation.beam: {strategy} does not work with a ") as error:
                decoding.set_search(model, search)
            assert "\n" not in str(error.value)
            known = set(str(error.value).rpartition(": take ")[2].split(", "))
            assert known == set(family.searches) - {"greedy", "greedy_batch"} or name == "multi-blank"
            with pytest.raises(NotImplementedError):  # or the table is behind NeMo
                model.change_decoding_strategy({"strategy": strategy, "beam": {"beam_size": 2}}, verbose=False)
                hear(model)


def test_an_aggregate_tokenizer_writes_its_text_as_any_other_does(bases):
    """NeMo's own begins with a space."""
    model = models.restore(bases("aggregate"))
    own = tokenizers.load(tokenizers.from_nemo(bases("aggregate"), "en"))
    for ids, text in ((own.encode("one two"), "one two"), (own.encode("one two")[1:], None), ([], "")):
        assert model.decoding.decode_ids_to_str(ids) == (own.decode(ids) if text is None else text)


@pytest.mark.parametrize("name", ["aggregate", "hybrid tdt"])
def test_a_language_model_is_fused_over_the_tokens_that_the_pipeline_s_tokenizer_has(bases, few, tmp_path, name):
    model, own = models.restore(bases(name)), tokenizers.from_nemo(bases(name), "en")
    tokenizers.write(tmp_path, own)
    processor = tokenizers.load(own)
    sentences = [processor.encode(row["text"]) for row in manifests.read(few / "train.jsonl")]
    path = arpa(tmp_path / "digits.arpa", sentences, processor.get_piece_size())
    search = {"strategy": "malsd_batch", "beam_size": 2, "lm_weight": 0.3}
    decoding.set_search(model, search, path, few / "train.jsonl", tmp_path / "tokenizer.model")
    assert len(hear(model)) == 2


def killed_at(step):
    """A training that dies at the end of a step, behind its rolling checkpoint."""
    before = callbacks.LegEnd.on_step_end

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == step + 1:
            raise KeyboardInterrupt
        return before(self, args, state, control, **kwargs)

    return on_step_end


def killed_in_the_third_leg(monkeypatch, few, folder, **options):
    """Train three legs, the third of which dies and goes on; the model and the leg's folder."""
    previous = None
    for leg in (1, 2, 3):
        run = folder / f"leg{leg}"
        if leg == 3:
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(callbacks.LegEnd, "on_step_end", killed_at(4))
                train(few, run, leg, 3, 5, previous, checkpoint_every_steps=1, **options)
        model, previous = train(few, run, leg, 3, 5, previous, checkpoint_every_steps=1, **options)
    return model, previous


@pytest.mark.parametrize("name, tokenizer", [
    *((name, tokenizer) for name in TRAINED for tokenizer in ("own", "new")), ("hybrid tdt", "extended"),
])  # fmt: skip
def test_a_training_that_is_killed_in_its_third_leg_ends_with_the_same_model(
    bases, few, tmp_path, monkeypatch, name, tokenizer
):
    base = bases(name)
    options = {"base": base, **({"transducer": "nemo", "batch_budget": 1} if name == "hat" else {"batch_budget": 4})}
    if tokenizer == "new":
        options |= {"reinitialize": True}
    else:
        own = tokenizers.from_nemo(base, "en")
        tokenizers.write(tmp_path / "own", own if tokenizer == "own" else tokenizers.extend(own, ["ü€"])[0])
        options |= {"tokenizer": tmp_path / "own"}
    model, done = killed_in_the_third_leg(monkeypatch, few, tmp_path, **options)
    if tokenizer != "own":  # whose parameters stay in their order: test_legs.py
        whole, _ = train(few, tmp_path / "whole", steps=5, **options)
        assert difference(model, whole) <= 1e-6
    exported = models.restore(done / "model.nemo")
    assert models.family(exported) == families.of_nemo(base) and type(exported).__name__ == families.of_nemo(base).name
    decoding.set_search(exported, GREEDY)
    decoding.set_search(model, GREEDY)
    assert hear(exported) == hear(model)
    known = tokenizers.load(tokenizers.from_nemo(done / "model.nemo", "en")).get_piece_size()
    assert known == exported.tokenizer.vocab_size == exported.decoder.vocab_size
    assert models.count_parameters(exported) == models.count_parameters(model)


def noise(model, utterances=2, tokens=6):
    """A batch of noise, of a second and half of one, and some tokens."""
    step = legs.Transducer(model, "fused")
    torch.manual_seed(7)
    batch = memory.noise(step, utterances, 1.0, tokens)
    batch["audio_lengths"][-1] //= 2
    batch["token_lengths"][-1] -= 2
    return batch


@pytest.mark.parametrize("name", ["fastconformer", "stateless", "fastconformer tdt", "hybrid tdt", "hat"])
def test_an_extended_model_gives_old_tokens_and_blank_the_same_logits_to_the_bit(bases, tmp_path, name):
    old, new = models.restore(bases(name)).eval(), models.restore(bases(name))
    known, added = old.tokenizer.vocab_size, 2
    tokenizers.write(tmp_path, tokenizers.extend(tokenizers.from_nemo(bases(name)), ["ü€"])[0])
    models.adapt(new, tmp_path, reinitialize_decoder=False)
    assert new.eval().tokenizer.vocab_size == known + added and models.family(new) == models.family(old)
    batch, found = noise(old), []
    for model in (old, new):
        with torch.inference_mode():
            step = legs.Transducer(model, "nemo")
            encoded, _, decoded, _ = step.encode(**batch)
            hidden = model.joint.enc(encoded.mT)[:, :, None] + model.joint.pred(decoded.mT)[:, None]
            found.append([model.joint.joint_net(hidden)])
            if name == "hybrid tdt":
                found[-1].append(model.ctc_decoder.decoder_layers(encoded).mT)
    for theirs, ours in zip(*found, strict=True):
        assert ours.shape[-1] == theirs.shape[-1] + added
        assert torch.equal(ours[..., :known], theirs[..., :known]), "old tokens"
        assert torch.equal(ours[..., known + added :], theirs[..., known:]), "the blank, durations"
        average = theirs[..., :known].softmax(-1).mean(-1, keepdim=True).log() + theirs[..., :known].logsumexp(-1, True)
        assert (ours[..., known : known + added] <= average + 1e-5).all(), "no more probable than an old one on average"
    loss, durations = new.loss._loss, getattr(old.loss._loss, "durations", None)
    assert loss.blank == known + added and getattr(loss, "durations", None) == durations
    assert getattr(loss, "sigma", None) == getattr(old.loss._loss, "sigma", None)


def test_new_tokens_are_learned_and_the_old_ones_kept(bases, few, tmp_path):
    """The transcripts have a letter that the model has not: at first it hardly writes it, then as likely as others."""
    base, folder = bases("fastconformer"), tmp_path / "data"
    rows = [{**row, "text": row["text"].replace("e", "é")} for row in manifests.read(few / "train.jsonl")]
    folder.mkdir()
    manifests.write(folder / "train.jsonl", rows)
    model, characters = tokenizers.extend(tokenizers.from_nemo(base), [row["text"] for row in rows])
    assert characters == "é"
    tokenizers.write(folder / "tokenizer", model)
    options = {"base": base, "batch_budget": 8, "learning_rate": 0.01}
    start, _ = train(folder, tmp_path / "start", steps=1, **{**options, "learning_rate": 1e-9})
    tuned, _ = train(folder, tmp_path / "tuned", steps=30, **options)
    before, after = (share_of_last_token(model) for model in (start, tuned))
    assert before < 1 / 24 and after > 2 * before


def share_of_last_token(model):
    """The mean probability of the last token among the tokens, over the cells of some noise."""
    with torch.inference_mode():
        encoded, _, decoded, _ = legs.Transducer(model.eval(), "nemo").encode(**noise(model))
        tokens = model.joint(encoder_outputs=encoded, decoder_outputs=decoded)[..., : model.tokenizer.vocab_size]
    return tokens.softmax(-1)[..., -1].mean().item()


def test_an_architecture_with_a_ctc_head_is_built_as_a_hybrid(few, tmp_path, monkeypatch):
    config = yaml.safe_load(models.architecture_file("contextnet_dummy").read_text()) | nemo_files.CTC
    (tmp_path / "hybrid_dummy.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(models, "ARCHITECTURES", tmp_path)
    model, done = train(few, tmp_path / "run", steps=1, architecture="hybrid_dummy")
    assert type(model).__name__ == type(models.restore(done / "model.nemo")).__name__ == "EncDecHybridRNNTCTCBPEModel"
    assert files.read_json(done / "leg.json")["ctc_weight"] == 0.3


@pytest.mark.parametrize("weight", [None, 0.7, 0.0])
def test_a_hybrid_s_loss_is_that_of_nemo_s_own_training_step(bases, few, tmp_path, weight):
    model = models.restore(bases("hybrid")).eval()  # without dropout and augmentation
    batch = noise(model)
    settled = legs.settle_ctc_weight(models.family(model), weight)
    ours = legs.Transducer(model, "fused", ctc_weight=settled)(**batch)["loss"]
    model._trainer = SimpleNamespace(log_every_n_steps=10**9, global_step=0)
    model._optimizer = SimpleNamespace(param_groups=[{"lr": 0.0}])
    model.log_dict = lambda *_: None
    if weight is not None:
        model.ctc_loss_weight = weight
    theirs = model.training_step(tuple(batch.values()), 0)["loss"]
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)


def test_the_ctc_head_learns_unless_its_weight_is_0_and_the_weight_changes_the_rest(bases, few, tmp_path):
    tokenizers.write(tmp_path / "own", tokenizers.from_nemo(bases("hybrid")))
    options = {"base": bases("hybrid"), "tokenizer": tmp_path / "own", "steps": 2}
    start = models.restore(bases("hybrid"))
    tuned = {}
    for weight in (None, 0.3, 0.6, 0.0):
        tuned[weight], done = train(few, tmp_path / str(weight), ctc_weight=weight, **options)
        report = files.read_json(done / "leg.json")
        assert report["ctc_weight"] == (0.3 if weight is None else weight)
        assert report["family"] == "RNN-T (transducer) model with a CTC head"
        head, before = (torch.cat([p.flatten() for p in m.ctc_decoder.parameters()]) for m in (tuned[weight], start))
        assert torch.equal(head, before) is (weight == 0)
    assert torch.equal(weights(tuned[None]), weights(tuned[0.3])), "null: the model's own"
    assert difference(tuned[0.6], tuned[0.3]) > 1e-6 and difference(tuned[0.0], tuned[0.3]) > 1e-6


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_8bit"])
def test_all_that_a_leg_hands_on_survives_a_kill(few, tmp_path, monkeypatch, optimizer):
    """CTC head, mean of the weights and rates of their own, dropout and augmentation."""
    options = {"ctc_weight": 0.3, "averaging": 1.0, "encoder_learning_rate": 0.0005, "optimizer": optimizer}
    options |= {"architecture": "contextnet_dummy", "warmup_steps": 0.3}
    _, killed = killed_in_the_third_leg(monkeypatch, few, tmp_path / "killed", **options)
    previous = None
    for leg in (1, 2, 3):
        _, previous = train(few, tmp_path / f"whole{leg}", leg, 3, 5, previous, **options)
    for name in ("model.safetensors", "averaged.safetensors"):
        ours, theirs = (safetensors.torch.load_file(folder / "trainer" / name) for folder in (killed, previous))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours), name
    last, mean = (
        safetensors.torch.load_file(killed / "trainer" / name) for name in ("model.safetensors", "averaged.safetensors")
    )
    assert not torch.equal(last["model.joint.pred.weight"], mean["model.joint.pred.weight"])


@pytest.mark.parametrize("name", ["contextnet", "stateless", "fastconformer tdt"])
def test_a_transducer_gets_a_ctc_head_for_the_training_alone(bases, few, tmp_path, monkeypatch, name):
    tokenizers.write(tmp_path / "own", tokenizers.from_nemo(bases(name)))
    options = {"base": bases(name), "tokenizer": tmp_path / "own"}
    model, done = killed_in_the_third_leg(monkeypatch, few, tmp_path / "killed", ctc_weight=0.3, **options)
    whole, whole_done = train(few, tmp_path / "whole", steps=5, ctc_weight=0.3, **options)
    assert difference(model, whole) <= 1e-6
    heads = [safetensors.torch.load_file(folder / "trainer/model.safetensors") for folder in (done, whole_done)]
    (ours, theirs) = ([value for key, value in head.items() if "ctc_decoder" in key] for head in heads)
    assert len(ours) == 2 and all(torch.allclose(a, b, atol=1e-6) for a, b in zip(ours, theirs, strict=True))
    state = torch.load(done / "trainer/optimizer.pt", weights_only=True)["state"]
    assert {name for name in state if "ctc_decoder" in name} == {key for key in heads[0] if "ctc_decoder" in key}
    exported = models.restore(done / "model.nemo")
    assert models.family(exported) == families.of_nemo(bases(name)) and torch.equal(weights(exported), weights(model))
    report = files.read_json(done / "leg.json")
    assert report["ctc_weight"] == 0.3 and "CTC" not in report["family"]
    assert report["parameters"] == models.count_parameters(exported)

    plain, plain_done = train(few, tmp_path / "plain", steps=5, ctc_weight=0.0, **options)
    without, _ = train(few, tmp_path / "without", steps=5, **options)
    assert torch.equal(weights(plain), weights(without)), "0: none"
    assert difference(without, whole) > 1e-4 and "ctc_weight" not in files.read_json(plain_done / "leg.json")


def test_the_losses_of_transducer_and_ctc_head_are_logged_apart(bases, few, tmp_path):
    _, done = train(few, tmp_path / "run", base=bases("contextnet"), ctc_weight=0.2, reinitialize=True)
    rows = [r for r in files.read_json(done / "trainer/trainer_state.json")["log_history"] if "loss" in r]
    assert len(rows) == 6
    for row in rows:
        assert row["loss"] == pytest.approx(0.8 * row["transducer_loss"] + 0.2 * row["ctc_loss"], rel=1e-4)
    assert rows[0]["ctc_loss"] != rows[1]["ctc_loss"]


def test_a_head_of_ours_weighs_as_a_hybrid_s_own(bases):
    """The same weights in a plain model with a head, and in NeMo's hybrid."""
    hybrid, plain = models.restore(bases("hybrid")).eval(), models.restore(bases("fastconformer")).eval()
    models.add_ctc_head(plain)
    plain.load_state_dict(hybrid.state_dict())
    batch = noise(hybrid)
    ours, theirs = (legs.Transducer(model, "fused", ctc_weight=0.3)(**batch)["loss"] for model in (plain, hybrid))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)


def test_an_utterance_too_short_for_ctc_leaves_the_loss_finite_and_is_counted(bases, few, log):
    model = models.restore(bases("contextnet"))
    models.add_ctc_head(model)
    step = legs.Transducer(model, "fused", ctc_weight=0.3)
    step(**memory.noise(step, 2, 0.2, 30))["loss"].backward()
    assert step.losses["ctc_loss"] == 0 and torch.isfinite(step.losses["transducer_loss"])
    assert all(torch.isfinite(p.grad).all() for p in step.parameters() if p.grad is not None)

    tokenizer = few / "tokenizer/tokenizer.model"
    processor = tokenizers.load(tokenizer.read_bytes())
    text = "".join(processor.decode([token]) for token in (5, 5, 5, 6))
    ids = processor.encode(text)
    dataset = datasets.Dataset.from_dict({"text": [text, "", text]})
    needed = batching.ctc_frames(dataset, tokenizer)
    same = sum(a == b for a, b in itertools.pairwise(ids))
    assert same and needed.tolist() == [len(ids) + same, 0, len(ids) + same]
    durations = np.array([needed[0] / 10, 1.0, (needed[0] - 1) / 10])
    flight = SimpleNamespace(durations=durations, taken=SimpleNamespace(frames_per_second=10))
    preflight.report_ctc(flight, flight.durations, needed)
    assert "about 1 of 3 utterances have fewer encoder frames than tokens" in log.read_text()


@pytest.mark.parametrize("name", ["hybrid", "contextnet"])
def test_the_ctc_head_s_memory_is_in_what_is_measured(bases, name):
    model = models.restore(bases(name))
    if name == "contextnet":
        models.add_ctc_head(model)
    taken = {}
    for weight in (0.0, 0.3):
        step = legs.Transducer(model, "fused", ctc_weight=weight)
        taken[weight] = memory.measure(step, "adamw_torch", 5.0, 20, "fp32")
    frames = taken[0.3].frames_per_second * 5
    assert taken[0.3].lattice[1] - taken[0.0].lattice[1] > 4 * frames * (model.tokenizer.vocab_size + 1)
    assert taken[0.3].gradients > taken[0.0].gradients
    predicted = taken[0.3].gradients + sum(memory.of_batch(taken[0.3], Bucket(np.arange(8), 1, 8, 5.0, 20)))
    assert predicted == pytest.approx(memory.try_batch(step, Bucket(np.arange(8), 1, 8, 5.0, 20), "fp32", 0), rel=0.25)


def test_what_is_drawn_in_training_makes_neither_a_suspect_nor_another_prediction(bases, few, tmp_path):
    """omega, the share of a TDT's batches that get another loss, and sigma, which takes something off it."""
    base = bases("fastconformer tdt")
    tokenizers.write(tmp_path / "own", tokenizers.from_nemo(base))
    losses, lattices = [], []
    for omega, sigma in ((0.0, 0.0), (1.0, 0.5)):
        step = legs.Transducer(models.restore(base), "fused")
        loss = step.model.loss._loss
        loss.omega, loss.sigma = omega, sigma
        lattices.append(memory.measure(step, "adamw_torch", 2.0, 9, "fp32").lattice)
        assert loss.omega == omega, "and training has it again"
        paths = few / "train.jsonl", tmp_path / "own/tokenizer.model", tmp_path
        rows, _ = suspects.measure(step.eval(), *paths, 4, "cpu", 0, None, "train")
        losses.append([row["loss_per_token"] for row in rows])
    assert losses[0] == losses[1] and lattices[0] == lattices[1]


def test_measuring_a_streaming_model_leaves_the_look_ahead_that_training_draws_alone(bases):
    step = legs.Transducer(models.restore(bases("streaming")), "fused")
    before = random.getstate()
    memory.measure(step, "adamw_torch", 1.0, 5, "fp32")
    assert random.getstate() == before
    step.train()(**noise(step.model))
    assert random.getstate() != before, "it draws"


@pytest.mark.parametrize("name, device, transducer, message", [
    ("fastconformer tdt", "cpu", "nemo", "nemo: NeMo computes the loss of a TDT model on a CUDA GPU alone: set it"),
    ("hybrid tdt", "cpu", "nemo_fused_batch", "the loss of a TDT model on a CUDA GPU alone: set it to fused"),
    ("hat", None, "fused", "fused does not cover a HAT joint network: set it to nemo_fused_batch or nemo"),
])  # fmt: skip
def test_a_transducer_step_that_a_model_has_not_is_refused_before_anything_is_trained(
    bases, few, tmp_path, name, device, transducer, message
):
    with pytest.raises(UserError, match=f"^training.transducer: .*{message}"):
        families.check_training(families.of_nemo(bases(name)), transducer, None, device)
    with pytest.raises(UserError, match=f"^training.transducer: .*{message}"):
        train(few, tmp_path / "run", base=bases(name), transducer=transducer)


@pytest.mark.parametrize("name", ["prompt", "prompt hybrid"])
def test_a_model_with_prompts_is_one_line(bases, name):
    with pytest.raises(UserError, match="a model with prompts .*the language of each utterance.*take a model without$"):
        models.restore(bases(name))


def test_a_model_of_another_kind_is_named(tmp_path, bases):
    other = nemo_files.changed(bases("contextnet"), tmp_path / "x.nemo", {"target": "nemo.x.EncDecCTCModelBPE"})
    with pytest.raises(UserError, match="x.nemo: holds a EncDecCTCModelBPE, an RNN-T BPE model is needed: Enc"):
        models.restore(other)


@pytest.mark.parametrize("name, family", [
    ("tdt", "tdt"), ("tdt_pytorch", "tdt"), ("multiblank_rnnt", "multiblank"),
    ("multiblank_rnnt_pytorch", "multiblank"), ("warprnnt_numba", "rnnt"), ("default", "rnnt"), (None, "rnnt"),
])  # fmt: skip
def test_a_model_is_told_by_any_of_nemo_s_losses_for_it(name, family):
    assert families.of({"loss": {"loss_name": name}}).loss == family


@pytest.mark.parametrize("weight", [1.0, 2, -0.1, float("nan"), "0.3", 10**400, None])
def test_a_share_of_the_ctc_head_that_is_none_is_one_line_unless_the_key_gives_another(weight):
    family = families.of({"target": "nemo.EncDecHybridRNNTCTCBPEModel", "aux_ctc": {"ctc_loss_weight": weight}})
    with pytest.raises(UserError, match="^training.ctc_weight: aux_ctc.ctc_loss_weight of the model is no share"):
        families.check_training(family, "fused", None)
    families.check_training(family, "fused", 0.3)
    assert family.describe().endswith("with a CTC head")


@pytest.mark.parametrize("text, message", [
    ("a: !!bool x", "no YAML mapping"), ("a: !!timestamp x", "no YAML mapping"), ("[" * 2000, "no YAML mapping"),
    ("- 1", "no YAML mapping"), ("target: nemo.EncDecCTCModelBPE", "holds a EncDecCTCModelBPE"),
    ("model_defaults: {initialize_prompt_feature: true}", "a model with prompts"),
])  # fmt: skip
def test_a_model_config_of_one_s_own_that_is_none_is_one_line(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=f"mine.yaml: .*{message}") as error:
        families.of_architecture(tmp_path / "mine.yaml")
    assert "\n" not in str(error.value)


def test_what_training_leaves_out_of_a_model_s_loss_is_told(bases, tmp_path):
    keys = {"interctc": {"loss_weights": [0.3], "apply_at_layers": [0]}}
    base = nemo_files.changed(bases("hybrid"), tmp_path / "x.nemo", keys)
    arguments = {**CHECK, "base-model": base, "output": tmp_path / "model.json"}
    done = run_script("check_model", *(part for key, value in arguments.items() for part in (f"--{key}", value)))
    assert done.returncode == 0 and "(interctc): training here leaves them out" in done.stderr


CHECK = {"beam": "malsd_batch", "transducer": "fused", "ctc-weight": "null", "architecture": "contextnet_tiny"}


@pytest.mark.parametrize("name, options, message", [
    ("prompt", {}, "a model with prompts"),
    ("multi-blank", {"transducer": "nemo"}, "malsd_batch does not work with a multi-blank model: it has greedy"),
    ("fastconformer tdt", {"beam": "tsd"}, "tsd does not work with a TDT model: take beam, maes, malsd_batch"),
    ("stateless", {}, "malsd_batch does not work with a stateless prediction network: take beam, tsd, alsd, maes"),
    ("contextnet", {"ctc-weight": "0.3", "overrides": '{"joint.jointnet.dropout": 0.3}'}, None),
    ("contextnet", {"overrides": '{"joint.jointnet.joint_hidden": 8}'}, "dropouts alone can be changed: take it out"),
    (None, {"overrides": '{"joint.jointnet.dropou": 8}'}, "did you mean joint.jointnet.dropout?"),
    (None, {"overrides": '{"loss.loss_name": "multiblank_rnnt"}', "transducer": "nemo"}, "with a multi-blank model"),
    ("hat", {}, "training.transducer: fused does not cover a HAT joint network"),
    (None, {"architecture": "conform"}, "model.architecture: no conform.yaml in config/models"),
    ("streaming hybrid", {"ctc-weight": "0.4"}, None),
    ("8 kHz", {}, None),
    (None, {}, None),
])  # fmt: skip
def test_what_a_model_can_t_do_ends_the_run_before_anything_is_trained(bases, tmp_path, name, options, message):
    base = {} if name is None else {"base-model": bases(name)}
    arguments = {**CHECK, **options, **base, "output": tmp_path / "model.json"}
    done = run_script("check_model", *(part for key, value in arguments.items() for part in (f"--{key}", value)))
    if message is None:
        assert done.returncode == 0, done.stderr
        found = files.read_json(tmp_path / "model.json")
        assert found["streaming"] is (name == "streaming hybrid") and "malsd_batch" in found["searches"]
    else:
        assert done.returncode == 1 and not (tmp_path / "model.json").exists()
        assert done.stderr.startswith("error: ") and message in done.stderr and done.stderr.count("\n") == 1
