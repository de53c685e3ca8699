"""Energy matching: norms, dimensions, noise, known optima, and scipy's best of many restarts."""

import pytest
import torch

from helpers.plain import close, draw, generator
from lib.energy import matching, objective
from lib.energy.minimise import FAR
from lib.energy.objective import (
    KERNELS,
    SIMILARITIES,
    EnergyError,
    equal_weights,
    problems,
    similarity,
    simplex,
)
from lib.studies.psm_energy import slides

PAIRS = [(kernel, kind) for kernel in KERNELS for kind in SIMILARITIES]
LISTS = [list(names) for names in zip(*PAIRS, strict=True)]
NAMES = dict(zip(("kernel", "kind"), LISTS, strict=True))


def lengths(*shape, seed=1):
    return 1 + torch.rand(*shape, generator=generator(seed), dtype=torch.float64)


def bent(n, f, norms, seed=3):
    """A target for each pair of kernel and similarity that f dimensions cannot hold."""
    x = objective.held(draw(len(PAIRS), n, 2 * f + 2, seed=seed), norms)
    return torch.stack([similarity(x[b], kind) for b, (_, kind) in enumerate(PAIRS)])


@pytest.mark.parametrize("free", [False, True])
def test_norms_are_held_exactly(free):
    norms = lengths(6, 5) * torch.tensor([1, 1, 1, 20, 0.01, 1]).double()[:, None]
    weights = None if free else lengths(5, seed=2)
    p = problems(6, **NAMES, target=bent(5, 2, norms), strength=10.0, weights=weights, norms=norms)
    found = matching.joint(p, draw(6, 5, 2))
    close(found.x.norm(dim=-1) / norms, torch.ones_like(norms), 1e-12)
    again = matching.reoptimise(found.x, equal_weights(5), kernel=LISTS[0], norms=2 * norms)
    close(again.x.norm(dim=-1) / norms, torch.full_like(norms, 2), 1e-12)
    again = matching.reoptimise(found.x, equal_weights(5), kernel=LISTS[0])
    close(again.x.norm(dim=-1) / norms, torch.ones_like(norms), 1e-12)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("norms", [None, lengths(6, 5)])
def test_what_comes_back_belongs_together(norms, free):
    weights = None if free else equal_weights(5)
    p = problems(6, **NAMES, target=bent(5, 3, lengths(6, 5)), strength=10.0, weights=weights, norms=norms)
    found = matching.joint(p, draw(6, 5, 3), evaluations=200)
    close(found.weights.sum(-1), torch.ones(6, dtype=torch.float64))
    value, in_x, in_w = objective.objective(found.x, found.weights.log() if free else None, p)
    close(found.value, value, 1e-9)
    largest = ((1 if norms is None else norms[..., None]) * in_x).flatten(1).abs().amax(-1)
    largest = torch.maximum(largest, in_w.abs().amax(-1)) if free else largest
    close(found.gradient, largest, 1e-9)
    near = norms is not None or found.x.flatten(1).abs().amax(-1) <= FAR  # what falls for ever has no minimum
    assert torch.equal(found.converged, (found.gradient <= 1e-6 * value.abs().clamp_min(1)) & near)
    start = draw(6, 5, 3) if norms is None else objective.held(draw(6, 5, 3), norms)
    equal = torch.zeros(6, 5, dtype=torch.float64) if free else None
    assert (found.value < objective.objective(start, equal, p)[0]).all()
    part = found[torch.tensor([2, 0])]
    assert torch.equal(part.x, found.x[[2, 0]]) and torch.equal(part.value, found.value[[2, 0]])
    assert torch.equal(part.evaluations, found.evaluations[[2, 0]])


def test_the_joint_step_without_held_norms_may_change_them():
    target = similarity(4 * draw(5, 3, seed=8), "rbf")
    p = problems(1, kind="rbf", target=target, strength=1e3, weights=equal_weights(5))
    found = matching.joint(p, 4 * draw(1, 5, 3))
    assert (found.x.norm(dim=-1) - 4 * draw(1, 5, 3).norm(dim=-1)).abs().max() > 0.1


