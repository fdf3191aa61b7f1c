"""The RNN-T joint network and loss as one step that never holds the logits.

A cell (b, t, u) of the lattice has the logits z = W act(f[b, t] + g[b, u]) + c, and the loss needs two numbers of them:
log P(blank) and log P(next label). So the forward pass computes the logits a chunk of cells at a time, keeps those two
numbers and throws the logits away; the backward pass computes them again. Only cells of real frames and labels are ever
computed: padding is free.

Sources of the formulas: lattice and gradient, Graves 2012 (arXiv 1211.3711) section 2.4; FastEmit, Yu et al. 2020
(arXiv 2010.11148) equations 9 and 10; what is scaled, clamped and reduced, and in which order, NeMo's `warprnnt_numba`.
Shapes: B utterances, T encoder frames, U labels, H joint width, V outputs including blank.
"""

from collections import namedtuple
from itertools import pairwise

import torch
from torch.nn.functional import pad

from rnnt.errors import UserError

# on a CPU a chunk should stay in the cache, on a GPU it should fill the device
DEFAULT_BUDGET_MIB = {"cpu": 16, "cuda": 128}
REDUCTIONS = ("mean_batch", "mean_volume", "mean", "sum", None)
ACTIVATIONS = {"relu": torch.relu_, "sigmoid": torch.sigmoid_, "tanh": torch.tanh_}

_Options = namedtuple("_Options", "blank activation dropout fastemit_lambda clamp budget_bytes")
_Plan = namedtuple("_Plan", "dtype chunks seed options")


def fused_transducer_loss(
    encoder_projected, prediction_projected, weight, bias, targets, encoder_lengths, target_lengths,
    *, blank, activation="relu", dropout=0.0, fastemit_lambda=0.0, clamp=-1.0,
    reduction="mean_batch", memory_budget_mib=None,
):  # fmt: skip
    """Exact joint network and RNN-T loss, differentiable once, without the [B, T, U+1, V] logits.

    encoder_projected [B, T, H] and prediction_projected [B, U+1, H] are the two projections into the joint; weight
    [V, H] and bias [V] (or None) its output layer; targets [B, max U or more], encoder_lengths [B] (frames) and
    target_lengths [B] (labels) are integers. dropout is the probability of dropping an activation, to within 1/65536
    (give 0 outside training); clamp > 0 bounds d loss / d logits. memory_budget_mib bounds the buffers of a chunk (MiB,
    but at least one frame is computed at a time); None takes DEFAULT_BUDGET_MIB of the device. Under autocast the
    matrix products take its dtype; probabilities are at least float32 and the lattice is float64.

    Returns the reduced loss, or [B] losses for reduction=None. `mean` and `mean_volume` divide by label counts as NeMo
    does, but count an empty target as one label (NeMo returns inf).
    Raises ValueError for unknown options and for lengths that do not fit the tensors.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, not {activation!r}")
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {REDUCTIONS}, not {reduction!r}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and less than 1, not {dropout}")
    if memory_budget_mib is None:
        memory_budget_mib = DEFAULT_BUDGET_MIB.get(encoder_projected.device.type, 128)
    options = _Options(blank, activation, dropout, fastemit_lambda, clamp, memory_budget_mib * 2**20)
    losses = _FusedTransducer.apply(
        encoder_projected, prediction_projected, weight, bias,
        targets.long(), encoder_lengths.long(), target_lengths.long(), options,
    )  # fmt: skip
    labels = target_lengths.clamp(min=1)
    if reduction == "mean_batch":
        return losses.mean()
    if reduction == "mean":
        return (losses / labels).mean()
    if reduction == "mean_volume":
        return losses.sum() / labels.sum()
    return losses.sum() if reduction == "sum" else losses


def nemo_joint_loss(
    joint, loss, encoder_output, decoder_output, targets, encoder_lengths, target_lengths,
    memory_budget_mib=None,
):  # fmt: skip
    """What NeMo's RNNTJoint and RNNTLoss modules compute, through fused_transducer_loss.

    encoder_output [B, D, T] and decoder_output [B, D, U+1] are what the model's encoder and decoder return; lengths are
    in encoder frames and labels. Dropout is on where its module is in training.
    Raises UserError naming what the modules are configured with that is not covered.
    """
    uncovered = _uncovered(joint, loss)
    if uncovered:
        raise UserError(f"the fused transducer step does not cover {uncovered}: set training.transducer to nemo")
    activation, *dropouts, output = joint.joint_net
    return fused_transducer_loss(
        joint.enc(encoder_output.transpose(1, 2)),
        joint.pred(decoder_output.transpose(1, 2)),
        output.weight,
        output.bias,
        targets,
        encoder_lengths,
        target_lengths,
        blank=loss._loss.blank,
        activation=type(activation).__name__.lower(),
        dropout=sum(layer.p for layer in dropouts if layer.training),
        fastemit_lambda=loss._loss.fastemit_lambda,
        clamp=loss._loss.clamp,
        reduction=loss.reduction,
        memory_budget_mib=memory_budget_mib,
    )


def _uncovered(joint, loss):
    """What of NeMo's joint and loss modules is not covered, in words; None if everything is."""
    if type(joint).__name__ != "RNNTJoint":
        return f"the joint network {type(joint).__name__}"
    if type(loss._loss).__name__ != "RNNTLossNumba":
        return f"the loss {type(loss._loss).__name__} (only warprnnt_numba)"
    if joint.num_extra_outputs:
        return "extra outputs of the joint (TDT durations, multi-blank)"
    if joint.masking_prob > 0:
        return "masking of the prediction network (joint.masking_prob)"
    if joint.temperature != 1.0:
        return f"a joint temperature of {joint.temperature}"
    if joint.is_adapter_available():
        return "adapters in the joint network"
    layers = [type(layer).__name__ for layer in joint.joint_net]
    if layers[0].lower() not in ACTIVATIONS or layers[1:] not in (["Linear"], ["Dropout", "Linear"]):
        return f"a joint network of {', '.join(layers)}"
    if joint.log_softmax is not None and loss._loss.clamp > 0:
        return "clamp together with joint.log_softmax set"
    return None


