"""The joint network and the loss of RNN-T and TDT as one step that never holds the logits.

A cell (b, t, u) of the lattice has the logits z = W act(f[b, t] + g[b, u]) + c, and the loss needs few numbers of them:
log P(blank), log P(next label) and, for a token-and-duration transducer (TDT), the log-probability of each duration. So
the forward pass computes the logits a chunk of cells at a time, keeps those numbers and throws the logits away; the
backward pass computes them again. Only cells of real frames and labels are ever computed: padding is free.

Sources of the formulas: FastEmit, Yu et al. 2020 (arXiv 2010.11148) equations 9 and 10; TDT, its sigma and omega, Xu et
al. 2023 (arXiv 2304.06795); what is scaled, clamped and reduced, and in which order, NeMo's `warprnnt_numba` and `tdt`.
Shapes: B utterances, T encoder frames, U labels, H joint width, V outputs: the tokens, the blank, D durations.
"""

from collections import namedtuple
from itertools import pairwise

import torch
from torch.nn.functional import linear, pad

from rnnt.errors import UserError
from rnnt.training import lattice

# on a CPU a chunk should stay in the cache, on a GPU it should fill the device
DEFAULT_BUDGET_MIB = {"cpu": 3, "cuda": 128}
REDUCTIONS = ("mean_batch", "mean_volume", "mean", "sum", None)
ACTIVATIONS = {"relu": torch.relu_, "sigmoid": torch.sigmoid_, "tanh": torch.tanh_}
# Matrix products by oneDNN on a CPU: MKL, which torch takes for them, makes no use of AVX-512 on AMD's, half the speed.
# That of the weight's gradient stays with MKL, which adds in place.
ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
ROWS = 64  # oneDNN keeps code for each number of rows that it has met: they are multiples of this
LOSSES = ("RNNTLossNumba", "TDTLossNumba", "TDTLossPytorch")  # NeMo's
OF_LOSS = ("fastemit_lambda", "clamp", "durations", "sigma", "omega")

_Options = namedtuple("_Options", "blank activation dropout fastemit_lambda clamp budget_bytes durations sigma kernel")
_Plan = namedtuple("_Plan", "dtype chunks seed options")


def fused_transducer_loss(
    encoder_projected, prediction_projected, weight, bias, targets, encoder_lengths, target_lengths,
    *, blank, activation="relu", dropout=0.0, fastemit_lambda=0.0, clamp=-1.0,
    durations=(), sigma=0.0, omega=0.0, reduction="mean_batch", memory_budget_mib=None,
):  # fmt: skip
    """Exact joint network and transducer loss, differentiable once, without the [B, T, U+1, V] logits.

    encoder_projected [B, T, H] and prediction_projected [B, U+1, H] are the two projections into the joint; weight
    [V, H] and bias [V] (or None) its output layer; targets [B, max U or more], encoder_lengths [B] (frames) and
    target_lengths [B] (labels) are integers. dropout is the probability of dropping an activation, to within 1/65536
    (give 0 outside training); clamp > 0 bounds d loss / d logits. memory_budget_mib bounds the buffers of a chunk (MiB,
    but at least one frame is computed at a time); None takes DEFAULT_BUDGET_MIB of the device. Under autocast the
    matrix products take its dtype; probabilities are at least float32 and the lattice is float64.

    With `durations` (frames) the model is a TDT, whose last len(durations) outputs are their logits: sigma is taken off
    each token's log-probability, and with probability omega the call computes the RNN-T loss of the tokens alone.
    FastEmit and clamp then leave the durations' gradient as it is.

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
    durations = tuple(durations)
    if len({*durations}) < len(durations) or min(durations, default=0) < 0 or max(durations, default=1) < 1:
        raise ValueError(f"durations must be different numbers of frames, one of them above 0, not {durations}")
    kernel = encoder_projected.is_cuda or bool(durations)
    if durations and omega > 0 and torch.rand(()) < omega:
        weight, bias = (None if x is None else x[: -len(durations)] for x in (weight, bias))
        durations = ()
    options = _Options(
        blank, activation, dropout, fastemit_lambda, clamp, memory_budget_mib * 2**20, durations, sigma, kernel
    )  # fmt: skip
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
    """What NeMo's RNNTJoint and RNNTLoss modules compute, RNN-T's or TDT's, through fused_transducer_loss.

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
        reduction=loss.reduction,
        memory_budget_mib=memory_budget_mib,
        **{key: getattr(loss._loss, key) for key in OF_LOSS if hasattr(loss._loss, key)},
    )


