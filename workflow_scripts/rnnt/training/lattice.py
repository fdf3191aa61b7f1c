"""Forward-backward over the lattices of RNN-T and TDT: the losses, and where the posterior mass is.

Shapes: B utterances, T encoder frames, U labels, D durations; a cell (t, u) has seen t frames and u labels.
Sources: Graves 2012 (arXiv 1211.3711) section 2.4; TDT, Xu et al. 2023 (arXiv 2304.06795) section 3.
"""

import torch
from torch.nn.functional import pad


def of_rnnt(blank_logp, label_logp, frames, labels):
    """Losses [B] and the posterior mass of each cell's blank and label arc, [B, T, U+1] each.

    The arguments are finite log-probabilities, [B, T, U+1] each, and the lengths [B]. Computed in float64, because a
    column subtracts long running sums.
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


def of_tdt(blank_logp, label_logp, duration_logp, durations, frames, labels):
    """Losses [B], the posterior mass of each cell's blank and label, [B, T, U+1], and of each duration, [D, B, T, U+1].

    The arguments are finite log-probabilities, [B, T, U+1] and [D, B, T, U+1], the frames of each duration, and the
    lengths [B]. A blank of d > 0 leads from (t, u) to (t + d, u), a label of d to (t + d, u + 1), within the
    frames; a blank alone leads to the end, which is (T, U). Where no path leads there the loss is inf.
    """
    t = torch.arange(blank_logp.shape[1] + 1, device=frames.device)[None, :, None]
    u = torch.arange(blank_logp.shape[2], device=frames.device)[None, None, :]
    b = torch.arange(blank_logp.shape[0], device=frames.device)[:, None, None]
    end_t, end_u = frames[:, None, None], labels[:, None, None]
    later = [(k, d) for k, d in enumerate(durations) if d > 0]

    def flipped(plane):
        """Every utterance read from its end backwards (its own inverse on real cells)."""
        return plane[b, (end_t - t).clamp(min=0), (end_u - u).clamp(min=0)]

    def leading_in(arc, d, d_u):
        """The arcs that lead d frames and d_u labels further, by where they end, and those of the flipped lattice."""
        d = min(d, t.numel())
        return torch.cat([pad(arc, (d_u, -d_u, d, -d)), flipped(arc)])

    def arcs(k, d):
        """Label and blank arcs of duration d out of each cell, -inf where there is none, [B, T + 1, U + 1] each."""
        within = (t + d < end_t) & (u <= end_u)
        to_the_end = (t + d == end_t) & (u == end_u)
        no_blank = ~(within | to_the_end) | (d == 0)
        label = pad(label_logp + duration_logp[k], (0, 0, 0, 1)).masked_fill(~within | (u >= end_u), -torch.inf)
        blank = pad(blank_logp + duration_logp[k], (0, 0, 0, 1)).masked_fill_(no_blank, -torch.inf)
        return label, blank

    into = blank_logp.new_empty(2 * len(b), t.numel(), len(later), 2, u.numel())
    for i, (k, d) in enumerate(later):
        for kind, arc in enumerate(arcs(k, d)):
            into[:, :, i, kind] = leading_in(arc, d, 1 - kind)
    at_once = None
    if 0 in durations:  # Where there is no such arc, no path goes on from its end.
        label = pad(label_logp + duration_logp[durations.index(0)], (0, 0, 0, 1))
        at_once = leading_in(label, 0, 1).cumsum(-1, dtype=torch.float64)
    x = _tdt_probabilities(into, at_once, [d for _, d in later])
    del into, at_once
    alpha, beta = x[: len(b)], flipped(x[len(b) :])
    total = beta[:, :1, :1]
    dtype = blank_logp.dtype
    blank_mass, label_mass = torch.zeros_like(blank_logp), torch.zeros_like(label_logp)
    duration_mass = torch.empty_like(duration_logp)
    beta = beta.masked_fill((t > end_t) | (u > end_u), -torch.inf)
    for k, d in enumerate(durations):
        label, blank = arcs(k, d)
        d = min(d, t.numel())
        after_blank = pad(beta, (0, 0, -d, d), value=-torch.inf)
        after_label = pad(after_blank, (-1, 1), value=-torch.inf)
        of_blank = (alpha + blank + after_blank - total).exp()[:, :-1].to(dtype)
        of_label = (alpha + label + after_label - total).exp()[:, :-1].to(dtype)
        blank_mass += of_blank
        label_mass += of_label
        duration_mass[k] = of_blank + of_label
    return -total[:, 0, 0].to(dtype), blank_mass, label_mass, duration_mass


def _tdt_probabilities(into, at_once, durations):
    """x[t, u], the sum over all ways that lead from (0, 0) to there, [N, T + 1, U + 1], in float64.

    `into` [N, T + 1, durations, 2, U + 1] has the label and blank arcs of duration > 0 by the cell where they end;
    `at_once` [N, T + 1, U + 1] the running sum over u of the labels of duration 0, or None. Those go along a row of one
    t, which is linear in exp(x): one logcumsumexp over u. So there is a loop over T, of a few kernels each.
    """
    n, rows, _, _, width = into.shape
    longest = max(durations)
    # with rows before the first and a position before the first, where nothing is
    x = into.new_full((n, longest + rows, 1 + width), -torch.inf, dtype=torch.float64)
    first = torch.tensor([longest - d for d in durations], device=x.device)
    sources = first + torch.arange(rows, device=x.device)[:, None]
    for t in range(rows):
        before = x.index_select(1, sources[t])
        # the position before is where a label comes from, the same position where a blank does
        before = before.as_strided((n, len(durations), 2, width), (*before.stride()[:2], 1, 1))
        row = torch.logsumexp(before + into[:, t], (1, 2))
        if t == 0:
            row[:, 0] = 0.0
        if at_once is not None:
            row = torch.logcumsumexp(row - at_once[:, t], -1) + at_once[:, t]
        x[:, longest + t, 1:] = row
    return x[:, longest:, 1:]


def bands(mass):
    """First and last label position of each frame whose gradient exceeds rounding, as [B][T] lists.

    mass [B, T, U+1] is the posterior mass of the cells. Each label position has a mass of 1 or more in all, and so has
    each frame of RNN-T; what is left out of it adds up to less than 1/16 of the rounding error of 1. That is half the
    lattice of an untrained model and most of a confident one's: the backward pass does without. A frame that a TDT
    passes over has an empty band: from U+1 to -1.
    """
    width = mass.shape[2]
    negligible = torch.finfo(mass.dtype).eps / 16 / (mass.shape[1] + width)
    active = ~(mass <= negligible)  # all where the mass is nan
    some = active.any(2)
    first = torch.where(some, active.int().argmax(2), width)
    last = torch.where(some, width - 1 - active.flip(2).int().argmax(2), -1)
    return torch.stack([first, last]).tolist()
