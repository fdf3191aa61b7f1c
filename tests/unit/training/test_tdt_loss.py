"""The fused step of token-and-duration transducers against every path walked, and against the losses there are."""

import pytest
import torch
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
from transformers.loss.loss_tdt import tdt_loss

from rnnt.errors import UserError
from rnnt.training import lattice, transducer_loss
from rnnt.training.transducer_loss import nemo_joint_loss

DURATIONS = [(0, 1, 2, 3, 4), (0, 1, 2), (0, 1), (0, 1, 2, 4, 8)]
LENGTHS = [([4, 3], [3, 2]), ([1], [0]), ([1, 6], [3, 0]), ([5, 1, 2], [0, 0, 0]), ([7, 1], [3, 1]), ([2], [4])]


pytestmark = pytest.mark.usefixtures("one_thread")


def brute_force(case, sigma=0.0, activation="relu"):
    """Losses [B] from the probability of every path, walked one by one and added up (differentiable by autograd)."""
    count = len(case.durations)
    losses = []
    for b, (frames, labels) in enumerate(zip(case.frames.tolist(), case.labels.tolist(), strict=True)):
        hidden = ACTIVATION[activation](case.f[b, :frames, None] + case.g[b, None, : labels + 1])
        logits = hidden @ case.weight.t() + case.bias
        tokens, durations = logits[..., :-count].log_softmax(-1) - sigma, logits[..., -count:].log_softmax(-1)

        def paths(t, u, b=b, frames=frames, labels=labels, tokens=tokens, durations=durations):
            """The log-probability of every path from (t, u) to the end."""
            if t == frames:
                return [torch.zeros((), dtype=case.f.dtype)] if u == labels else []
            found = []
            for k, d in enumerate(case.durations):
                if d > 0 and (t + d < frames or (t + d == frames and u == labels)):
                    step = tokens[t, u, case.blank] + durations[t, u, k]
                    found += [step + rest for rest in paths(t + d, u)]
                if u < labels and t + d < frames:
                    step = tokens[t, u, case.targets[b, u]] + durations[t, u, k]
                    found += [step + rest for rest in paths(t + d, u + 1)]
            return found

        losses.append(-torch.logsumexp(torch.stack(paths(0, 0)), 0))
    return torch.stack(losses)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("durations", DURATIONS, ids=str)
@pytest.mark.parametrize("frames, labels", LENGTHS)
def test_equals_the_sum_over_all_paths(frames, labels, durations, sigma):
    case = make_case(frames, labels, extra=1, durations=durations)
    weights = torch.rand(len(frames), dtype=torch.float64) + 0.5
    ours, theirs = fused(case, sigma=sigma, reduction=None), brute_force(case, sigma)
    assert relative(ours, theirs) <= 1e-10
    ours, theirs = gradients((ours * weights).sum(), case), gradients((theirs * weights).sum(), case)
    for mine, expected in zip(ours, theirs, strict=True):
        assert relative(mine, expected) <= 1e-10


def test_durations_in_any_order_and_without_0():
    for durations in [(2, 0, 1), (1, 2)]:
        case = make_case([5, 3], [2, 1], durations=durations)
        assert relative(fused(case, reduction=None), brute_force(case)) <= 1e-10


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("durations", DURATIONS[1:], ids=str)
def test_gradcheck(durations, dropout):
    case = make_case([4, 1, 3], [2, 1, 0], width=3, durations=durations)
    names = ("f", "g", "weight", "bias")

    def loss(*tensors):
        torch.manual_seed(1)
        vars(case).update(zip(names, tensors, strict=True))
        return fused(case, sigma=0.05, dropout=dropout, reduction=None, memory_budget_mib=TINY_BUDGET_MIB)

    assert torch.autograd.gradcheck(loss, tuple(getattr(case, name) for name in names))


@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("durations", DURATIONS, ids=str)
@pytest.mark.parametrize("reduction", ["mean_batch", "sum"])
def test_equals_nemo(monkeypatch, durations, sigma, reduction):
    monkeypatch.setattr(torch.Tensor, "cuda", lambda tensor: tensor)  # it would have a GPU for its loops
    modules = nemo_modules(reduction=reduction, loss_name="tdt_pytorch", durations=list(durations), sigma=sigma)
    compare_with_nemo(*modules, nemo_inputs([9, 2], [5, 1]), factor=3.0)


