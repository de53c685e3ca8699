"""The benchmarks are fair: both sides get the same problems, and the tables are what they say."""

import numpy as np
import pytest
import torch

from helpers.plain import close
from lib.energy import matching, objective
from lib.energy.minimise import minimise
from lib.studies.psm_energy import slides, timing

COUNT, N, RESTARTS = 96, 5, 2


@pytest.fixture(scope="module")
def g():
    return timing.grid(COUNT, n=N, restarts=RESTARTS, seed=1)


@pytest.fixture
def at_the_start(monkeypatch):
    """Nothing is minimised: both sides hand back the values of their starts."""

    class Start:
        def __init__(self, function, start, jac=False, method=None):
            value = function(start)
            self.x, self.fun, self.nfev, self.success = start, value[0] if jac else value, 1, False

    monkeypatch.setattr(slides, "minimize", Start)
    monkeypatch.setattr(
        matching, "minimise", lambda *given, **how: minimise(*given, **how | {"evaluations": 0})
    )


def test_the_grid(g):
    assert len(g) == COUNT == len(g.kinds) == len(g.f) == len(g.strength)
    assert g.start.shape == (COUNT, N, 3) and g.target.shape == (COUNT, N, N) and g.norms.shape == (COUNT, N)
    settings = list(zip(g.kernels, g.kinds, g.f.tolist(), g.strength.tolist(), strict=True))
    assert len(set(settings)) == 24 and all(settings.count(setting) == 4 for setting in set(settings))
    assert {setting[2] for setting in settings} == {2, 3} and {setting[3] for setting in settings} == {
        10,
        100,
    }
    used = torch.arange(3) < g.f[:, None, None]
    assert ((g.start != 0) == used.expand(COUNT, N, 3)).all()
    close(g.start.norm(dim=-1), g.norms)
    rbf = torch.tensor([kind == "rbf" for kind in g.kinds])
    for which, low in ((~rbf, 1), (rbf, 10)):
        assert (g.norms[which] >= low).all() and (g.norms[which] <= 2 * low).all()
    close(g.target.diagonal(dim1=1, dim2=2), torch.ones(COUNT, N, dtype=torch.float64))
    assert (g.target[rbf] > 0).all() and (g.target[~rbf] < 0).any() and (g.target[rbf] < 0.9).any()
    assert torch.equal(objective.check_psm(g.target), g.target)
    # An RBF target says how long its directions are: log T = -(n_i^2 + n_j^2 - 2 x_i.x_j) / C with |cos| <= 1.
    apart = -200 * g.target[rbf].log()
    sums = g.norms[rbf][:, :, None] + g.norms[rbf][:, None, :]
    off = ~torch.eye(N, dtype=torch.bool)
    assert (apart.sqrt() <= sums + 1e-6)[:, off].all()
    assert (apart.sqrt() >= (g.norms[rbf][:, :, None] - g.norms[rbf][:, None, :]).abs() - 1e-6)[:, off].all()


def test_restarts_lie_next_to_each_other(g):
    names = ("kernels", "kinds")
    first = [[getattr(g, name)[i::RESTARTS] for name in names] for i in range(RESTARTS)]
    assert first[0] == first[1]
    for name in ("f", "strength", "target", "norms"):
        groups = getattr(g, name).reshape(COUNT // RESTARTS, RESTARTS, -1)
        assert torch.equal(groups[:, 0], groups[:, 1]), name
        if name in ("target", "norms"):
            assert len(groups[:, 0].unique(dim=0)) == COUNT // RESTARTS
    assert len(g.start.flatten(1).unique(dim=0)) == COUNT
    assert torch.equal(g.start, timing.grid(COUNT, n=N, restarts=RESTARTS, seed=1).start)
    assert not torch.equal(g.start, timing.grid(COUNT, n=N, restarts=RESTARTS, seed=2).start)


@pytest.mark.parametrize("count, restarts, words", [(97, 2, "97 problems"), (24, 2, "24 settings with 2")])
def test_a_count_that_does_not_fill_the_grid_is_refused(count, restarts, words):
    with pytest.raises(ValueError, match=words) as raised:
        timing.grid(count, n=5, restarts=restarts)
    assert "\n" not in str(raised.value)


def test_both_sides_of_the_joint_step_start_from_one_value(g, at_the_start):
    ours, seconds = timing.joint(g)
    theirs, their_seconds = timing.joint_scipy(g, range(COUNT))
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-10)
    assert len(np.unique(theirs.round(9))) == COUNT and seconds > 0 and their_seconds > 0
    some = [5, 0, 77]
    np.testing.assert_array_equal(timing.joint_scipy(g, some)[0], theirs[some])


def test_the_grid_of_the_reoptimisation():
    kernels, start, norms = timing.reoptimisation_grid(108, n=5, seed=1)
    assert len(kernels) == 108 and start.shape == (108, 5, 4) and norms.shape == (108, 5)
    assert all(kernels.count(kernel) == 36 for kernel in objective.KERNELS)
    used = (start != 0).any(1).sum(-1)
    assert torch.equal(used.bincount(), torch.tensor([0, 0, 36, 36, 36]))
    assert ((norms >= 1) & (norms <= 2)).all()
    # Perturbed by sigma n_i in each of f dimensions: the further, the larger both.
    off = (start.norm(dim=-1) / norms - 1).abs().mean(-1)
    cells = [off[i : i + 4].mean().item() for i in range(0, 108, 4)]
    for i in range(0, 27, 3):
        assert cells[i] < 0.03 < cells[i + 1] < 0.3 and cells[i + 1] < cells[i + 2]
    pairs = norms.reshape(54, 2, 5)
    assert torch.equal(pairs[:, 0], pairs[:, 1]), "restarts of one problem have the same norms to hold"
    assert len(pairs[:, 0].unique(dim=0)) == 54 and len(start.flatten(1).unique(dim=0)) == 108
    names = [(kernels[i], used[i].item()) for i in range(108)]
    assert names[::2] == names[1::2]
    with pytest.raises(ValueError, match="100 problems do not fill 27 settings"):
        timing.reoptimisation_grid(100, n=5)