def test_fewer_dimensions_in_a_batch_are_a_problem_of_its_own():
    f = torch.tensor([2, 3, 4, 2, 3, 4])
    norms, start = lengths(6, 5), matching.starts(6, n=5, f=f, generator=generator())
    target = bent(5, 2, norms)
    settings = dict(strength=10.0, weights=equal_weights(5))
    both = matching.joint(problems(6, **NAMES, **settings, target=target, norms=norms), start)
    again = matching.reoptimise(start, equal_weights(5), kernel=LISTS[0], norms=norms)
    for b, (kernel, kind) in enumerate(PAIRS):
        used = int(f[b])
        for found in (both, again):
            assert (found.x[b, :, used:] == 0).all() and found.x[b, :, :used].abs().min() > 0
        own = start[b : b + 1, :, :used]
        p = problems(1, kernel, kind=kind, **settings, target=target[b], norms=norms[b])
        one = matching.joint(p, own)
        close(both.value[b], one.value[0], 1e-7)
        close(matching.psm(both)[b], matching.psm(one)[0], 1e-3)
        one = matching.reoptimise(own, equal_weights(5), kernel=kernel, norms=norms[b])
        close(again.value[b], one.value[0], 1e-7)


def test_starts():
    x = matching.starts(500, n=4, f=3, generator=generator())
    assert x.shape == (500, 4, 3) and x.dtype == torch.float64
    assert abs(x.mean()) < 0.05 and abs(x.std() - 1) < 0.05
    assert torch.equal(x, matching.starts(500, n=4, f=3, generator=generator()))
    f = torch.tensor([1, 3, 2])
    x = matching.starts(3, n=4, f=f, generator=generator())
    assert x.shape == (3, 4, 3)
    assert torch.equal((x != 0).all(1).sum(-1), f) and torch.equal((x != 0).any(1).sum(-1), f)


@pytest.mark.parametrize("f", [0, -1, torch.tensor([2, 0])])
def test_no_configuration_in_no_dimensions(f):
    with pytest.raises(EnergyError, match=r"f is (0|-1); .*at least one dimension") as raised:
        matching.starts(2, n=4, f=f, generator=generator())
    assert "\n" not in str(raised.value)
    with pytest.raises(EnergyError, match="f is 0"):
        matching.fit(torch.eye(4)[None], 0)


def test_noise_is_isotropic_and_in_units_of_each_length():
    x = torch.cat([draw(2, 3, 2), torch.zeros(2, 3, 1)], -1)
    x[1, :, 1] = 0  # the second problem uses one dimension
    x[0, 1, 0] = 0  # a coordinate that happens to be zero is in use
    many = x.repeat_interleave(4000, 0)
    sigma = torch.tensor([0.1, 0.5]).repeat_interleave(4000)
    noise = (matching.perturb(many, sigma, generator=generator()) - many).reshape(2, 4000, 3, 3)
    expected = torch.tensor([0.1, 0.5])[:, None, None] * x.norm(dim=-1, keepdim=True)
    expected = expected * torch.tensor([[1, 1, 0], [1, 0, 0]])[:, None]
    assert (noise.std(1) - expected).abs().max() < 0.05 * expected.max()
    assert ((noise.std(1) - expected).abs() <= 0.05 * expected).all()
    assert (noise.mean(1).abs() <= 0.08 * expected).all()
    one = matching.perturb(x, 0.2, generator=generator())
    assert torch.equal(
        one, matching.perturb(x, torch.full((2,), 0.2, dtype=torch.float64), generator=generator())
    )
    assert torch.equal(matching.perturb(x, 0.0, generator=generator()), x)


def test_a_psm_that_can_be_embedded_is_fitted_exactly():
    target = similarity(draw(4, 6, 3))
    found = matching.fit(target, 3)
    assert found.x.shape == (4, 6, 3) and found.converged.all()
    assert matching.distance(matching.psm(found), target).max() < 1e-5
    assert found.value.max() < 1e-10
    close(found.x.norm(dim=-1), torch.ones(4, 6, dtype=torch.float64), 1e-12)
    assert matching.distance(matching.psm(matching.fit(target, 2)), target).min() > 0.1