class _FusedTransducer(torch.autograd.Function):
    """Losses [B] of the projections and the output layer; see fused_transducer_loss."""

    @staticmethod
    def forward(ctx, f, g, weight, bias, targets, encoder_lengths, target_lengths, options):
        dtype = torch.promote_types(f.dtype, weight.dtype)
        if torch.is_autocast_enabled(f.device.type):
            dtype = torch.get_autocast_dtype(f.device.type)
        precise = torch.promote_types(dtype, torch.float32)
        # this and the bands of the backward pass are all that is waited for on a GPU
        frames, labels = torch.stack([encoder_lengths, target_lengths]).tolist()
        _check_lengths(frames, labels, f, g, targets)
        cell_bytes = 2 * weight.shape[0] * precise.itemsize + 3 * weight.shape[1] * dtype.itemsize
        chunks = _chunks(frames, labels, int(options.budget_bytes // cell_bytes))
        # from the host's generator: reading a seed off the device would wait for it
        seed = int(torch.randint(2**62, ())) if options.dropout else None
        plan = _Plan(dtype, chunks, seed, options)

        with torch.autocast(f.device.type, enabled=False):
            joint = _Joint(f, g, weight, bias, plan)
            size = (len(frames), max(frames), max(labels) + 1)
            label_index = _label_index(targets, target_lengths, size[2])
            blank_logp, label_logp = f.new_zeros(size, dtype=precise), f.new_zeros(size, dtype=precise)
            for b, start, stop, width in chunks:
                _, logits, _ = joint.cells(b, start, stop, width, slice(0, width))
                logp = torch.log_softmax(logits, -1, dtype=precise).view(stop - start, width, -1)
                blank_logp[b, start:stop, :width] = logp[:, :, options.blank]
                index = label_index[b, None, :width, None].expand(stop - start, -1, -1)
                label_logp[b, start:stop, :width] = logp.gather(2, index)[:, :, 0]
            losses, *mass = _lattice(blank_logp, label_logp, encoder_lengths, target_lengths)
        ctx.save_for_backward(f, g, weight, bias, label_index, *mass)
        ctx.plan = plan
        return losses * (1.0 + options.fastemit_lambda)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_losses):
        f, g, weight, bias, label_index, blank_mass, label_mass = ctx.saved_tensors
        options = ctx.plan.options
        first, last = _bands(blank_mass + label_mass)
        label_mass = label_mass * (1.0 + options.fastemit_lambda)
        scale = grad_losses[:, None, None]
        # NeMo clamps before the upstream gradient on CUDA and after it on the CPU
        clamp_first = options.clamp > 0 and f.is_cuda
        if not clamp_first:
            blank_mass, label_mass = blank_mass * scale, label_mass * scale
        with torch.autocast(f.device.type, enabled=False):
            joint = _Joint(f, g, weight, bias, ctx.plan)
            for b, start, stop, width in ctx.plan.chunks:
                band = slice(min(first[b][start:stop]), min(max(last[b][start:stop]) + 1, width))
                hidden, logits, mask = joint.cells(b, start, stop, width, band)
                at_blank = blank_mass[b, start:stop, band].reshape(-1, 1)
                at_label = label_mass[b, start:stop, band].reshape(-1, 1)
                dz = softmax = torch.softmax(logits, -1, dtype=at_blank.dtype)
                if options.clamp > 0:
                    dz = softmax.clone()
                dz *= at_blank + at_label
                dz[:, options.blank] -= at_blank[:, 0]
                dz.scatter_add_(1, label_index[b, band].repeat(stop - start)[:, None], -at_label)
                if options.clamp > 0:
                    dz.clamp_(-options.clamp, options.clamp)
                    # on the CPU NeMo's joint ends in a log-softmax, whose backward pass follows the clamp
                    dz = dz * scale[b] if clamp_first else dz - softmax * dz.sum(-1, keepdim=True)
                joint.add_gradients(b, slice(start, stop), band, hidden, mask, dz)
        # the joint's weight is scaled and padded
        dw = joint.dw[: weight.shape[0]].to(weight.dtype) / joint.keep
        dc = None if bias is None else joint.dc[: len(bias)].to(bias.dtype)
        return joint.df.to(f.dtype), joint.dg.to(g.dtype), dw, dc, None, None, None, None


class _Joint:
    """The joint network on chunks of cells, in buffers that all chunks use, and its gradients.

    The output layer is padded to a multiple of 16 outputs, the extra ones with probability 0: matrix products of an odd
    width take half as long again.
    """

    def __init__(self, f, g, weight, bias, plan):
        cells = max((stop - start) * width for _, start, stop, width in plan.chunks)
        self.f, self.g, self.activation = f.to(plan.dtype), g.to(plan.dtype), plan.options.activation
        # the mask comes from random integers of 16 bits: on a CPU 10 times faster than bernoulli_
        self.dropped = round(plan.options.dropout * 2**16)
        self.keep = 1.0 - self.dropped / 2**16
        extra = -weight.shape[0] % 16
        bias = torch.zeros_like(weight[:, 0]) if bias is None else bias
        self.bias = pad(bias.to(plan.dtype), (0, extra), value=-torch.inf)
        # dividing the weight by the share that is kept spares a pass over the hidden vectors
        self.weight = pad((weight / self.keep).to(plan.dtype), (0, 0, 0, extra))
        self.hidden = self.f.new_empty(cells, weight.shape[1])
        self.logits = self.f.new_empty(cells, len(self.bias))
        if self.dropped:
            self.generator = torch.Generator(f.device).manual_seed(plan.seed)
            self.mask = torch.empty_like(self.hidden)
            self.bits = self.hidden.new_empty(-(-self.hidden.numel() // 4), dtype=torch.int64)
        precise = torch.promote_types(plan.dtype, torch.float32)
        inputs = self.f, self.g, self.weight, self.bias
        self.df, self.dg, self.dw, self.dc = (torch.zeros_like(x, dtype=precise) for x in inputs)

    def cells(self, b, start, stop, width, band):
        """Hidden vectors, logits and dropout mask (or None) of frames start:stop and labels `band`.

        The mask is drawn for all `width` label positions, so that it does not depend on the band.
        """
        rows, columns = stop - start, band.stop - band.start
        hidden = self.hidden[: rows * columns]
        view = hidden.view(rows, columns, -1)
        torch.add(self.f[b, start:stop, None], self.g[b, None, band], out=view)
        ACTIVATIONS[self.activation](hidden)
        mask = None
        if self.dropped:
            mask = self.mask[: rows * width].view(rows, width, -1)
            bits = self.bits[: -(-mask.numel() // 4)]
            bits.random_(-(2**63), None, generator=self.generator)
            bits = bits.view(torch.int16)[: mask.numel()].view_as(mask)
            mask = torch.ge(bits, self.dropped - 2**15, out=mask)[:, band]
            view.mul_(mask)
        logits = torch.addmm(self.bias, hidden, self.weight.t(), out=self.logits[: rows * columns])
        return hidden, logits, mask

    def add_gradients(self, b, frames, band, hidden, mask, dz):
        """Add what the chunk's d loss / d logits `dz` gives to the gradients; overwrites hidden."""
        self.dc += dz.sum(0)
        dz = dz.to(hidden.dtype)
        if self.dw.dtype == dz.dtype:
            self.dw.addmm_(dz.t(), hidden)
        else:
            self.dw += dz.t() @ hidden
        dh = dz @ self.weight
        # the activation's derivative from its value; for relu and sigmoid it is 0 where dropped
        if self.activation == "relu":
            dh *= hidden.sign_()
        elif self.activation == "sigmoid":
            dh *= hidden.addcmul_(hidden, hidden, value=-1)
        else:
            dh *= hidden.square_().neg_().add_(1)
        dh = dh.view(frames.stop - frames.start, band.stop - band.start, -1)
        if mask is not None and self.activation == "tanh":
            dh *= mask
        self.df[b, frames] += dh.sum(1, dtype=self.df.dtype)
        self.dg[b, band] += dh.sum(0, dtype=self.dg.dtype)


def _check_lengths(frames, labels, f, g, targets):
    if min(frames) < 1 or max(frames) > f.shape[1]:
        raise ValueError(f"encoder_lengths must be 1 to {f.shape[1]} frames, not {frames}")
    most = min(g.shape[1] - 1, targets.shape[1])
    if min(labels) < 0 or max(labels) > most:
        raise ValueError(f"target_lengths must be 0 to {most} labels, not {labels}")


def _chunks(frames, labels, cells):
    """Split every utterance into (b, start, stop, U_b + 1): frames start:stop with all label positions.

    A chunk has at most `cells` cells but at least one frame; the chunks of an utterance are even.
    """
    chunks = []
    for b, count in enumerate(frames):
        width = labels[b] + 1
        pieces = -(-count // max(1, cells // width))
        edges = [count * i // pieces for i in range(pieces + 1)]
        chunks += [(b, start, stop, width) for start, stop in pairwise(edges)]
    return chunks


def _label_index(targets, target_lengths, width):
    """The label after each position, [B, width]; 0 where none follows (never used there)."""
    position = torch.arange(width, device=targets.device)
    targets = pad(targets, (0, max(0, width - targets.shape[1])))[:, :width]
    return torch.where(position < target_lengths[:, None], targets, 0)


def _lattice(blank_logp, label_logp, frames, labels):
    """Losses [B] and the posterior mass of each cell's blank and label arc, [B, T, U+1] each.

    The arguments are finite log-probabilities, [B, T, U+1] each. Computed in float64, because a column subtracts long
    running sums.
    """
    t = torch.arange(blank_logp.shape[1], device=frames.device)[None, :, None]
    u = torch.arange(blank_logp.shape[2], device=frames.device)[None, None, :]
    b = torch.arange(blank_logp.shape[0], device=frames.device)[:, None, None]
    last_t, last_u = frames[:, None, None] - 1, labels[:, None, None]
    blank, label = blank_logp.double(), label_logp.double()

    def flipped(plane):
        """Every utterance read from its last cell backwards (its own inverse on real cells)."""
        return plane[b, (last_t - t).clamp(min=0), (last_u - u).clamp(min=0)]

    # backward probabilities are the forward ones of the flipped lattice: one recurrence for both
    into_t, into_u = pad(blank, (0, 0, 1, -1)), pad(label, (1, -1))
    both = _forward_probabilities(torch.cat([into_t, flipped(blank)]), torch.cat([into_u, flipped(label)]))
    alpha, beta = both[: len(b)], flipped(both[len(b) :])
    total = beta[:, :1, :1]
    # after the last blank there is nothing left to come: log-probability 0
    after_blank = pad(beta, (0, 0, -1, 1)).masked_fill((t == last_t) & (u == last_u), 0.0)
    no_blank = (t > last_t) | (u > last_u) | ((t == last_t) & (u < last_u))
    blank_mass = (alpha + blank + after_blank - total).exp().masked_fill(no_blank, 0.0)
    no_label = (t > last_t) | (u >= last_u)
    label_mass = (alpha + label + pad(beta, (-1, 1)) - total).exp().masked_fill(no_label, 0.0)
    dtype = blank_logp.dtype
    return -total[:, 0, 0].to(dtype), blank_mass.to(dtype), label_mass.to(dtype)


def _forward_probabilities(along_t, along_u):
    """x[t, u] = logaddexp(x[t-1, u] + along_t[t, u], x[t, u-1] + along_u[t, u]), [N, T, U+1].

    x[0, 0] = along_t[0, 0]. For a fixed u this is linear in exp(x), so a column is one running sum and one logcumsumexp
    over t: U steps, and no loop over T.
    """
    running = along_t.permute(2, 0, 1).cumsum(-1)
    step = along_u.permute(2, 0, 1) - running
    x = torch.empty_like(running)
    x[0] = running[0]
    for u in range(1, len(x)):
        x[u] = torch.logcumsumexp(x[u - 1] + step[u], -1) + running[u]
    return x.permute(1, 2, 0)


def _bands(mass):
    """First and last label position of each frame whose gradient exceeds rounding, as [B][T] lists.

    mass [B, T, U+1] is the posterior mass of the cells. Each frame, and each label position, has a mass of 1 or more in
    all; what is left out of it adds up to less than 1/16 of the rounding error of 1. That is half the lattice of an
    untrained model and most of a confident one's: the backward pass does without.
    """
    negligible = torch.finfo(mass.dtype).eps / 16 / (mass.shape[1] + mass.shape[2])
    active = mass > negligible  # none where the mass is nan: the band is then that of the longest
    first = active.int().argmax(2)
    last = mass.shape[2] - 1 - active.flip(2).int().argmax(2)
    return torch.stack([first, last]).tolist()
