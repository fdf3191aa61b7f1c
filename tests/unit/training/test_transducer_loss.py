"""The fused transducer step against every alignment enumerated, against NeMo's loss, and against itself."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transducers import (
    ACTIVATION,
    TINY_BUDGET_MIB,
    compare_with_nemo,
    fused,
    gradients,
    make_case,
    nemo_inputs,
    nemo_modules,
    relative,
)

from rnnt.errors import UserError
from rnnt.training import lattice
from rnnt.training.transducer_loss import fused_transducer_loss, nemo_joint_loss

pytestmark = pytest.mark.usefixtures("one_thread")


def brute_force(case, activation="relu"):
    """Losses [B] from the probability of every alignment, added up (differentiable by autograd)."""
    losses = []
    for b, (frames, count) in enumerate(zip(case.frames.tolist(), case.labels.tolist(), strict=True)):
        hidden = ACTIVATION[activation](case.f[b, :frames, None] + case.g[b, None, : count + 1])
        logp = (hidden @ case.weight.t() + case.bias).log_softmax(-1)
        alignments = []
        # an alignment says after how many of the frames' blanks each label comes; the last arc is a blank
        for when in itertools.combinations_with_replacement(range(frames), count):
            terms = [logp[t, sum(w < t for w in when) + sum(w == t for w in when), case.blank] for t in range(frames)]
            terms += [logp[t, u, case.targets[b, u]] for u, t in enumerate(when)]
            alignments.append(torch.stack(terms).sum())
        losses.append(-torch.logsumexp(torch.stack(alignments), 0))
    return torch.stack(losses)


@pytest.mark.parametrize("activation", sorted(ACTIVATION))
@pytest.mark.parametrize(
    "frames, labels",
    [([4, 3], [3, 2]), ([1], [0]), ([1, 5], [3, 0]), ([5, 1, 2], [0, 0, 0]), ([6, 1], [4, 1]), ([2], [5])],
)
def test_equals_the_sum_over_all_alignments(frames, labels, activation):
    case = make_case(frames, labels, extra=1)
    weights = torch.rand(len(frames), dtype=torch.float64) + 0.5
    ours, theirs = fused(case, activation=activation, reduction=None), brute_force(case, activation)
    assert relative(ours, theirs) <= 1e-10
    ours, theirs = gradients((ours * weights).sum(), case), gradients((theirs * weights).sum(), case)
    for mine, expected in zip(ours, theirs, strict=True):
        assert relative(mine, expected) <= 1e-10


def test_blank_may_be_any_output():
    case = make_case([4, 2], [2, 1], outputs=6)
    case.blank = 0
    case.targets = case.targets.clamp(max=3) + 1
    assert relative(fused(case, reduction=None), brute_force(case)) <= 1e-10


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("activation", sorted(ACTIVATION))
def test_gradcheck(activation, dropout):
    case = make_case([4, 1, 3], [2, 1, 0], width=3)

    def loss(f, g, weight, bias):
        torch.manual_seed(1)
        return fused_transducer_loss(
            f,
            g,
            weight,
            bias,
            case.targets,
            case.frames,
            case.labels,
            blank=case.blank,
            activation=activation,
            dropout=dropout,
            reduction=None,
            memory_budget_mib=TINY_BUDGET_MIB,
        )

    assert torch.autograd.gradcheck(loss, (case.f, case.g, case.weight, case.bias))


def test_no_bias_and_frozen_inputs():
    case = make_case([3, 2], [2, 1])
    case.bias = torch.zeros_like(case.bias)
    expected = torch.autograd.grad(fused(case), case.f)[0]
    case.bias, case.weight = None, case.weight.detach()
    assert torch.equal(torch.autograd.grad(fused(case), case.f)[0], expected)


@pytest.mark.parametrize("activation", sorted(ACTIVATION))
@pytest.mark.parametrize("reduction", ["mean_batch", "mean_volume", "mean", "sum"])
def test_equals_nemo(activation, reduction):
    compare_with_nemo(*nemo_modules(activation, reduction=reduction), nemo_inputs([9, 4, 1], [5, 3, 2]))


@pytest.mark.parametrize("reduction", ["mean_batch", "sum"])
@pytest.mark.parametrize(
    "options", [{"fastemit_lambda": 0.3}, {"clamp": 0.05}, {"fastemit_lambda": 0.1, "clamp": 0.02}]
)
def test_equals_nemo_with_fastemit_and_clamp(options, reduction):
    # the factor shows on which side of the upstream gradient the clamp is
    compare_with_nemo(*nemo_modules(reduction=reduction, **options), nemo_inputs([9, 4], [5, 3]), factor=3.0)


@pytest.mark.parametrize("frames, labels", [([12, 1], [6, 0]), ([1, 1], [0, 4]), ([30, 2, 7], [1, 9, 0])])
def test_equals_nemo_on_awkward_lengths(frames, labels):
    compare_with_nemo(*nemo_modules(), nemo_inputs(frames, labels))


def test_clamp_really_changes_the_gradient():
    case = make_case([6, 5], [3, 4])
    free, tight = gradients(fused(case), case), gradients(fused(case, clamp=0.01), case)
    assert relative(tight[2], free[2]) > 0.1


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_an_utterance_that_is_not_finite_spoils_its_own_gradients_alone(dropout):
    case = make_case([6, 6, 5], [2, 4, 3])
    with torch.no_grad():
        case.f[0, 2] = float("nan")
    losses = fused(case, dropout=dropout, reduction=None)
    assert losses.isnan().tolist() == [True, False, False]
    f, g, _, _ = gradients(losses.sum(), case)
    assert f[0].isnan().any() and not f[1:].isnan().any() and not g[1:].isnan().any()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_does_not_depend_on_the_chunk_size(dropout):
    """Without dropout; with it the masks of two chunk sizes differ, but one size repeats itself."""
    case = make_case([17, 5, 1], [6, 9, 2])
    results = []
    for budget in (TINY_BUDGET_MIB, 0.02, 64) if not dropout else (0.02, 0.02):
        torch.manual_seed(3)
        loss = fused(case, dropout=dropout, memory_budget_mib=budget)
        results.append((loss, *gradients(loss, case)))
    for other in results[1:]:
        for mine, expected in zip(other, results[0], strict=True):
            assert relative(mine, expected) <= 1e-12


def test_dropout_drops_the_right_share_without_bias():
    """With a linear readout of one cell the mean over masks is the value without dropout."""
    case = make_case([1], [0], outputs=2, width=2000)
    case.weight = torch.zeros_like(case.weight)
    case.weight[0] = 1e-3
    values = [fused(case, dropout=0.3, reduction="sum").item() for _ in range(200)]
    exact = fused(case, reduction="sum").item()
    assert len(set(values)) == 200
    assert abs(sum(values) / 200 - exact) < 4 * torch.tensor(values).std().item() / 200**0.5


@pytest.mark.parametrize("low, tolerance", [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_autocast_is_close_to_float32(low, tolerance):
    case = make_case([40, 23], [12, 9], outputs=33, width=64, dtype=torch.float32)
    case.weight = (case.weight.detach() / 8).requires_grad_()
    exact = fused(case)
    with torch.autocast("cpu", dtype=low):
        rough = fused(case)
    assert rough.dtype == torch.float32
    assert 0 < relative(rough, exact) <= tolerance
    for mine, expected in zip(gradients(rough, case), gradients(exact, case), strict=True):
        assert mine.dtype == torch.float32
        assert relative(mine, expected) <= tolerance


def confident_case():
    """Large logits: nearly all posterior mass is on a narrow band of the lattice."""
    case = make_case([60, 44], [20, 11], outputs=12, width=8)
    case.weight = (case.weight.detach() * 10).requires_grad_()
    return case


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_confident_model_in_float32(dropout):
    exact = confident_case()
    rough = SimpleNamespace(**vars(exact))
    for name in ("f", "g", "weight", "bias"):
        setattr(rough, name, getattr(exact, name).detach().float().requires_grad_())
    results = []
    for case in (rough, exact):
        torch.manual_seed(5)  # the same masks: the width is a multiple of 4, so they do not depend on the chunks
        loss = fused(case, dropout=dropout, memory_budget_mib=0.05)
        results.append((loss, *gradients(loss, case)))
    for mine, expected in zip(*results, strict=True):
        assert relative(mine, expected) <= 1e-5


@pytest.mark.parametrize("activation", sorted(ACTIVATION))
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_cells_left_out_of_the_backward_pass_do_not_count(monkeypatch, dropout, activation):
    """The same gradients with the bands and without, although the bands are narrow."""
    case = confident_case()
    bands = lattice.bands
    widths = []

    def narrow(mass):
        first, last = bands(mass)
        widths.extend(last[b][t] - first[b][t] + 1 for b in range(2) for t in range(case.frames[b]))
        return first, last

    def full(mass):
        return [[0] * 60] * 2, [[20] * 60, [11] * 60]

    results = []
    for replacement in (narrow, full):
        monkeypatch.setattr(lattice, "bands", replacement)
        torch.manual_seed(6)
        loss = fused(case, activation=activation, dropout=dropout, memory_budget_mib=0.02)
        results.append(gradients(loss, case))
    assert sum(widths) < 0.8 * (60 * 21 + 44 * 12)
    for mine, expected in zip(*results, strict=True):
        assert relative(mine, expected) <= 1e-14


@pytest.mark.parametrize("durations", [(), (0, 1, 2, 3, 4)])
def test_waits_for_the_device_as_often_with_many_chunks_as_with_one(durations):
    class CountReads(TorchDispatchMode):
        """Counts what would wait for a GPU: reading a number off a tensor."""

        reads = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            name = str(function)
            self.reads += "_local_scalar_dense" in name or "nonzero" in name
            return function(*arguments, **(options or {}))

    case = make_case([17, 5], [6, 9], durations=durations)
    counts = []
    for budget in (64, TINY_BUDGET_MIB):
        with CountReads() as mode:
            fused(case, dropout=0.1, clamp=0.5, memory_budget_mib=budget).backward()
        counts.append(mode.reads)
    assert counts[0] == counts[1] <= 2


def test_nan_reaches_the_loss_and_the_gradient():
    case = make_case([4, 3], [2, 1])
    case.f.data[0, 1, 0] = float("nan")
    loss = fused(case, reduction=None, activation="tanh")
    assert loss.isnan().tolist() == [True, False]
    assert gradients(loss.sum(), case)[2].isnan().any()


def test_reductions_and_empty_targets():
    case = make_case([5, 4, 3], [3, 0, 1])
    each = fused(case, reduction=None)
    counts = torch.tensor([3, 1, 1])
    for reduction, expected in {
        "sum": each.sum(),
        "mean_batch": each.mean(),
        "mean": (each / counts).mean(),
        "mean_volume": each.sum() / 5,
    }.items():
        assert torch.equal(fused(case, reduction=reduction), expected)


def test_rejects_what_it_cannot_do():
    case = make_case([3], [2])
    with pytest.raises(ValueError, match="activation"):
        fused(case, activation="gelu")
    with pytest.raises(ValueError, match="reduction"):
        fused(case, reduction="median")
    with pytest.raises(ValueError, match="dropout"):
        fused(case, dropout=1.0)
    case.frames = torch.tensor([4])
    with pytest.raises(ValueError, match="encoder_lengths"):
        fused(case)
    case.frames, case.labels = torch.tensor([3]), torch.tensor([3])
    with pytest.raises(ValueError, match="target_lengths"):
        fused(case)


def test_names_the_nemo_feature_that_is_not_covered():
    joint, loss = nemo_modules()
    inputs = nemo_inputs([4], [2])
    for module, attribute, value, word in [
        (joint, "num_extra_outputs", 3, "3 extra outputs"),
        (joint, "masking_prob", 0.2, "masking_prob"),
        (joint, "temperature", 2.0, "temperature"),
        (loss, "_loss", torch.nn.Identity(), "Identity"),
    ]:
        name = "_num_extra_outputs" if attribute == "num_extra_outputs" else attribute
        before = getattr(module, name)
        setattr(module, name, value)
        with pytest.raises(UserError, match=word):
            nemo_joint_loss(joint, loss, *inputs)
        setattr(module, name, before)
    assert nemo_joint_loss(joint, loss, *inputs).isfinite()


def test_nemo_dropout_only_when_training():
    joint, loss = nemo_modules(dropout=0.5)
    inputs = nemo_inputs([6], [3])
    assert nemo_joint_loss(joint, loss, *inputs) != nemo_joint_loss(joint, loss, *inputs)
    joint.eval()
    compare_with_nemo(joint, loss, inputs)
