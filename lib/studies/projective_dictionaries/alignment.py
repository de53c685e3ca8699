"""Alignment search compared: learned rotations, dictionary subspaces and coefficient swaps, in superposition and out.

Budgets are equal: a dictionary sees as many hidden states as the learned rotations of all variables together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from lib.common.metrics import mean_and_rms
from lib.dictionaries import coding
from lib.dictionaries.base import Dictionary
from lib.dictionaries.projective import Projective
from lib.dictionaries.sae import TopK
from lib.dictionaries.selection import dense, mask
from lib.dictionaries.training import fit
from lib.studies.projective_dictionaries import interchange, variables

BATCH, PAIRS, LATENTS = (
    1024,
    32,
    128,
)  # hidden states per dictionary step; pairs per variable and step; latents
DIGIT_BATCH = 128  # pairs of digits per step of a rotation, and hidden states per step of their dictionaries
DICTIONARIES = {"tied projection": Projective, "top-k": TopK}
RATE = 3e-3  # learning rate of the dictionaries

# A method's name, the dimensions it swaps, and what came of it.
Judged = tuple[str, int, interchange.Scores]
Accuracy = tuple[str, int, Tensor]


@dataclass(frozen=True)
class Budget:
    """What all ways of alignment search share: subspaces' widths, steps of a rotation, the source of random numbers."""

    widths: Sequence[int]
    steps: int
    seed: int
    generator: Generator


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

    Tidy: method, width (dimensions swapped), active, seed, and the fields of `interchange.Scores`.
    """
    budget = Budget(widths, steps, seed, torch.Generator().manual_seed(seed))
    active = torch.tensor(actives, dtype=torch.float).repeat_interleave(seeds)
    trained = variables.train_superposed(active, seed=seed, steps=network_steps).model.eval()
    untrained = variables.Superposed(len(active), generator=budget.generator)
    test = variables.pairs(trained, active, n=64, generator=budget.generator)
    rows = [
        *_rotations("learned rotation", trained, active, test, budget),
        *_known_directions(trained, test, budget.generator),
    ]
    for title, kind in DICTIONARIES.items():
        rows += _subspaces(title, kind, trained, active, seeds, test, budget)
    test = variables.pairs(untrained, active, n=64, generator=budget.generator)
    rows += _rotations("learned rotation, untrained network", untrained, active, test, budget)
    frames = [
        pd.DataFrame({key: value.numpy() for key, value in judged._asdict().items()}).assign(
            method=method, width=width, active=active.int().numpy(), seed=list(range(seeds)) * len(actives)
        )
        for method, width, judged in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _rotations(
    method: str, network: variables.Superposed, active: Tensor, test: variables.Pairs, budget: Budget
) -> list[Judged]:
    """A learned rotation for every variable, at each width."""
    rows = []
    for width in budget.widths:
        pairs = variables.interchanges(network, active, n=PAIRS, generator=budget.generator)
        settings = {"loss": variables.squared_error, "steps": budget.steps, "seed": budget.seed}
        Q = interchange.learn_rotation(pairs, network.tail, k=width, **settings)
        rows.append((method, width, _judge(network, test, _swap(test, Q))))
    return rows


def _known_directions(
    network: variables.Superposed, test: variables.Pairs, generator: Generator
) -> list[Judged]:
    """What needs no search: the true direction of a variable, a random one, and a swap of its true coefficient."""
    true = network.dictionary
    random = F.normalize(torch.randn(true.shape, generator=generator), dim=-1)
    every = torch.arange(true.shape[1])[None, :, None]
    swapped = interchange.swap_coefficient(
        true,
        every,
        base=test.h_base,
        source=test.h_source,
        active_base=test.x_base > 0,
        active_source=test.x_source > 0,
    )
    return [
        ("true direction", 1, _judge(network, test, _swap(test, true[..., None]))),
        ("random direction", 1, _judge(network, test, _swap(test, random[..., None]))),
        ("coefficient swap, true dictionary", 1, _judge(network, test, swapped)),
    ]


def _subspaces(
    title: str,
    kind: type[Dictionary],
    network: variables.Superposed,
    active: Tensor,
    seeds: int,
    test: variables.Pairs,
    budget: Budget,
) -> list[Judged]:
    """Spans of a dictionary's columns at each width, and a swap of one coefficient.

    A dictionary is trained for each number active: the replicas with it are `seeds` in a row.
    """
    parts = []
    for start in range(0, len(active), seeds):
        mine = slice(start, start + seeds)
        of_mine = variables.Pairs(*(part[mine] for part in test))
        parts.append(_by_dictionary(kind, network.W.detach()[mine], active[mine], of_mine, budget))
    spans = [torch.cat(states) for states in zip(*(spans for spans, _ in parts), strict=True)]
    swapped = torch.cat([swapped for _, swapped in parts])
    return [
        *(
            (f"{title}, span", width, _judge(network, test, h))
            for width, h in zip(budget.widths, spans, strict=True)
        ),
        (f"{title}, coefficient swap", 1, _judge(network, test, swapped)),
    ]


def _swap(test: variables.Pairs, Q: Tensor) -> Tensor:
    return interchange.swap_subspace(Q, base=test.h_base, source=test.h_source)


@torch.no_grad()
def _judge(network: variables.Superposed, test: variables.Pairs, h: Tensor) -> interchange.Scores:
    out = interchange.through(network.tail, h)
    return interchange.scores(out, base=test.out_base, counterfactual=test.out_counterfactual)


def _by_dictionary(
    kind: type[Dictionary], W: Tensor, active: Tensor, test: variables.Pairs, budget: Budget
) -> tuple[list[Tensor], Tensor]:
    """Hidden states swapped by a dictionary of the states of networks W `(replicas, d, m)` with one number active.

    First a list of those whose span is swapped, by width; then those of which one coefficient is.
    """
    (replicas, d, m), generator = W.shape, budget.generator
    sample = variables.sample(active, 4000, variables=m, generator=generator)
    mean, rms = mean_and_rms(sample @ W.mT)
    k = min(max(int(active[0]), 1), d - 1)
    model = kind(d_in=d, d_sae=LATENTS, k=k, replicas=replicas, generator=generator)

    def states():
        while True:
            yield (variables.sample(active, BATCH, variables=m, generator=generator) @ W.mT - mean) / rms

    hidden_states = 2 * PAIRS * m * budget.steps
    steps = max(1, hidden_states // BATCH)
    fit({"dictionary": model}, states(), steps=steps, lr=RATE, name="dictionary of states")
    with torch.no_grad():
        codes = _codes(model, (sample @ W.mT - mean) / rms)
        columns = interchange.choose_columns(codes, sample, k=max(budget.widths))
        rows = model.decoder.detach()
        replica = torch.arange(replicas)[:, None, None]
        spans = [
            _swap(test, interchange.span(rows[replica, columns[..., :width]])) for width in budget.widths
        ]
        # The mean is no feature: it is the same in base and source, and is left out of the coefficients.
        base, source = (part - mean[:, None] for part in (test.h_base, test.h_source))
        active_base, active_source = (_active(model, part / rms[:, None]) for part in (base, source))
        swapped = interchange.swap_coefficient(
            rows,
            columns[..., :1],
            base=base,
            source=source,
            active_base=active_base,
            active_source=active_source,
        )
    return spans, swapped + mean[:, None]


def _active(model: Dictionary, h: Tensor) -> Tensor:
    """Which latents the hidden states use, bool with the latents last."""
    code = model.select(model.prepare(h.flatten(1, -2))[0])
    return mask(code.index, code.valid, n=model.d_sae).view(*h.shape[:-1], model.d_sae)


@torch.no_grad()
def _codes(model: Dictionary, h: Tensor) -> Tensor:
    """Dense codes: least-squares coefficients of a projection, strengths of others."""
    inputs, y = model.prepare(h)
    code = model.select(inputs)
    beta = code.strength
    if model.projects:
        beta = model.project(code, y).coefficients.view(code.index.shape)
    return dense(code.index, torch.where(code.valid, beta, 0.0), n=model.d_sae)


def digit_pairs(
    images: Tensor,
    labels: Tensor,
    *,
    test_images: Tensor,
    test_labels: Tensor,
    seeds: int,
    steps: int,
    network_steps: int,
    seed: int,
    widths: Sequence[int] = (8, 16),
) -> pd.DataFrame:
    """Interchange accuracy of the left digit of a pair: learned rotations and dictionary columns, by width.

    Images are `(n, pixels)`, labels `(n,)`. Tidy: method, width, seed, accuracy (the share of pairs with both digits
    right that the network itself gets right).
    """
    budget = Budget(widths, steps, seed, torch.Generator().manual_seed(seed))
    trained = variables.train_pair_network(
        images, labels, replicas=seeds, steps=network_steps, seed=seed
    ).model.eval()
    untrained = variables.PairNetwork(seeds, pixels=images.shape[-1], generator=budget.generator)

    def draw(network: variables.PairNetwork, only_right: bool) -> variables.DigitPairs:
        settings = {"n": 4000, "generator": budget.generator, "only_right": only_right}
        return variables.digit_pairs(network, test_images, test_labels, **settings)

    def states(n: int) -> tuple[Tensor, Tensor]:
        return _states(trained, images, labels, n=n, seeds=seeds, generator=budget.generator)

    test = draw(trained, only_right=True)
    rows = _digit_rotations("learned rotation", trained, images, labels, test, budget)
    Q = interchange.span(_means(*states(4000)))
    rows.append(("class means", 9, variables.digit_accuracy(trained, test, Q)))
    for title, kind in DICTIONARIES.items():
        for how, columns in _left_columns(kind, states, budget).items():
            for width in widths:
                Q = interchange.span(columns[:, :width])
                rows.append((f"{title}, {how}", width, variables.digit_accuracy(trained, test, Q)))
    for width in widths:
        random = torch.randn(seeds, width, test.h_base.shape[-1], generator=budget.generator)
        accuracy = variables.digit_accuracy(trained, test, interchange.span(random))
        rows.append(("random directions", width, accuracy))
    # An untrained network reads hardly any pair right: there all pairs with different digits count.
    test = draw(untrained, only_right=False)
    rows += _digit_rotations("learned rotation, untrained network", untrained, images, labels, test, budget)
    frames = [
        pd.DataFrame({"accuracy": accuracy.numpy()}).assign(method=method, width=width, seed=range(seeds))
        for method, width, accuracy in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _digit_rotations(
    method: str,
    network: variables.PairNetwork,
    images: Tensor,
    labels: Tensor,
    test: variables.DigitPairs,
    budget: Budget,
) -> list[Accuracy]:
    """A learned rotation for the left digit, at each width."""
    rows = []
    for width in budget.widths:
        draw = {"n": DIGIT_BATCH, "generator": budget.generator}
        pairs = variables.digit_interchanges(network, images, labels, **draw)
        settings = {"loss": variables.cross_entropy, "steps": budget.steps, "seed": budget.seed}
        Q = interchange.learn_rotation(pairs, network.tail, k=width, **settings)
        rows.append((method, width, variables.digit_accuracy(network, test, Q)))
    return rows


def _states(
    network: variables.PairNetwork,
    images: Tensor,
    labels: Tensor,
    *,
    n: int,
    seeds: int,
    generator: Generator,
) -> tuple[Tensor, Tensor]:
    """n hidden states of random pairs `(seeds, n, d)`, and the left digits `(seeds, n)`."""
    i, j = (torch.randint(len(images), (seeds, n), generator=generator) for _ in range(2))
    with torch.no_grad():
        return network.hidden(images[i], images[j]), labels[i]


def _means(h: Tensor, left: Tensor) -> Tensor:
    """Mean hidden state of each left digit, less the mean of all, `(seeds, 10, d)`: of rank 9."""
    digits = F.one_hot(left, variables.DIGITS).float()
    return digits.mT @ (h - h.mean(1, keepdim=True)) / digits.sum(1)[..., None]


def _left_columns(
    kind: type[Dictionary], states: Callable[[int], tuple[Tensor, Tensor]], budget: Budget
) -> dict[str, Tensor]:
    """Decoder rows `(seeds, widest, d)` for the left digit, in order, chosen in two ways.

    `states(n)` draws hidden states and left digits. "by means": the rows that span the mean hidden states of the ten
    digits best (`coding.shared_omp`); "by correlation": those whose codes correlate most with one of the digits.
    """
    sample, left = states(4000)
    mean, rms = mean_and_rms(sample)
    seeds, _, d = sample.shape
    model = kind(d_in=d, d_sae=2 * LATENTS, k=8, replicas=seeds, generator=budget.generator)

    def batches():
        while True:
            yield (states(DIGIT_BATCH)[0] - mean) / rms

    hidden_states = 2 * DIGIT_BATCH * budget.steps
    steps = max(1, hidden_states // DIGIT_BATCH)
    fit({"dictionary": model}, batches(), steps=steps, lr=RATE, name="dictionary of pairs")
    h, rows, widest = (sample - mean) / rms, model.decoder.detach(), max(budget.widths)
    digits = F.one_hot(left, variables.DIGITS).float()
    strength = interchange.correlation(_codes(model, h), digits).abs().amax(1)
    best = {
        "by means": coding.shared_omp(rows, _means(h, left), k=widest),
        "by correlation": strength.topk(widest, dim=-1).indices,
    }
    return {how: rows.gather(1, index[..., None].expand(-1, -1, d)) for how, index in best.items()}