@pytest.mark.parametrize("sigma", [0.0, 0.05])
@pytest.mark.parametrize("durations", DURATIONS, ids=str)
@pytest.mark.parametrize(
    "frames, labels", [([30, 2, 17], [9, 1, 12]), ([12, 1], [6, 0]), ([3, 40], [4, 1]), ([7, 7], [0, 7])]
)
def test_equals_transformers(durations, sigma, frames, labels):
    case = make_case(frames, labels, outputs=9, width=16, dtype=torch.float32, durations=durations)
    theirs = transformers_loss(all_logits(case), case, sigma)
    ours = fused(case, sigma=sigma, reduction=None)
    assert relative(ours, theirs) <= 1e-6
    for mine, expected in zip(gradients(ours.sum(), case), gradients(theirs.sum(), case), strict=True):
        assert relative(mine, expected) <= 1e-4


def transformers_loss(logits, case, sigma=0.0):
    """Losses [B] of the logits [B, T, U + 1, V]."""
    split = logits.split([case.blank + 1, len(case.durations)], -1)
    targets = case.targets.clamp(max=case.blank - 1)
    return tdt_loss(*split, targets, case.frames, case.labels, case.blank, case.durations, sigma, "none")


def all_logits(case):
    return torch.relu(case.f[:, :, None] + case.g[:, None]) @ case.weight.t() + case.bias


@pytest.mark.parametrize("fastemit, clamp", [(0.3, -1.0), (0.0, 0.05), (0.1, 0.02)])
def test_fastemit_and_clamp_are_for_the_tokens(fastemit, clamp):
    """As NeMo's kernel: label mass times 1 + lambda, then the clamp, then the gradient from above."""
    case = make_case([6, 5], [3, 4], outputs=6, dtype=torch.float32, durations=(0, 1, 2))
    logits, of_tokens = all_logits(case).detach().requires_grad_(), slice(0, 6)
    exact = transformers_loss(logits, case)
    logp, durations = logits[..., of_tokens].log_softmax(-1), logits[..., 6:].log_softmax(-1)
    index = torch.nn.functional.pad(case.targets.clamp(max=4), (0, 1))[:, None, :, None].expand(-1, 6, -1, 1)
    label_logp = logp.gather(-1, index)[..., 0]
    planes = (logp[..., case.blank], label_logp, durations.movedim(-1, 0))
    _, _, of_label, _ = lattice.of_tdt(*(plane.detach() for plane in planes), (0, 1, 2), case.frames, case.labels)
    (dz,) = torch.autograd.grad(exact.sum() - (fastemit * of_label * label_logp).sum(), logits)
    if clamp > 0:
        assert dz[..., of_tokens].abs().max() > 2 * clamp
        dz[..., of_tokens] = dz[..., of_tokens].clamp(-clamp, clamp)
    expected = gradients((all_logits(case) * 3.0 * dz).sum(), case)
    ours = fused(case, fastemit_lambda=fastemit, clamp=clamp, reduction=None)
    assert relative(ours, exact * (1 + fastemit)) <= 1e-6
    for mine, wanted in zip(gradients(3.0 * ours.sum(), case), expected, strict=True):
        assert relative(mine, wanted) <= 1e-4


def test_omega_draws_the_rnnt_loss_of_the_tokens_once_a_call():
    case = make_case([5, 3], [2, 1], durations=(0, 1, 2))
    tdt = fused(case, sigma=0.05, reduction=None)
    tokens = make_case([5, 3], [2, 1], durations=(0, 1, 2))
    tokens.weight, tokens.bias, tokens.durations = case.weight[:-3], case.bias[:-3], ()
    rnnt = fused(tokens, reduction=None)
    torch.manual_seed(0)
    drawn = [fused(case, sigma=0.05, omega=0.3, reduction=None) for _ in range(200)]
    assert all(torch.equal(loss, tdt) or torch.equal(loss, rnnt) for loss in drawn)
    assert 0.2 < sum(torch.equal(loss, rnnt) for loss in drawn) / 200 < 0.4
    of_rnnt = gradients(fused(case, sigma=0.05, omega=1.0), case)
    assert not of_rnnt[2][-3:].any() and of_rnnt[2][:-3].any()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_the_matrix_products_of_both_libraries_give_the_same(monkeypatch, dropout):
    case = make_case([30, 9], [12, 4], outputs=33, width=20, dtype=torch.float32, durations=(0, 1, 2))
    results = []
    for onednn in (transducer_loss.ONEDNN, False):
        monkeypatch.setattr(transducer_loss, "ONEDNN", onednn)
        torch.manual_seed(2)
        loss = fused(case, dropout=dropout)
        results.append((loss, *gradients(loss, case)))
    for mine, expected in zip(*results, strict=True):
        assert relative(mine, expected) <= 1e-5


