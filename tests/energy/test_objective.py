"""Energies and similarities against the definition in loops, in float64, and against closed forms."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity, rbf_kernel

from helpers.plain import close, draw
from lib.energy import objective as energy
from lib.energy.objective import (
    KERNELS,
    SIMILARITIES,
    EnergyError,
    Kernel,
    check_psm,
    held,
    objective,
    problems,
    simplex,
)
from lib.studies.psm_energy import slides

PAIRS = [(kernel, kind) for kernel in KERNELS for kind in SIMILARITIES]
C = 7.0
ONE = torch.ones((), dtype=torch.float64)


def plain(x, weights, kernel, kind, target=None, strength=1.0, s=1.0, diagonal=False):
    """The definition, pair by pair."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(x)):
        for j in range(len(x)):
            cosine = x[i] @ x[j] / (x[i].norm() * x[j].norm()) if i != j else ONE
            distance = (x[i] - x[j]).norm() if i != j else 0 * ONE
            if i != j or diagonal:
                if kernel == "exp":
                    k = cosine.exp()
                elif kernel == "log":
                    k = -distance.log()
                else:
                    k = math.copysign(1, s) * distance**-s
                total = total + k * weights[i] * weights[j]
            if target is not None:
                likeness = cosine if kind == "cosine" else torch.exp(-(distance**2) / C)
                total = total + strength * (likeness - target[i, j]) ** 2
    return total


@pytest.fixture
def riesz(monkeypatch):
    """Sets the exponent of the Riesz kernel: what holds, holds of any."""

    def exponent(s):
        monkeypatch.setitem(energy.FORMS, "riesz", Kernel(scale=math.copysign(1, s), power=-s / 2))

    return exponent


