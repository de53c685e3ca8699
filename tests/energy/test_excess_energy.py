"""Minima against the literature (Thomson's problem), statistics of planted minimisers and of random directions."""

import math

import pytest
import torch

from helpers.plain import close, generator
from lib.energy import excess_energy, matching, nulls
from lib.energy.excess_energy import measure, minima, planted_minimiser
from lib.energy.objective import EnergyError, energy, equal_weights, similarity, simplex

# sum over pairs of 1 / r at the minimum (Wales & Ulker 2006, table I; Erber & Hockney 1991 for the local one of 16)
THOMSON = {4: 3.674234614, 5: 6.474691495, 6: 9.985281374, 11: 40.596450510, 12: 49.165253058}
THOMSON_16 = (92.911655302, 92.920353962)


def unit(*shape, seed=0):
    x = torch.randn(*shape, generator=generator(seed), dtype=torch.float64)
    return x / x.norm(dim=-1, keepdim=True)


def ordered(psm):
    return nulls.off_diagonal(psm).sort().values


@pytest.mark.parametrize("n", THOMSON)
def test_thomsons_energies(n):
    found = minima(n, f=3, kernel="riesz")
    close(found.values[0].item(), 2 * THOMSON[n] / n**2, 1e-8)  # ordered pairs, weights of 1 / n
    assert (
        len(found.values) == 1 and found.converged == 1 and found.counts.tolist() == [excess_energy.RESTARTS]
    )


def test_sixteen_charges_have_two_minima():
    found = minima(16, f=3, kernel="riesz")
    close(found.values, 2 * torch.tensor(THOMSON_16, dtype=torch.float64) / 256, 1e-8)
    assert found.x.shape == (2, 16, 3) and (found.counts > 0).all()
    assert found.counts.sum().item() == round(found.converged * excess_energy.RESTARTS)
    close(energy(found.x, "riesz"), found.values)


@pytest.mark.parametrize("kernel", ["log", "riesz"])
def test_five_on_a_sphere_are_a_triangular_bipyramid(kernel):
    found = minima(5, f=3, kernel=kernel)
    expected = torch.tensor([-1.0, *[-0.5] * 3, *[0.0] * 6], dtype=torch.float64)
    close(ordered(similarity(found.x[0])), expected, 1e-4)
    if kernel == "log":
        close(found.values[0].item(), -2 / 25 * (math.log(2) + 3 * math.log(2) + 1.5 * math.log(3)), 1e-9)


@pytest.mark.parametrize("kernel", ["exp", "log", "riesz"])
def test_four_on_a_sphere_are_a_tetrahedron(kernel):
    found = minima(4, f=3, kernel=kernel)
    close(similarity(found.x[0]), similarity(simplex(4)), 1e-4)
    assert len(found.values) == 1


def test_on_a_circle_they_are_evenly_spaced():
    found = minima(5, f=2, kernel="log")
    a, b = math.cos(0.4 * math.pi), math.cos(0.8 * math.pi)
    close(ordered(similarity(found.x[0])), torch.tensor([b] * 5 + [a] * 5, dtype=torch.float64), 1e-4)
    close(found.values[0].item(), -math.log(5) / 5, 1e-10)  # the product of the distances from one is n


def test_minima_are_distinct_and_lowest_first(monkeypatch):
    """Restarts that end at 2, 1, 1, 3 and, not converged, at 0."""
    value = torch.tensor([2.0, 1.0, 1.0 + 1e-9, 3.0, 0.0], dtype=torch.float64)
    given = torch.arange(5.0)[:, None, None] * torch.ones(5, 3, 2)
    converged = torch.tensor([True, True, True, True, False])
    gradient = torch.tensor([1e-9, 1e-8, 3e-7, 1e-9, 1.0])
    ended = matching.Matched(given, torch.ones(5, 3), value, gradient, torch.ones(5), converged)
    monkeypatch.setattr(matching, "reoptimise", lambda *a, **k: ended)
    found = minima.__wrapped__(3, f=2, restarts=5)
    assert found.values.tolist() == [1, 2, 3] and found.counts.tolist() == [2, 1, 1]
    assert found.x[:, 0, 0].tolist() == [1, 0, 3]
    assert found.gradient == pytest.approx(3e-7) and found.converged == pytest.approx(0.8)


