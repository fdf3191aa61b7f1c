"""Batches for the fused transducer step, and NeMo's modules to hold it against."""

from types import SimpleNamespace

import torch

from rnnt.training.transducer_loss import fused_transducer_loss, nemo_joint_loss

ACTIVATION = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
TINY_BUDGET_MIB = 1e-6  # one frame a chunk


def make_case(frames, labels, outputs=5, width=4, dtype=torch.float64, seed=0, extra=0, durations=()):
    """Random tensors of a batch with these lengths; `extra` frames and label positions of padding."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=random, dtype=dtype).requires_grad_()

    batch, most = len(frames), max(labels)
    return SimpleNamespace(
        f=normal(batch, max(frames) + extra, width),
        g=normal(batch, most + 1 + extra, width),
        weight=normal(outputs + len(durations), width),
        bias=normal(outputs + len(durations)),
        # the padding holds an impossible label: it must never be read
        targets=torch.randint(0, outputs - 1, (batch, most + extra), generator=random).masked_fill(
            torch.arange(most + extra) >= torch.tensor(labels)[:, None], 10**6
        ),
        frames=torch.tensor(frames),
        labels=torch.tensor(labels),
        blank=outputs - 1,
        durations=durations,
    )


def fused(case, **options):
    return fused_transducer_loss(
        case.f, case.g, case.weight, case.bias, case.targets, case.frames, case.labels,
        **{"blank": case.blank, "durations": case.durations, **options},
    )  # fmt: skip


def gradients(loss, case):
    return torch.autograd.grad(loss, (case.f, case.g, case.weight, case.bias))


def relative(ours, theirs):
    ours, theirs = ours.detach().double(), theirs.detach().double()
    return ((ours - theirs).norm() / theirs.norm().clamp(min=1e-30)).item()


def nemo_modules(
    activation="relu", dropout=0.0, reduction="mean_batch", width=16, outputs=8, loss_name="warprnnt_numba", **options
):
    from nemo.collections.asr.losses.rnnt import RNNTLoss
    from nemo.collections.asr.modules.rnnt import RNNTJoint

    torch.manual_seed(0)
    sizes = {"encoder_hidden": 7, "pred_hidden": 6, "joint_hidden": width}
    extra = len(options.get("durations", ()))
    joint = RNNTJoint(
        {**sizes, "activation": activation, "dropout": dropout}, num_classes=outputs - 1, num_extra_outputs=extra
    )
    return joint.train(), RNNTLoss(outputs - 1, reduction, loss_name, loss_kwargs=options)


def nemo_inputs(frames, labels, outputs=8):
    torch.manual_seed(1)
    encoder = torch.randn(len(frames), 7, max(frames)).requires_grad_()
    decoder = torch.randn(len(frames), 6, max(labels) + 1).requires_grad_()
    targets = torch.randint(0, outputs - 1, (len(frames), max(labels)))
    return encoder, decoder, targets, torch.tensor(frames), torch.tensor(labels)


def compare_with_nemo(joint, loss, inputs, factor=1.0):
    encoder, decoder, targets, frames, labels = inputs
    theirs = loss(
        log_probs=joint(encoder_outputs=encoder, decoder_outputs=decoder),
        targets=targets,
        input_lengths=frames,
        target_lengths=labels,
    )
    ours = nemo_joint_loss(joint, loss, *inputs, memory_budget_mib=0.01)
    wanted = [encoder, decoder, *joint.parameters()]
    assert ours.shape == theirs.shape
    assert relative(ours, theirs) <= 1e-6
    for mine, expected in zip(
        torch.autograd.grad(ours * factor, wanted), torch.autograd.grad(theirs * factor, wanted), strict=True
    ):
        assert relative(mine, expected) <= 1e-4