def test_the_fit_of_what_cannot_be_embedded():
    """Three directions cannot all have cosines of -0.9; the nearest have -1/2."""
    target = torch.full((3, 3), -0.9, dtype=torch.float64).fill_diagonal_(1)
    found = matching.fit(target[None], 2)
    close(matching.psm(found)[0], similarity(simplex(3)), 1e-5)
    close(found.value.item(), 6 * 0.4**2, 1e-9)
    close(matching.distance(matching.psm(found)[0], target).item() ** 2, found.value.item(), 1e-6)


def test_the_best_of_the_restarts_is_kept():
    target = similarity(draw(7, 14)).expand(10, 7, 7)
    few, many = (matching.fit(target, 2, restarts=restarts).value for restarts in (1, 24))
    assert few.max() > few.min() + 0.1, "this target has local minima"
    close(many, many.amin().expand(10), 1e-6)
    assert many.max() <= few.min() + 1e-6
    value = torch.tensor([3.0, 1, 2, 5, 6, 4])
    assert matching.best(value, 3).tolist() == [1, 5] and matching.best(value, 2).tolist() == [1, 2, 5]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("f", [4, 6])
def test_with_enough_dimensions_every_start_ends_at_the_simplex(kernel, f):
    norms = torch.full((10, 5), 3.0)
    found = matching.reoptimise(draw(10, 5, f), equal_weights(5), kernel=kernel, norms=norms)
    assert found.converged.all()
    close(matching.psm(found), similarity(simplex(5)).expand(10, 5, 5), 1e-4)
    close(found.value, objective.energy(3 * simplex(5)[None], kernel).expand(10), 1e-9)


def test_with_exp_norms_do_not_matter():
    x = draw(4, 5, 4)
    ended = matching.reoptimise(x, equal_weights(5), kernel="exp", norms=10 * lengths(4, 5))
    close(matching.psm(ended), similarity(simplex(5)).expand(4, 5, 5), 1e-4)
    ended = matching.reoptimise(x, equal_weights(5), kernel="log", norms=3 * lengths(4, 5) - 2.5)
    assert (matching.psm(ended) - similarity(simplex(5))).abs().max() > 0.05


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_unit_of_length_does_not_matter(kernel):
    x = draw(5, 6, 3)
    small = matching.reoptimise(x, equal_weights(6), kernel=kernel)
    large = matching.reoptimise(50 * x, equal_weights(6), kernel=kernel)
    close(large.x / 50, small.x, 1e-9)
    assert torch.equal(large.evaluations, small.evaluations)
    close(large.value, objective.energy(large.x, kernel))
    close(small.value, objective.energy(small.x, kernel))


def test_each_problem_of_a_reoptimisation_has_its_own_kernel_and_weights():
    x, weights = draw(1, 5, 2).expand(3, 5, 2), lengths(3, 5).softmax(-1)
    found = matching.reoptimise(x, weights, kernel=list(KERNELS))
    for b, kernel in enumerate(KERNELS):
        close(found.value[b : b + 1], objective.energy(found.x[b : b + 1], kernel, weights=weights[b]))
        assert found.value[b] < objective.energy(x[:1], kernel, weights=weights[b])