def test_minima_are_found_again_and_are_critical():
    found = minima(6, f=3, kernel="exp", seed=3)
    close(minima.__wrapped__(6, f=3, kernel="exp", seed=3).x, found.x, 1e-12)
    assert excess_energy.projected_gradient(found.x, "exp").max() < 1e-5
    assert found.gradient <= 1e-6
    close(found.x.norm(dim=-1), torch.ones_like(found.x[..., 0]), 1e-12)


def test_the_energy_of_random_vectors():
    # On the sphere E[1 / r] is 1 and E[exp cos] is sinh 1; on the circle E[log r] is 0.
    assert excess_energy.random_energy(6, f=3, kernel="riesz") == pytest.approx(5 / 6, rel=0.01)
    assert excess_energy.random_energy(6, f=3, kernel="exp") == pytest.approx(5 / 6 * math.sinh(1), rel=0.01)
    assert abs(excess_energy.random_energy(6, f=2, kernel="log")) < 0.01


def test_the_projected_gradient_by_hand():
    """Two unit vectors at a right angle: dE / d angle is -exp(0) / 2, along each of the two."""
    x = torch.eye(2, dtype=torch.float64)[None]
    close(excess_energy.projected_gradient(x).item(), 2**0.5 / 2, 1e-12)
    # log: E = -log(2 sin(a / 2)) / 2
    close(excess_energy.projected_gradient(x, "log").item(), 2**0.5 / 4, 1e-12)
    # riesz: E = 1 / (4 sin(a / 2))
    close(excess_energy.projected_gradient(x, "riesz").item(), 1 / 4, 1e-12)
    assert (
        excess_energy.random_gradient(5, f=3, kernel="log")
        == excess_energy.projected_gradient(unit(excess_energy.DRAWS, 5, 3), "log").median()
    )


@pytest.mark.parametrize("kernel", ["exp", "log", "riesz"])
def test_a_minimiser_measures_zero_and_random_vectors_one(kernel):
    n, f, draws = 6, 3, 60
    lowest = similarity(minima(n, f=f, kernel=kernel).x[:1])
    found = measure(torch.cat([lowest, similarity(unit(draws, n, f, seed=5))]), f, kernel=kernel)
    assert found.excess.shape == (draws + 1,) and found.misfit.max() < 1e-4
    assert abs(found.excess[0]) < 1e-6 and found.gradient[0] < 1e-3 and found.distance[0] < 1e-2
    excess, gradient = found.excess[1:], found.gradient[1:]
    assert abs(excess.mean() - 1) < 4 * excess.std() / draws**0.5 and excess.min() > 0
    assert abs(gradient.median() - 1) < 0.3 and gradient.min() > 0.1
    assert found.distance[1:].min() > 0.1 and found.converged.all()


@pytest.mark.parametrize("kernel", ["log", "riesz"])
def test_each_statistic_is_what_it_says(kernel):
    target = similarity(unit(3, 6, 12, seed=4))
    fitted = matching.fit(target, 3)
    one, other = measure(target, 3, kernel=kernel, fitted=fitted), measure(target, 3, kernel=kernel)
    for name in one.__dataclass_fields__:
        close(getattr(one, name).double(), getattr(other, name).double(), 1e-9)
    close(one.misfit, (matching.psm(fitted) - target).square().sum((1, 2)).sqrt())
    ended = matching.reoptimise(fitted.x, equal_weights(6), kernel=kernel)
    close(one.distance, matching.distance(matching.psm(ended), matching.psm(fitted)), 1e-4)
    lowest, random = (
        minima(6, f=3, kernel=kernel).values[0],
        excess_energy.random_energy(6, f=3, kernel=kernel),
    )
    close(one.excess, (energy(fitted.x, kernel) - lowest) / (random - lowest))
    gradients = [
        excess_energy.projected_gradient(x, kernel) for x in (fitted.x, unit(excess_energy.DRAWS, 6, 3))
    ]
    close(one.gradient, gradients[0] / gradients[1].median(), 1e-6)