def _uncovered(joint, loss):
    """What of NeMo's joint and loss modules is not covered, in words; None if everything is."""
    if type(joint).__name__ != "RNNTJoint":
        return f"the joint network {type(joint).__name__}"
    if type(loss._loss).__name__ not in LOSSES:
        return f"the loss {type(loss._loss).__name__} (only warprnnt_numba and tdt)"
    durations = getattr(loss._loss, "durations", [])
    if joint.num_extra_outputs != len(durations):
        return f"{joint.num_extra_outputs} extra outputs of the joint for {len(durations)} durations of the loss"
    if loss._loss.blank != joint.num_classes_with_blank - 1 - len(durations):
        # NeMo's own for tdt_pytorch, of which it knows no durations when it counts the outputs
        return f"a loss whose blank is output {loss._loss.blank} of {joint.num_classes_with_blank - len(durations)}"
    if durations and not {0, 1} <= {*durations}:
        return f"durations without 0 and 1, {list(durations)}: no path fits some utterances"
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
            joint = _Joint(f, g, weight, bias, plan, gradients=False)
            size = (len(frames), max(frames), max(labels) + 1)
            label_index = _label_index(targets, target_lengths, size[2])
            blank_logp, label_logp = f.new_zeros(size, dtype=precise), f.new_zeros(size, dtype=precise)
            duration_logp = f.new_zeros(len(options.durations), *size, dtype=precise)
            for b, start, stop, width in chunks:
                _, tokens, durations, _ = joint.cells(b, start, stop, width, slice(0, width))
                logp = torch.log_softmax(tokens[: (stop - start) * width], -1, dtype=precise)
                logp = logp.view(stop - start, width, -1)
                blank_logp[b, start:stop, :width] = logp[:, :, options.blank]
                index = label_index[b, None, :width, None].expand(stop - start, -1, -1)
                label_logp[b, start:stop, :width] = logp.gather(2, index)[:, :, 0]
                if options.durations:
                    logp = torch.log_softmax(durations[: (stop - start) * width], -1, dtype=precise)
                    duration_logp[:, b, start:stop, :width] = logp.t().view(-1, stop - start, width)
            del joint
            losses = f.new_empty(len(frames), dtype=precise)
            planes = 12 + 2 * len(options.durations)
            # its steps are so short that a few more utterances take hardly longer, on a GPU no longer at all
            room = options.budget_bytes * (8 if f.is_cuda else 2)
            group = max(1, int(room // (8 * planes * size[1] * size[2])))
            for some in (slice(start, start + group) for start in range(0, len(frames), group)):
                lengths = encoder_lengths[some], target_lengths[some]
                # the masses take the place of the log-probabilities
                if options.durations:
                    of_some = blank_logp[some] - options.sigma, label_logp[some] - options.sigma, duration_logp[:, some]
                    found = lattice.of_tdt(*of_some, options.durations, *lengths)
                    losses[some], blank_logp[some], label_logp[some], duration_logp[:, some] = found
                else:
                    found = lattice.of_rnnt(blank_logp[some], label_logp[some], *lengths)
                    losses[some], blank_logp[some], label_logp[some] = found
        mass = (blank_logp, label_logp, duration_logp) if options.durations else (blank_logp, label_logp)
        ctx.save_for_backward(f, g, weight, bias, label_index, *mass)
        ctx.plan = plan
        return losses * (1.0 + options.fastemit_lambda)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_losses):
        f, g, weight, bias, label_index, blank_mass, label_mass, *duration_mass = ctx.saved_tensors
        options = ctx.plan.options
        first, last = lattice.bands(blank_mass + label_mass)
        # NeMo's kernels, and TDT has no other, clamp before the upstream gradient; its loop on a CPU after it
        clamp_first = options.clamp > 0 and options.kernel
        with torch.autocast(f.device.type, enabled=False):
            joint = _Joint(f, g, weight, bias, ctx.plan, gradients=True)
            for b, start, stop, width in ctx.plan.chunks:
                low, high = min(first[b][start:stop]), max(last[b][start:stop]) + 1
                band = slice(min(low, width - 1), max(min(high, width), min(low, width - 1) + 1))
                hidden, tokens, durations, mask = joint.cells(b, start, stop, width, band)
                scale = 1.0 if clamp_first else grad_losses[b]
                # the padded rows of the matrices get no mass, and so no gradient
                more = (0, 0, 0, len(hidden) - (stop - start) * (band.stop - band.start))
                at_blank = pad(blank_mass[b, start:stop, band].reshape(-1, 1), more) * scale
                at_label = pad(label_mass[b, start:stop, band].reshape(-1, 1), more)
                at_label *= scale * (1.0 + options.fastemit_lambda)
                label = pad(label_index[b, band].repeat(stop - start)[:, None], more)
                dz = softmax = torch.softmax(tokens, -1, dtype=at_blank.dtype)
                if options.clamp > 0:
                    dz = softmax.clone()
                dz *= at_blank + at_label
                dz[:, options.blank] -= at_blank[:, 0]
                dz.scatter_add_(1, label, -at_label)
                if options.clamp > 0:
                    dz.clamp_(-options.clamp, options.clamp)
                    # on the CPU NeMo's joint ends in a log-softmax, whose backward pass follows the clamp
                    dz = dz * grad_losses[b] if clamp_first else dz - softmax * dz.sum(-1, keepdim=True)
                for mass in duration_mass:
                    at_duration = pad(mass[:, b, start:stop, band].reshape(len(mass), -1).t(), more) * grad_losses[b]
                    total = at_duration.sum(1, keepdim=True)
                    dz[:, joint.durations] = torch.softmax(durations, -1, dtype=dz.dtype) * total - at_duration
                joint.add_gradients(b, slice(start, stop), band, hidden, mask, dz)
        # the joint's weight is scaled and padded
        dw = joint.dw[: weight.shape[0]].div_(joint.keep).to(weight.dtype)
        dc = None if bias is None else joint.dc[: len(bias)].to(bias.dtype)
        return joint.df.to(f.dtype), joint.dg.to(g.dtype), dw, dc, None, None, None, None


class _Joint:
    """The joint network on chunks of cells, in buffers that all chunks use, and its gradients.

    The output layer is padded to a multiple of 16 outputs, the extra ones with probability 0: matrix products of an odd
    width take half as long again. Its rows are padded for oneDNN, with zeros.
    """

    def __init__(self, f, g, weight, bias, plan, gradients):
        self.onednn = ONEDNN and f.device.type == "cpu" and plan.dtype == torch.float32
        cells = self.padded(max((stop - start) * width for _, start, stop, width in plan.chunks))
        self.f, self.g, self.activation = f.to(plan.dtype), g.to(plan.dtype), plan.options.activation
        # the mask comes from random integers of 16 bits: on a CPU 10 times faster than bernoulli_
        self.dropped = round(plan.options.dropout * 2**16)
        self.keep = 1.0 - self.dropped / 2**16
        self.durations = slice(len(weight) - len(plan.options.durations), len(weight))
        extra = -weight.shape[0] % 16
        bias = torch.zeros_like(weight[:, 0]) if bias is None else bias
        self.bias = pad(bias.to(plan.dtype), (0, extra), value=-torch.inf)
        # dividing the weight by the share that is kept spares a pass over the hidden vectors
        self.weight = pad(weight, (0, 0, 0, extra)).div_(self.keep).to(plan.dtype)
        self.hidden = self.f.new_empty(cells, weight.shape[1])
        if self.dropped:
            self.generator = torch.Generator(f.device).manual_seed(plan.seed)
            self.mask = torch.empty_like(self.hidden)
            self.bits = self.hidden.new_empty(-(-self.hidden.numel() // 4), dtype=torch.int64)
        if gradients:
            precise = torch.promote_types(plan.dtype, torch.float32)
            inputs = self.f, self.g, self.weight, self.bias
            self.df, self.dg, self.dw, self.dc = (torch.zeros_like(x, dtype=precise) for x in inputs)

    def padded(self, cells):
        """The rows that a matrix of so many cells has."""
        return -(-cells // ROWS) * ROWS if self.onednn else cells

    def product(self, x, weight, bias=None):
        """x [M, K] times weight [N, K] transposed, plus bias [N] where there is one."""
        if self.onednn:
            return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return linear(x, weight, bias)

    def cells(self, b, start, stop, width, band):
        """Hidden vectors, logits of tokens and of durations, dropout mask or None; of frames start:stop, labels `band`.

        Of all but the mask the rows are padded; in the tokens' logits the columns of durations are -inf as well.
        The mask is drawn for all `width` label positions, so that it does not depend on the band.
        """
        rows, columns = stop - start, band.stop - band.start
        cells = rows * columns
        hidden = self.hidden[: self.padded(cells)]
        hidden[cells:] = 0
        view = hidden[:cells].view(rows, columns, -1)
        torch.add(self.f[b, start:stop, None], self.g[b, None, band], out=view)
        ACTIVATIONS[self.activation](view)
        mask = None
        if self.dropped:
            mask = self.mask[: rows * width].view(rows, width, -1)
            bits = self.bits[: -(-mask.numel() // 4)]
            bits.random_(-(2**63), None, generator=self.generator)
            bits = bits.view(torch.int16)[: mask.numel()].view_as(mask)
            mask = torch.ge(bits, self.dropped - 2**15, out=mask)[:, band]
            view.mul_(mask)
        logits = self.product(hidden, self.weight, self.bias)
        durations = logits[:, self.durations].clone()
        logits[:, self.durations] = -torch.inf
        return hidden, logits, durations, mask

    def add_gradients(self, b, frames, band, hidden, mask, dz):
        """Add what the chunk's d loss / d logits `dz` gives to the gradients; overwrites hidden."""
        rows, columns = frames.stop - frames.start, band.stop - band.start
        self.dc += dz.sum(0)
        dz = dz.to(hidden.dtype)
        if self.dw.dtype == dz.dtype:
            self.dw.addmm_(dz.t(), hidden)
        else:
            self.dw += dz.t() @ hidden
        dh = self.product(dz, self.weight.t())
        # the activation's derivative from its value; for relu and sigmoid it is 0 where dropped
        if self.activation == "relu":
            dh *= hidden.sign_()
        elif self.activation == "sigmoid":
            dh *= hidden.addcmul_(hidden, hidden, value=-1)
        else:
            dh *= hidden.square_().neg_().add_(1)
        dh = dh[: rows * columns].view(rows, columns, -1)
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