def test_both_sides_of_the_reoptimisation_start_from_one_value(at_the_start):
    *given, lengths = timing.reoptimisation_grid(54, n=5)
    ours, _ = timing.reoptimise(*given, norms=lengths)
    held, _ = timing.reoptimise_scipy(*given, norms=lengths, which=range(54), penalty=None)
    np.testing.assert_allclose(ours.numpy(), held, rtol=1e-10)
    penalised, _ = timing.reoptimise_scipy(*given, norms=lengths, which=[3, 40])
    for value, i in zip(penalised, (3, 40), strict=True):
        start, norms = given[1][i : i + 1], lengths[i]
        own = objective.energy(start, given[0][i]) + 100 * (start[0].norm(dim=-1) - norms).abs().sum()
        assert value == pytest.approx(own.item(), rel=1e-10)


def test_a_sample_is_whole_groups_from_all_over():
    assert timing._spread(96, restarts=4, sample=8) == [0, 1, 2, 3, 92, 93, 94, 95]
    chosen = timing._spread(3840, restarts=4, sample=96)
    assert len(chosen) == 96 and chosen[0] == 0 and chosen[-1] == 3839
    assert np.diff(chosen[::4]).max() <= 170 and all(i % 4 == 0 for i in chosen[::4])
    assert timing._spread(8, restarts=4, sample=100) == list(range(8))
    assert timing._spread(8, restarts=4, sample=1) == [0, 1, 2, 3]


def test_a_few_of_the_sample_are_solved_alone():
    assert timing._few(list(range(96))) == [0, 16, 32, 48, 64, 80]
    assert timing._few([4, 5]) == [4, 5]


def test_whose_best_is_lower():
    theirs = np.array([1.0, 2, 3, 4, 5, 6, 7, 8])
    ours = np.array([2.0, 0.9, 3, 4, 5 + 1e-9, 6, 7.1, 8])  # below, equal, equal, above
    found = timing._lower(ours, theirs, restarts=2)
    assert found == {"not above": 0.75, "below": 0.25}
    assert timing._lower(-ours[:2], -theirs[:2], restarts=2) == {"not above": 1.0, "below": 0.0}
    assert timing._lower(np.array([-1.1]), np.array([-1.0]), restarts=1) == {"not above": 1.0, "below": 1.0}
    assert timing._lower(np.array([-0.9]), np.array([-1.0]), restarts=1) == {"not above": 0.0, "below": 0.0}


def test_the_comparison(monkeypatch):
    asked, grid = [], timing.grid

    def small(count, *, n, **settings):
        asked.append((count, n))
        return grid(96, n=5, **settings)

    joint_row, other_row = timing._joint_row, timing._reoptimisation_row
    monkeypatch.setattr(timing, "grid", small)
    monkeypatch.setattr(
        timing, "_joint_row", lambda count, **settings: joint_row(96, **settings) | {"problems": count}
    )
    monkeypatch.setattr(
        timing,
        "_reoptimisation_row",
        lambda count, *, n, **settings: other_row(54, n=5, **settings) | {"n": n, "problems": count},
    )
    monkeypatch.setattr(timing, "_few", lambda which: which[:2])
    threads = torch.get_num_threads()
    table = timing.against_scipy(1, sample=8, powell_sample=4, largest=192)
    assert torch.get_num_threads() == threads
    assert asked == [(96, 5), (96, 5), (96, 5), (96, 11)], "the first of all is not kept"
    assert table[["step", "n", "problems"]].to_numpy().tolist() == [
        ["joint", 5, 96],
        ["joint", 5, 192],
        ["joint", 11, 480],
        ["re-optimisation", 5, 108],
        ["re-optimisation", 11, 54],
    ]
    assert (table["repetition"] == 0).all()
    assert (table[["ours", "scipy", "ratio", "alone"]] > 0).all(axis=None)
    np.testing.assert_allclose(table["ratio"], table["scipy"] / table["ours"])
    assert (table["not above"] >= table["below"]).all()
    assert (table["not above"] >= 0.5).all() and (table["not above"] <= 1).all()
    assert (table["ratio"] > 1).all() and (table["alone"] > 1).all()


def test_the_comparison_with_scikit_learn_is_at_equal_accuracy():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1, 300, 30)).astype(np.float32)
    y = X[0, :, :3].T + rng.standard_normal((3, 300)) > 1.5  # rare, so that balance counts
    use = rng.random(y.shape) < 0.8
    table = timing.against_sklearn(X, y, use=use, repetitions=2, sklearn_tol=1e-6)
    assert table.repetition.tolist() == [0, 1] and (table[["batched", "sklearn"]] > 0).all(axis=None)
    np.testing.assert_allclose(table.ratio, table.sklearn / table.batched)
    assert table[["batched_cosine", "sklearn_cosine"]].min(axis=None) > 0.9999