def ranked(directions, f, draws=19, kernel="exp"):
    """p-values of directions `(count, n, d)` among shuffles of their own PSMs."""
    psms = similarity(directions)
    shuffles = [nulls.edge_shuffled(psm, draws, generator=generator(i)) for i, psm in enumerate(psms)]
    found = measure(torch.cat([psms, *shuffles]), f, kernel=kernel)
    count = len(psms)
    return {
        name: torch.tensor(
            [nulls.p_value(value[i].item(), value[count:].reshape(count, draws)[i]) for i in range(count)]
        )
        for name, value in vars(found).items()
    }


@pytest.mark.parametrize("n, f, kernel", [(5, 3, "log"), (7, 4, "exp")])
def test_a_planted_minimiser_is_told_from_its_shuffles(n, f, kernel):
    # Not so with 6 in 3 dimensions, an octahedron, which every thirtieth shuffle is too.
    p = ranked(
        planted_minimiser(n, f=f, d=24, noise=0.2, count=2, generator=generator(), kernel=kernel),
        f,
        kernel=kernel,
    )
    for name in ("excess", "gradient", "distance"):
        assert (p[name] <= 0.05).all(), name


def test_random_directions_are_not_told_from_their_shuffles():
    p = ranked(unit(6, 6, 24, seed=2), 3)
    for name in ("excess", "gradient", "distance"):
        assert 0.2 < p[name].mean() < 0.85 and (p[name] > 0.05).sum() >= 4, name


def test_what_is_planted():
    lowest = minima(6, f=3, kernel="log").x[0]

    def planted(d, noise):
        return planted_minimiser(6, f=3, d=d, noise=noise, count=4, generator=generator(), kernel="log")

    exact = planted(10, 0.0)
    assert exact.shape == (4, 6, 10)
    close(exact @ exact.mT, (lowest @ lowest.T).expand(4, 6, 6), 1e-12)
    assert (exact[0] - exact[1]).abs().max() > 0.1, "each draw is turned by itself"
    blurred = planted(1000, 0.5)
    assert (blurred.norm(dim=-1) - 1.25**0.5).abs().max() < 0.1
    blur = blurred - planted(1000, 0.0)
    assert (blur.norm(dim=-1) - 0.5).abs().max() < 0.06


def test_distance_from_the_simplex():
    psms = torch.stack([similarity(simplex(5)), torch.eye(5, dtype=torch.float64), torch.ones(5, 5).double()])
    close(
        excess_energy.simplex_distance(psms), torch.tensor([0, 20**0.5 / 4, 20**0.5 * 5 / 4]).double(), 1e-7
    )


@pytest.mark.parametrize("kernel", ["exp", "log", "riesz"])
def test_a_path_leads_from_one_energy_to_the_other(kernel):
    start, end = 2 * unit(5, 3), 2 * unit(5, 3, seed=1)
    found = excess_energy.path(start, end, kernel=kernel, steps=11)
    assert found.shape == (11,)
    close(found[0], energy(start[None], kernel)[0], 1e-12)
    close(found[-1], energy(end[None], kernel)[0], 1e-12)
    middle = start + end
    close(found[5], energy(2 * middle[None] / middle.norm(dim=-1)[:, None], kernel)[0], 1e-12)
    longer = excess_energy.path(start, 7 * end, kernel=kernel, steps=11)
    close(longer[-1], found[-1], 1e-12)


def test_a_path_through_the_origin_is_refused():
    start = unit(4, 3)
    with pytest.raises(EnergyError, match="not finite"):
        excess_energy.path(start, -start)


def test_a_target_is_checked():
    for spoilt, words in (
        (torch.full((1, 4, 4), torch.nan), "NaN"),
        (torch.arange(16.0).reshape(1, 4, 4), "symmetric"),
    ):
        with pytest.raises(EnergyError, match=words):
            measure(spoilt, 3)
