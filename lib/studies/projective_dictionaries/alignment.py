"""Alignment search compared: learned rotations, dictionary subspaces and coefficient swaps, in superposition and out.

Budgets are equal: a dictionary sees as many hidden states as the learned rotations of all variables together.
"""

from collections.abc import Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lib.dictionaries import coding, recovery
from lib.dictionaries.base import Dictionary, TopK
from lib.dictionaries.projective import Projective
from lib.dictionaries.training import fit, scale
from lib.studies.projective_dictionaries import interchange, variables

BATCH, PAIRS, LATENTS = 1024, 32, 128  # hidden states a dictionary step; pairs a variable and step; latents


def superposed(
    actives: Sequence[int],
    *,
    seeds: int,
    steps: int,
    network_steps: int,
    seed: int,
    widths: Sequence[int] = (1, 2, 4),
) -> pd.DataFrame:
    """Interchange errors with 64 variables in 24 dimensions, by how many are active on average.

    Tidy: method, width (dimensions swapped), active, seed, and the fields of `lib.studies.projective_dictionaries.interchange.Scores`.
    """
    generator = torch.Generator().manual_seed(seed)
    active = torch.tensor(actives, dtype=torch.float).repeat_interleave(seeds)
    trained = variables.train_superposed(active, seed=seed, steps=network_steps).model.eval()
    untrained = variables.Superposed(len(active), generator=generator)
    rows = []
    for name, network in (("", trained), (", untrained network", untrained)):
        test = variables.pairs(network, active, 64, generator)
        for width in widths:
            pairs = variables.interchanges(network, active, PAIRS, generator)
            Q = interchange.learn_rotation(
                pairs, network.tail, variables.squared_error, width, steps=steps, seed=seed
            )
            rows.append((f"learned rotation{name}", width, _judge(network, test, _swap(test, Q))))
        if name:
            continue
        true = network.dictionary
        random = F.normalize(torch.randn(true.shape, generator=generator), dim=-1)
        for method, D in (("true direction", true), ("random direction", random)):
            rows.append((method, 1, _judge(network, test, _swap(test, D[..., None]))))
        states = (test.h_base, test.h_source, true, test.x_base > 0, test.x_source > 0)
        swapped = interchange.swap_coefficient(*states, torch.arange(64)[None, :, None])
        rows.append(("coefficient swap, true dictionary", 1, _judge(network, test, swapped)))
        for kind, title in ((Projective, "tied projection"), (TopK, "top-k")):
            parts = [
                _dictionary(kind, network, active, i, seeds, test, steps, widths, generator)
                for i in range(len(actives))
            ]
            for key in parts[0]:
                method = f"{title}, {'coefficient swap' if key == 'swap' else 'span'}"
                out = torch.cat([part[key] for part in parts])
                rows.append((method, 1 if key == "swap" else key, _judge(network, test, out)))
    frames = [
        pd.DataFrame({key: value.numpy() for key, value in judged._asdict().items()}).assign(
            method=method, width=width, active=active.int().numpy(), seed=list(range(seeds)) * len(actives)
        )
        for method, width, judged in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _swap(test: variables.Pairs, Q: Tensor) -> Tensor:
    return interchange.swap_subspace(test.h_base, test.h_source, Q)


@torch.no_grad()
def _judge(network: variables.Superposed, test: variables.Pairs, h: Tensor) -> interchange.Scores:
    return interchange.scores(interchange.through(network.tail, h), test.out_base, test.out_counterfactual)


def _dictionary(kind, network, active, i, seeds, test, steps, widths, generator) -> dict:
    """Swapped hidden states of a dictionary trained on the replicas with one number active: by width, and "swap"."""
    mine = slice(i * seeds, (i + 1) * seeds)
    W, rates = network.W.detach()[mine], active[mine]
    k = min(max(int(rates[0]), 1), W.shape[1] - 1)
    sample = variables.sample(rates, 4000, W.shape[2], generator)
    mean, rms = scale(sample @ W.mT)
    model = kind(W.shape[1], LATENTS, k, replicas=seeds, generator=generator)

    def states():
        while True:
            yield (variables.sample(rates, BATCH, W.shape[2], generator) @ W.mT - mean) / rms

    hidden_states = 2 * PAIRS * W.shape[2] * steps
    fit(
        {"dictionary": model},
        states(),
        steps=max(1, hidden_states // BATCH),
        lr=3e-3,
        name="dictionary of states",
    )
    with torch.no_grad():
        columns = interchange.choose_columns(_codes(model, (sample @ W.mT - mean) / rms), sample, max(widths))
        rows = model.decoder.detach()
        replica = torch.arange(seeds)[:, None, None]
        out = {}
        for width in widths:
            Q = interchange.span(rows[replica, columns[..., :width]])
            out[width] = interchange.swap_subspace(test.h_base[mine], test.h_source[mine], Q)
        # The mean is no feature: it is the same in base and source, and is left out of the coefficients.
        base, source = (part[mine] - mean[:, None] for part in (test.h_base, test.h_source))
        on = [_active(model, part / rms[:, None]) for part in (base, source)]
        swapped = interchange.swap_coefficient(base, source, rows, *on, columns[..., :1])
        out["swap"] = swapped + mean[:, None]
    return out


def _active(model: Dictionary, h: Tensor) -> Tensor:
    code = model.select(model.prepare(h.flatten(1, -2))[0])
    return recovery.selected(code.index, code.valid, model.n).view(*h.shape[:-1], model.n)


@torch.no_grad()
def _codes(model: Dictionary, h: Tensor) -> Tensor:
    """Dense codes: least-squares coefficients of a projection, strengths of others."""
    inputs, y = model.prepare(h)
    code = model.select(inputs)
    projects = hasattr(model, "project")
    beta = model.project(code, y).coefficients.view(code.index.shape) if projects else code.strength
    return recovery.dense(code.index, torch.where(code.valid, beta, 0.0), model.n)


def digit_pairs(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    seeds,
    steps,
    network_steps,
    seed,
) -> pd.DataFrame:
    """Interchange accuracy of the left digit of a pair: learned rotations and dictionary columns, 8 and 16 dimensions.

    Tidy: method, width, seed, accuracy (the share of pairs with both digits right that the network itself gets right).
    """
    generator = torch.Generator().manual_seed(seed)
    settings = {"steps": network_steps, "seed": seed}
    trained = variables.train_pair_network(images, labels, seeds, **settings).model.eval()
    untrained = variables.PairNetwork(seeds, images.shape[-1], generator=generator)
    rows, batch = [], 128
    for name, network in (("", trained), (", untrained network", untrained)):
        # No pair counts for a network that reads nothing: there all pairs with different digits do.
        test = variables.digit_pairs(network, test_images, test_labels, 4000, generator, only_right=not name)
        for width in (8, 16):
            pairs = variables.digit_interchanges(network, images, labels, batch, generator)
            Q = interchange.learn_rotation(
                pairs, network.tail, variables.cross_entropy, width, steps=steps, seed=seed
            )
            rows.append((f"learned rotation{name}", width, variables.digit_accuracy(network, test, Q)))
        if name:
            continue
        sample, left = _states(network, images, labels, seeds, 4000, generator)
        rows.append(
            (
                "class means",
                9,
                variables.digit_accuracy(network, test, interchange.span(_means(sample, left))),
            )
        )
        for kind, title in ((Projective, "tied projection"), (TopK, "top-k")):
            found = _left_columns(kind, network, images, labels, seeds, 2 * batch * steps, generator)
            for how, columns in found.items():
                for width in (8, 16):
                    accuracy = variables.digit_accuracy(network, test, interchange.span(columns[:, :width]))
                    rows.append((f"{title}, {how}", width, accuracy))
        for width in (8, 16):
            random = torch.randn(seeds, width, test.h_base.shape[-1], generator=generator)
            accuracy = variables.digit_accuracy(network, test, interchange.span(random))
            rows.append(("random directions", width, accuracy))
    frames = [
        pd.DataFrame({"accuracy": accuracy.numpy()}).assign(method=method, width=width, seed=range(seeds))
        for method, width, accuracy in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _states(network, images, labels, seeds, n, generator: Generator) -> tuple[Tensor, Tensor]:
    """n hidden states of random pairs `(seeds, n, d)`, and the left digits `(seeds, n)`."""
    i, j = (torch.randint(len(images), (seeds, n), generator=generator) for _ in range(2))
    with torch.no_grad():
        return network.hidden(images[i], images[j]), labels[i]


def _means(h: Tensor, left: Tensor) -> Tensor:
    """Mean hidden state of each left digit, less the mean of all, `(seeds, 10, d)`: of rank 9."""
    digits = F.one_hot(left, variables.DIGITS).float()
    return digits.mT @ (h - h.mean(1, keepdim=True)) / digits.sum(1)[..., None]


def _left_columns(
    kind, network, images, labels, seeds, hidden_states, generator: Generator
) -> dict[str, Tensor]:
    """16 decoder rows `(seeds, 16, d)` for the left digit, in order, chosen in two ways.

    "by means": those that span the mean hidden states of the ten digits best (`coding.shared_omp`); "by correlation":
    those whose codes correlate most with one of the digits.
    """
    sample, left = _states(network, images, labels, seeds, 4000, generator)
    mean, rms = scale(sample)
    model = kind(sample.shape[-1], 2 * LATENTS, 8, replicas=seeds, generator=generator)

    def states():
        while True:
            yield (_states(network, images, labels, seeds, 128, generator)[0] - mean) / rms

    fit(
        {"dictionary": model},
        states(),
        steps=max(1, hidden_states // 128),
        lr=3e-3,
        name="dictionary of pairs",
    )
    h, rows = (sample - mean) / rms, model.decoder.detach()
    digits = F.one_hot(left, variables.DIGITS).float()
    strength = interchange.correlation(_codes(model, h), digits).abs().amax(1)
    by_means = coding.shared_omp(rows, _means(h, left), 16)
    best = {"by means": by_means, "by correlation": strength.topk(16, dim=-1).indices}
    return {
        how: rows.gather(1, index[..., None].expand(-1, -1, rows.shape[-1])) for how, index in best.items()
    }