def test_does_not_depend_on_the_chunk_size():
    case = make_case([17, 5, 1], [6, 9, 2], durations=(0, 1, 2, 3, 4))
    results = []
    for budget in (TINY_BUDGET_MIB, 0.02, 64):
        loss = fused(case, memory_budget_mib=budget)
        results.append((loss, *gradients(loss, case)))
    for other in results[1:]:
        for mine, expected in zip(other, results[0], strict=True):
            assert relative(mine, expected) <= 1e-12


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_frames_that_are_passed_over_do_not_count(monkeypatch, dropout):
    """A model that is sure to skip: the same gradients where whole frames are left out of the backward pass."""
    case = make_case([60, 44], [8, 5], outputs=12, width=8, durations=(0, 1, 2, 3, 4))
    case.weight = (case.weight.detach() * 10).requires_grad_()
    bands, left_out = lattice.bands, []

    def counted(mass):
        first, last = bands(mass)
        left_out.extend(last[b][t] < 0 for b in range(2) for t in range(case.frames[b]))
        return first, last

    results = []
    for replacement in (counted, lambda mass: ([[0] * 60] * 2, [[8] * 60] * 2)):
        monkeypatch.setattr(lattice, "bands", replacement)
        torch.manual_seed(6)
        loss = fused(case, dropout=dropout, memory_budget_mib=0.002)
        results.append(gradients(loss, case))
    assert sum(left_out) > 5
    for mine, expected in zip(*results, strict=True):
        assert relative(mine, expected) <= 1e-13


@pytest.mark.parametrize("low, tolerance", [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_autocast_is_close_to_float32(low, tolerance):
    case = make_case([40, 23], [12, 9], outputs=33, width=64, dtype=torch.float32, durations=(0, 1, 2, 3, 4))
    case.weight = (case.weight.detach() / 8).requires_grad_()
    # not relu: where f + g rounds to 0 its derivative is another
    exact = fused(case, activation="tanh")
    with torch.autocast("cpu", dtype=low):
        rough = fused(case, activation="tanh")
    assert 0 < relative(rough, exact) <= tolerance
    for mine, expected in zip(gradients(rough, case), gradients(exact, case), strict=True):
        assert relative(mine, expected) <= tolerance


def test_an_utterance_that_is_not_finite_spoils_its_own_gradients_alone():
    case = make_case([6, 6, 5], [2, 4, 3], durations=(0, 1, 2))
    with torch.no_grad():
        case.f[0, 2] = float("nan")
    losses = fused(case, reduction=None)
    assert losses.isnan().tolist() == [True, False, False]
    f, g, _, _ = gradients(losses.sum(), case)
    assert f[0].isnan().any() and not f[1:].isnan().any() and not g[1:].isnan().any()


def test_rejects_what_it_cannot_do():
    case = make_case([3], [2], durations=(0, 1))
    for durations in [(0, 0), (0,), (-1, 1)]:
        with pytest.raises(ValueError, match="durations"):
            fused(case, durations=durations)
    joint, loss = nemo_modules(loss_name="tdt", durations=[0, 1, 2])
    loss._loss.blank = 10
    with pytest.raises(UserError, match="a loss whose blank is output 10 of 8: set training.transducer to nemo"):
        nemo_joint_loss(joint, loss, *nemo_inputs([4], [2]))
    loss._loss.blank, loss._loss.durations = 7, [0, 2, 4]
    with pytest.raises(UserError, match="durations without 0 and 1"):
        nemo_joint_loss(joint, loss, *nemo_inputs([4], [2]))
    loss._loss.durations = [0, 1]
    with pytest.raises(UserError, match="3 extra outputs of the joint for 2 durations"):
        nemo_joint_loss(joint, loss, *nemo_inputs([4], [2]))


def test_takes_all_options_of_nemo_s_loss():
    options = {"sigma": 0.05, "omega": 0.1, "fastemit_lambda": 0.2, "clamp": 0.3}
    inputs = nemo_inputs([6, 4], [3, 2])

    def gradient(**changes):
        joint, loss = nemo_modules(loss_name="tdt", durations=[0, 1, 2], **{**options, **changes})
        torch.manual_seed(4)
        value = nemo_joint_loss(joint, loss, *inputs)
        return torch.autograd.grad(value, inputs[0])[0]

    for changes in ({"sigma": 0.0}, {"omega": 1.0}, {"fastemit_lambda": 0.0}, {"clamp": 0.01}):
        assert relative(gradient(**changes), gradient()) > 1e-3, changes