def test_no_higher_than_scipys_best_of_as_many_restarts():
    n, f, restarts, b = 4, 2, 6, len(PAIRS)
    norms = lengths(b, n) * torch.tensor([1.0, 10.0] * 3)[:, None]
    target = bent(n, f, norms)
    start = objective.held(draw(b * restarts, n, f), norms.repeat_interleave(restarts, 0))
    names = {key: [name for name in column for _ in range(restarts)] for key, column in NAMES.items()}
    again = [t.repeat_interleave(restarts, 0) for t in (target, norms)]
    p = problems(b * restarts, **names, target=again[0], strength=5.0, norms=again[1])
    found = matching.joint(p, start)
    ours = found.value[matching.best(found.value, restarts)]
    for i, (kernel, kind) in enumerate(PAIRS):
        theirs = [
            slides.joint(
                target[i].numpy(),
                x.numpy(),
                setting=slides.Setting(kernel, kind),
                strength=5.0,
                norms=norms[i].numpy(),
            ).value
            for x in start[i * restarts : (i + 1) * restarts]
        ]
        assert ours[i] <= min(theirs) + 1e-6 * abs(min(theirs))
        assert ours[i] > min(theirs) - 0.05 * abs(min(theirs)), "the same problem"


def test_free_weights_collapse_without_the_diagonal_and_are_equal_with_it():
    n = 5
    for f, target in ((4, similarity(simplex(n))), (2, similarity(draw(n, 9)))):
        for diagonal in (False, True):
            p = problems(4, target=target, strength=100.0, norms=torch.ones(n), diagonal=diagonal)
            found = matching.joint(p, draw(4, n, f), evaluations=300)
            largest = found.weights.amax(-1)
            if not diagonal:
                assert (largest > 0.99).all(), "one feature alone has no energy"
                continue
            if f == 4:
                close(found.weights, equal_weights(n).expand(4, n), 1e-4)
            # In general they are what makes w K w least: (K w)_i is the same wherever w_i is not 0, and no less there.
            pull = (matching.psm(found).exp() @ found.weights[..., None])[..., 0]
            lowest = pull.amin(-1, keepdim=True)
            assert (found.weights * (pull - lowest)).max() < 1e-4 and largest.max() < 0.6


def test_free_weights_start_equal():
    p = problems(2, norms=torch.ones(4), diagonal=True)
    found = matching.joint(p, draw(2, 4, 3), evaluations=0)
    close(found.weights, equal_weights(4).expand(2, 4), 1e-15)
    close(found.x, torch.nn.functional.normalize(draw(2, 4, 3), dim=-1), 1e-15)


def test_distance_by_hand():
    a = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    b = torch.tensor([[1.0, -0.1], [-0.1, 0.8]])
    close(matching.distance(a, b, p=1.0).item(), 0.6 + 0.6 + 0.2, 1e-6)
    close(matching.distance(a, b).item(), (0.36 + 0.36 + 0.04) ** 0.5, 1e-6)
    close(matching.distance(a, b, p=3.0).item(), (0.216 * 2 + 0.008) ** (1 / 3), 1e-6)
    both = matching.distance(torch.stack([a, b]), b)
    assert both.shape == (2,) and both[1] == 0 and both[0] > 0


def test_psm_of_where_it_ended():
    found = matching.reoptimise(3 * draw(2, 4, 2), equal_weights(4))
    close(matching.psm(found), similarity(found.x))
    close(matching.psm(found, "rbf", c=5.0), similarity(found.x, "rbf", c=5.0))


def test_a_direction_of_length_zero_cannot_be_held():
    x = draw(1, 4, 2)
    x[0, 1] = 0
    with pytest.raises(EnergyError, match="norms must be positive; the smallest given is 0"):
        matching.reoptimise(x, equal_weights(4))


def test_whole_inverse_hessians_are_kept_of_small_problems_with_a_target(monkeypatch):
    asked, minimise = [], matching.minimise

    def spied(*given, dense, **settings):
        asked.append(dense)
        return minimise(*given, dense=dense, **settings)

    monkeypatch.setattr(matching, "minimise", spied)
    norms = lengths(6, 5)
    p = problems(6, **NAMES, target=bent(5, 2, norms), strength=10.0, norms=norms)
    matching.joint(p, draw(6, 5, 2), evaluations=2)
    matching.reoptimise(draw(6, 5, 2), equal_weights(5), evaluations=2)
    many = draw(1, matching.DENSE, 2)
    matching.joint(
        problems(1, target=similarity(many), weights=equal_weights(matching.DENSE)), many, evaluations=2
    )
    assert asked == [True, False, False]