class Setup:
    """One problem for each kernel and similarity (with the diagonal: exp alone), no two of them alike."""

    def __init__(self, free, held, targets=True, padded=0, diagonal=False, s=1.0, n=5, f=3):
        self.names = [pair for pair in PAIRS if pair[0] == "exp" or not diagonal]
        b = len(self.names)
        self.norms = 1 + torch.rand(b, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        x = draw(b, n, f)
        x = energy.held(x, self.norms) if held else 2 * x
        self.x = torch.cat([x, torch.zeros(b, n, padded, dtype=torch.float64)], -1)
        self.w = draw(b, n, seed=2)
        self.weights = self.w.softmax(-1)
        target = draw(b, n, n, seed=3)
        self.target = (target + target.mT) / 2 if targets else None
        self.strength = 1 + torch.arange(b, dtype=torch.float64)
        self.free, self.held, self.s, self.diagonal = free, held, s, diagonal
        self.p = problems(
            b,
            [kernel for kernel, _ in self.names],
            kind=[kind for _, kind in self.names],
            target=self.target,
            strength=self.strength,
            weights=None if free else self.weights,
            norms=self.norms if held else None,
            diagonal=diagonal,
            c=C,
        )

    def found(self):
        return objective(self.x, self.w if self.free else None, self.p)

    def reference(self, b, x, weights):
        target = None if self.target is None else self.target[b]
        return plain(x, weights, *self.names[b], target, self.strength[b], self.s, self.diagonal)


CASES = [
    dict(free=free, held=held, **more)
    for free in (False, True)
    for held in (False, True)
    for more in (
        {},
        dict(padded=2),
        dict(targets=False),
        dict(s=-1.5),
        dict(s=2.0, n=2, f=1),
        dict(diagonal=True),
        dict(diagonal=True, targets=False),
    )
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_are_those_of_the_definition(case, riesz):
    riesz(case.get("s", energy.S))
    given = Setup(**case)
    value, in_x, in_w = given.found()
    assert (in_w is None) == (not given.free)
    for b in range(len(given.p)):
        u = given.x[b].clone().requires_grad_()
        w = given.w[b].clone().requires_grad_()
        x = given.norms[b][:, None] * F.normalize(u, dim=-1) if given.held else u
        expected = given.reference(b, x, w.softmax(-1))
        expected.backward()
        close(value[b], expected.detach())
        close(in_x[b], u.grad)
        if given.free:
            close(in_w[b], w.grad)
    if case.get("padded"):
        assert (in_x[..., -case["padded"] :] == 0).all(), "what is not used stays out of use"


@pytest.mark.parametrize("diagonal", [False, True])
@pytest.mark.parametrize("targets", [False, True])
def test_equals_the_slides_version(targets, diagonal):
    given = Setup(free=True, held=False, targets=targets, diagonal=diagonal)
    value, in_x, in_w = given.found()
    for b, (kernel, kind) in enumerate(given.names):
        setting = slides.Setting(kernel, kind, diagonal=diagonal, c=C)
        target = given.target[b].numpy() if targets else None
        weights = given.weights[b].numpy()
        theirs = slides.loss(
            given.x[b].numpy(), weights, setting=setting, target=target, strength=given.strength[b].item()
        )
        close(value[b].item(), float(theirs[0]))
        close(in_x[b], torch.from_numpy(theirs[1]))
        close(in_w[b], torch.from_numpy(weights * (theirs[2] - weights @ theirs[2])))


@pytest.mark.parametrize("held", [False, True])
def test_gradients_by_finite_differences(held, riesz):
    riesz(-0.5)
    given = Setup(free=True, held=held, s=-0.5, n=3, f=2)

    class Objective(torch.autograd.Function):
        @staticmethod
        def forward(ctx, u, w):
            x = energy.held(u, given.norms) if held else u
            value, in_x, in_w = objective(x, w, given.p)
            ctx.save_for_backward(in_x * (given.norms / u.norm(dim=-1))[..., None] if held else in_x, in_w)
            return value

        @staticmethod
        def backward(ctx, grad):
            in_x, in_w = ctx.saved_tensors
            return grad[:, None, None] * in_x, grad[:, None] * in_w

    start = (1.7 * given.x).requires_grad_(), given.w.clone().requires_grad_()
    assert torch.autograd.gradcheck(Objective.apply, start, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("free", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_part_of_a_batch_is_the_same_problems(free, held):
    given = Setup(free, held)
    index = torch.tensor([4, 1])
    part = objective(given.x[index], given.w[index] if free else None, given.p[index])
    assert len(given.p[index]) == 2
    for one, whole in zip(part, given.found(), strict=True):
        if whole is not None:
            close(one, whole[index], 1e-13)


def test_one_value_stands_for_all_problems():
    x = held(draw(3, 4, 2), torch.ones(3, 4))
    target = energy.similarity(draw(4, 5))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    one = problems(
        3, "log", kind="rbf", target=target, strength=2.0, weights=weights, norms=torch.ones(4), c=C
    )
    each = problems(
        3,
        ["log"] * 3,
        kind=["rbf"] * 3,
        target=target.expand(3, 4, 4),
        strength=torch.full((3,), 2.0),
        weights=weights.expand(3, 4),
        norms=torch.ones(3, 4),
        c=C,
    )
    for a, b in zip(objective(x, None, one)[:2], objective(x, None, each)[:2], strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("n", [2, 3, 7])
def test_energies_of_the_simplex(n, riesz):
    x = simplex(n)[None]
    pairs, square, cosine = 1 - 1 / n, 2 * n / (n - 1), -1 / (n - 1)
    close(energy.energy(x).item(), pairs * math.exp(cosine), 1e-14)
    close(energy.energy(x, diagonal=True).item(), pairs * math.exp(cosine) + math.e / n, 1e-14)
    close(energy.energy(x, "log").item(), -pairs * math.log(square) / 2, 1e-14)
    for s in (1, 2.5, -1):
        riesz(s)
        expected = math.copysign(1, s) * pairs * square ** (-s / 2)
        close(energy.energy(x, "riesz").item(), expected, 1e-13)


def test_the_exponent_of_the_riesz_kernel():
    assert energy.S == 1 and energy.FORMS["riesz"] == Kernel(scale=1, power=-1 / 2)


def test_energies_of_two_opposite_directions(riesz):
    x = torch.tensor([[[0.0, 2.0], [0.0, -3.0]]], dtype=torch.float64)
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    pairs = 2 * 0.25 * 0.75
    close(energy.energy(x, weights=weights).item(), pairs / math.e)
    close(energy.energy(x, "log", weights=weights).item(), -pairs * math.log(5))
    close(energy.energy(x, "riesz", weights=weights).item(), pairs / 5)
    riesz(-2)
    close(energy.energy(x, "riesz", weights=weights).item(), -25 * pairs)


def test_what_a_change_of_scale_does(riesz):
    x, n = draw(4, 5, 3), 5
    scales = 1 + torch.rand(4, n, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    close(energy.energy(scales * x), energy.energy(x))
    close(energy.similarity(scales * x), energy.similarity(x))
    assert (energy.similarity(3 * x, "rbf") - energy.similarity(x, "rbf")).abs().max() > 0.01
    pairs = 1 - 1 / n
    close(energy.energy(3 * x, "log"), energy.energy(x, "log") - pairs * math.log(3))
    riesz(1.5)
    close(energy.energy(3 * x, "riesz"), 3**-1.5 * energy.energy(x, "riesz"))


@pytest.mark.parametrize("kernel, s", [("exp", 1), ("log", 1), ("riesz", 1), ("riesz", -1)])
def test_every_kernel_repels(kernel, s, riesz):
    riesz(s)

    def at(angle):
        x = torch.tensor([[1.0, 0.0], [math.cos(angle), math.sin(angle)]])
        return energy.energy(x[None], kernel).item()

    assert at(0.1) > at(1) > at(2) > at(math.pi)


def test_a_rotation_changes_nothing():
    x = draw(3, 5, 4)
    turn = torch.linalg.qr(draw(4, 4, seed=1))[0]
    for kernel in KERNELS:
        close(energy.energy(x @ turn, kernel), energy.energy(x, kernel))


def test_similarity_is_that_of_other_libraries():
    x = draw(2, 6, 9)
    for b in range(2):
        close(energy.similarity(x)[b], torch.from_numpy(cosine_similarity(x[b].numpy())), 1e-12)
        for c in (energy.C, 3.0):
            theirs = rbf_kernel(x[b].numpy(), gamma=1 / c)
            close(energy.similarity(x, "rbf", c=c)[b], torch.from_numpy(theirs), 1e-12)
        apart = energy.squared_distances(x)[b]
        close(apart, torch.from_numpy(cdist(x[b].numpy(), x[b].numpy(), "sqeuclidean")), 1e-12)
        assert (apart.diagonal() == 0).all()
    assert energy.C == 200
    default = rbf_kernel(x[0].numpy(), gamma=1 / 200)
    close(energy.similarity(x, "rbf")[0], torch.from_numpy(default), 1e-12)


def test_cosines_stay_between_minus_one_and_one():
    u = draw(1, 3, 50)
    found = energy.similarity(torch.cat([u, -3 * u, 7 * u], 1))
    assert found.max() <= 1 and found.min() >= -1


@pytest.mark.parametrize("n, f", [(2, None), (5, None), (5, 7)])
def test_the_simplex(n, f):
    x = simplex(n, f=f)
    assert x.shape == (n, f or n - 1) and (x[:, n - 1 :] == 0).all()
    expected = torch.full((n, n), -1 / (n - 1), dtype=torch.float64).fill_diagonal_(1)
    close(x @ x.T, expected, 1e-13)
    close(x.sum(0), torch.zeros(x.shape[1], dtype=torch.float64), 1e-13)


@pytest.mark.parametrize("held", [False, True])
def test_very_long_vectors_have_the_energy_of_their_scale(held, riesz):
    riesz(3)
    x = draw(1, 4, 3)
    for length in (1e6, 1e9):
        long = length * x
        p = energy.problems(
            1, "riesz", weights=torch.full((4,), 0.25), norms=long.norm(dim=-1) if held else None
        )
        value, gradient, _ = energy.objective(long, None, p)
        close(value * length**3, energy.energy(x, "riesz"), 1e-12)
        assert torch.isfinite(gradient).all()


def test_held_and_tangent():
    u, norms = draw(2, 4, 3), 1 + torch.rand(2, 4, generator=torch.Generator().manual_seed(1))
    x = held(u, norms.double())
    close(x.norm(dim=-1), norms.double(), 1e-14)
    close(F.normalize(x, dim=-1), F.normalize(u, dim=-1), 1e-14)
    d = draw(2, 4, 3, seed=2)
    along = energy.tangent(d, x)
    close((along * x).sum(-1), torch.zeros(2, 4, dtype=torch.float64), 1e-13)
    close(energy.tangent(along, x), along, 1e-13)
    close(energy.tangent(d + 5 * x, x), along, 1e-12)


def test_a_psm_is_taken_from_numpy_and_made_exactly_symmetric():
    psm = np.corrcoef(draw(4, 9).numpy())
    psm[0, 1] += 1e-8
    found = check_psm(psm)
    assert found.dtype == torch.float64 and torch.equal(found, found.mT)
    close(found, torch.from_numpy(psm), 1e-7)
    assert check_psm(torch.eye(3).expand(2, 3, 3)).shape == (2, 3, 3)


def asymmetric():
    psm = torch.eye(3)
    psm[0, 1] = 0.25
    return psm


TWICE = torch.ones(1, 2, 3) / 3
HALF = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)
REFUSED = {
    "NaN in a PSM": (lambda: check_psm(torch.full((3, 3), torch.nan)), "PSM has NaN or infinite"),
    "infinite PSM": (lambda: check_psm(torch.full((3, 3), torch.inf)), "PSM has NaN or infinite"),
    "asymmetric": (lambda: check_psm(asymmetric()), "not symmetric.*0.25"),
    "one of a batch asymmetric": (lambda: check_psm(torch.stack([torch.eye(3), asymmetric()])), "symmetric"),
    "1x1": (lambda: check_psm(torch.ones(1, 1)), "at least two features"),
    "not square": (lambda: check_psm(torch.ones(2, 3)), r"square matrix; got shape \(2, 3\)"),
    "a vector": (lambda: check_psm(torch.ones(3)), r"square matrix; got shape \(3,\)"),
    "target not symmetric": (lambda: problems(1, target=asymmetric()), "not symmetric"),
    "negative C": (lambda: energy.similarity(draw(3, 2), "rbf", c=-1.0), "C is -1.*positive"),
    "C = 0": (lambda: problems(1, kind="rbf", c=0.0), "C is 0.*positive"),
    "C NaN": (lambda: problems(1, kind="rbf", c=math.nan), "C is nan.*positive"),
    "C infinite": (lambda: problems(1, kind="rbf", c=math.inf), "C is inf.*positive, finite"),
    "kernel": (lambda: problems(1, "gauss"), "'gauss' is not known; known are exp, log, riesz"),
    "one kernel of two": (lambda: problems(2, ["exp", "gauss"]), "'gauss' is not known"),
    "similarity": (lambda: problems(1, kind="dot"), "'dot' is not known; known are cosine, rbf"),
    "a similarity": (lambda: energy.similarity(draw(3, 2), "dot"), "'dot' is not known"),
    "log with diagonal": (lambda: problems(1, "log", diagonal=True), "infinite at i = j"),
    "exp and riesz with diagonal": (
        lambda: problems(2, ["exp", "riesz"], diagonal=True),
        "infinite at i = j",
    ),
    "count of kernels": (lambda: problems(3, ["exp", "log"]), "2 kernels and 3 similarities for 3"),
    "count of similarities": (lambda: problems(3, kind=["rbf"]), "3 kernels and 1 similarities for 3"),
    "norm 0": (
        lambda: problems(1, norms=torch.tensor([1.0, 0.0])),
        "norms must be positive; the smallest given is 0",
    ),
    "norm NaN": (lambda: problems(1, norms=torch.tensor([1.0, torch.nan])), "norms must be positive"),
    "log of one place": (lambda: energy.energy(TWICE, "log"), "not finite: two features coincide.*log"),
    "riesz of one place": (lambda: energy.energy(TWICE, "riesz"), "not finite: two features coincide"),
    "NaN in a configuration": (lambda: energy.energy(TWICE * torch.nan), "not finite.*NaN or infinite"),
    "infinite configuration": (lambda: energy.energy(TWICE * torch.inf, "log"), "not finite.*NaN or inf"),
    "cosine of nothing": (lambda: energy.similarity(HALF), "length zero"),
    "energy of nothing": (lambda: energy.energy(HALF), "length zero"),
    "NaN direction": (lambda: energy.similarity(HALF * torch.nan), "NaN or infinite"),
    "NaN direction, rbf": (lambda: energy.similarity(HALF * torch.nan, "rbf"), "NaN or infinite"),
    "simplex, f": (lambda: simplex(4, f=2), "n = 4.*f = 2"),
    "simplex, n": (lambda: simplex(1), "n = 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_energy_is_refused_in_one_line(name):
    call, words = REFUSED[name]
    with pytest.raises(EnergyError, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)
    assert raised.value._render_traceback_() == [str(raised.value)]


def test_what_is_refused_with_one_kernel_is_fine_with_another():
    close(energy.energy(TWICE).item(), math.e / 2, 1e-14)
    assert torch.isfinite(energy.energy(HALF, "log")).all()
    close(energy.similarity(HALF, "rbf")[0, 0, 1].item(), math.exp(-1 / 200))


@pytest.mark.parametrize("f", [2, 3, 7, 16])
def test_features_in_one_place_are_seen_wherever_they_are(f):
    x = draw(60, 6, f, seed=f)
    energy.energy(x, "log")
    for b in range(len(x)):
        i, j = torch.randperm(6, generator=torch.Generator().manual_seed(b))[:2]
        x[b, i] = x[b, j]
        with pytest.raises(EnergyError, match="coincide"):
            energy.energy(x[b : b + 1], "log")


def test_on_the_way_two_features_in_one_place_have_a_large_finite_energy():
    x = held(torch.cat([TWICE.double(), draw(1, 1, 3)], 1), torch.ones(1, 3))
    for kernel in ("log", "riesz"):
        p = problems(1, kernel, weights=torch.ones(3), norms=torch.ones(3))
        near = x + torch.tensor([[[0, 0, 0], [0, 0, 1e-6], [0, 0, 0]]])
        assert torch.isfinite(objective(x, None, p)[0]).all()
        assert objective(x, None, p)[0] > objective(held(near, torch.ones(1, 3)), None, p)[0]
