"""The study's tables: configurations whose statistics have a closed form, and which row is of which target."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize

from helpers.plain import close, draw, generator
from lib.energy import excess_energy, matching, nulls
from lib.energy.objective import KERNELS, EnergyError, energy, similarity, simplex
from lib.studies.psm_energy import measures, slides
from lib.studies.psm_energy.measures import AGAIN, LENGTH


def turned(x, d=16, seed=0):
    """A configuration `(n, f)` in d dimensions, with the same cosines."""
    return x @ torch.linalg.qr(draw(d, x.shape[-1], seed=seed))[0].T


def fan(*degrees):
    """Unit vectors in a plane."""
    angle = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], -1)


def to_triangle(psm):
    """Distance from three vectors 120 degrees apart, by hand."""
    return math.sqrt(sum(2 * (psm[i, j].item() + 0.5) ** 2 for i, j in ((0, 1), (0, 2), (1, 2))))


def test_half_the_features_rounded_up():
    assert [measures.dimensions(n) for n in (3, 4, 5, 6, 11)] == [2, 2, 3, 3, 6]


def test_targets_are_the_real_psm_and_its_nulls_by_name():
    x = draw(5, 16)
    others = {"shuffled labels": draw(3, 5, 16, seed=1), "random weights": draw(2, 5, 9, seed=2)}
    found = measures.targets(x, others, draws=40, generator=generator(3))
    assert {name: tuple(t.shape) for name, t in found.items()} == {
        "real": (1, 5, 5),
        "edge-shuffled": (40, 5, 5),
        "shuffled labels": (3, 5, 5),
        "random weights": (2, 5, 5),
        "coordinate-permuted": (40, 5, 5),
        "random directions": (40, 5, 5),
    }
    close(found["real"][0], similarity(x))
    for name, directions in others.items():
        close(found[name], similarity(directions))
    pairs = nulls.off_diagonal(found["edge-shuffled"]).sort(-1).values
    close(pairs, nulls.off_diagonal(found["real"]).sort(-1).values.expand(40, 10))
    # 400 cosines of Gaussian directions in 16 dimensions have mean 0 and variance 1/16.
    random = nulls.off_diagonal(found["random directions"])
    assert abs(random.mean()) < 5 / 4 / 20 and abs(random.square().mean() * 16 - 1) < 0.35
    again = measures.targets(x, others, draws=40, generator=generator(3))
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_permuting_constant_coordinates_changes_nothing():
    x = torch.ones(4, 16, dtype=torch.float64) * torch.tensor([1.0, -2, 3, 4])[:, None]
    found = measures.targets(x, {}, draws=5, generator=generator())
    close(found["coordinate-permuted"], similarity(x).expand(5, 4, 4))
    assert nulls.off_diagonal(found["random directions"]).abs().max() < 0.95


def test_directions_without_a_psm_are_refused():
    x = draw(4, 16)
    x[2] = 0
    with pytest.raises(EnergyError, match="a direction has length zero"):
        measures.targets(x, {}, draws=5, generator=generator())
    with pytest.raises(EnergyError, match="NaN"):
        measures.targets(x * torch.nan, {}, draws=5, generator=generator())


def test_an_exact_minimiser_has_no_excess_and_a_simplex_is_where_all_end():
    """n = 5 in 3 dimensions: the minimiser of exp is one; in n - 1 the distance is that from the simplex."""
    x = turned(excess_energy.minima(5, f=3).x[0])
    other = draw(5, 4, seed=1)
    found = {"real": similarity(x)[None], "null": similarity(torch.stack([other, draw(5, 4, seed=2)]))}
    table = measures.measured(found)
    assert table["target"].tolist() == ["real", "null", "null"] * 3
    assert table["draw"].tolist() == [0, 0, 1] * 3
    assert table["kernel"].tolist() == [kernel for kernel in KERNELS for _ in range(3)]
    assert (table["n"] == 5).all() and (table["f"] == 3).all()
    exp = table[table["kernel"] == "exp"]
    real, null = exp[exp["target"] == "real"].iloc[0], exp[exp["target"] == "null"]
    for column in ("misfit", "excess", "gradient", "distance"):
        assert abs(real[column]) < 1e-3 < 0.01 < null[column].abs().min(), column

    table = measures.measured(found, f=4)
    expected = excess_energy.simplex_distance(torch.cat(list(found.values()))).tolist()
    for kernel in KERNELS:
        got = table[table["kernel"] == kernel]
        assert got["distance"].tolist() == pytest.approx(expected, abs=1e-3)
        assert got["misfit"].max() < 1e-4 and (got["f"] == 4).all(), "four dimensions are enough for these"


def test_each_row_is_its_targets():
    psms = similarity(draw(4, 5, 16))
    found = {"a": psms[:1], "b": psms[1:]}
    table = measures.measured(found, f=3, kernels=("log",))
    assert list(zip(table["target"], table["draw"], strict=True)) == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]
    fitted = matching.fit(psms, 3, restarts=measures.RESTARTS)
    got = excess_energy.measure(psms, 3, kernel="log", fitted=fitted)
    for column in ("misfit", "excess", "gradient", "distance"):
        close(torch.tensor(table[column]), getattr(got, column), 1e-9)


def table_of(**values):
    """Made-up excess energies by target: kernel exp, with another kernel and column beside it."""
    rows = [
        {"target": target, "kernel": kernel, "excess": sign * value, "gradient": -value}
        for target, all_of in values.items()
        for kernel, sign in (("exp", 1), ("log", -1))
        for value in all_of
    ]
    return pd.DataFrame(rows)


def test_p_values_count_the_draws_at_least_as_low():
    table = table_of(real=[0.3], low=[0.1, 0.2, 0.3, 0.4], high=[0.5] * 19, one=[0.2])
    assert dict(measures.p_values(table)) == {"low": 4 / 5, "high": 1 / 20, "one": 1.0}
    assert list(measures.p_values(table).index) == ["low", "high", "one"]
    assert dict(measures.p_values(table, kernel="log")) == {"low": 3 / 5, "high": 1.0, "one": 1 / 2}
    assert measures.p_values(table, column="gradient")["high"] == 1.0
    for real in ([], [0.3, 0.4]):
        with pytest.raises(ValueError, match="size 1"):
            measures.p_values(table_of(real=real, low=[0.1]))


def test_scaled_to_one_length_for_all():
    x = draw(3, 5, 16) * torch.tensor([1.0, 2, 7], dtype=torch.float64)[:, None, None]
    got = measures.scaled(x)
    close(got.square().sum(-1).mean().sqrt().item(), LENGTH)
    close(got / x, (got / x)[0, 0, 0].expand_as(x))
    assert LENGTH**2 * 2 == 200, "two orthogonal directions are C apart"


def test_rbf_distances_of_two_vectors_that_turn_away_from_each_other():
    """Lengths 6 and 9, 60 degrees apart; every kernel ends with them opposite, the lengths held."""
    a, b = 6.0, 9.0
    x = fan(0, 60) * torch.tensor([[a], [b]], dtype=torch.float64)
    opposite = fan(0, 180) * torch.tensor([[b], [b]], dtype=torch.float64)
    found = {"real": turned(x)[None], "null": torch.stack([turned(opposite), turned(2 * x, seed=1)])}
    table = measures.rbf_distances(found, f=2)
    assert table["target"].tolist() == ["real", "null", "null"] * 3
    assert table["kernel"].tolist() == [kernel for kernel in KERNELS for _ in range(3)]

    def moved(a, b):
        before, after = a * a + b * b - a * b, (a + b) ** 2
        return math.sqrt(2) * abs(math.exp(-before / 200) - math.exp(-after / 200))

    for kernel in KERNELS:
        got = table.loc[table["kernel"] == kernel, "distance"]
        assert got.tolist() == pytest.approx([moved(a, b), 0, moved(2 * a, 2 * b)], abs=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_rbf_distances_of_three_lengths_against_scipy(kernel):
    """Lengths decide which angles are best, but for exp; scipy turns the vectors of a plane, the first one held."""
    lengths = torch.tensor([3.0, 8, 12], dtype=torch.float64)
    x = lengths[:, None] * fan(0, 70, 200)

    def placed(angles):
        return lengths[:, None] * fan(0, *np.rad2deg(angles))

    best = minimize(
        lambda angles: energy(placed(angles)[None], kernel).item(), np.deg2rad([70, 200]), tol=1e-9
    )
    expected = matching.distance(similarity(placed(best.x), "rbf"), similarity(x, "rbf")).item()
    found = measures.rbf_distances({"real": turned(x)[None]}, f=2, kernels=(kernel,))
    assert found["distance"].item() == pytest.approx(expected, abs=1e-3)
    triangle = matching.distance(
        similarity(placed([2.0943951, 4.1887902]), "rbf"), similarity(x, "rbf")
    ).item()
    assert (abs(triangle - expected) < 1e-3) == (kernel == "exp")


class Recorded:
    """In the place of Powell's method: stays where it is put, and keeps what it was given."""

    def __init__(self, move=lambda x: x):
        self.calls, self.move = [], move

    def __call__(self, start, *, norms, weights, setting, penalty):
        self.calls.append((start, norms, weights, setting, penalty))
        return slides.Stopped(self.move(start), weights, 0.0, 1, True)


def as_in_slides(x, sigmas=(0.1,), **settings):
    return measures.as_in_slides(x, sigmas, **dict(kinds=("cosine",), kernels=("exp",)) | settings)


def test_an_optimiser_that_stays_leaves_all_of_the_decrease(monkeypatch):
    stays = Recorded()
    monkeypatch.setattr(slides, "reoptimise", stays)
    x = turned(fan(0, 60, 180)) * torch.tensor([[1.0], [2], [3]], dtype=torch.float64)
    table = as_in_slides(x, (0.1, 0.01))
    assert table["method"].tolist() == ["Powell", "Powell, norms held", "converged", AGAIN] * 2
    assert table["sigma"].tolist() == [0.1] * 4 + [0.01] * 4
    assert (table["kernel"] == "exp").all() and (table["similarity"] == "cosine").all()
    by = table.set_index(["sigma", "method"])
    target = similarity(x)
    assert [call[-1] for call in stays.calls] == [measures.PENALTY, None] * 2
    norms = stays.calls[0][1]
    for i, sigma in enumerate((0.1, 0.01)):
        start, held, weights, setting, _ = stays.calls[2 * i]
        assert (stays.calls[2 * i + 1][0] == start).all(), "both from one start"
        assert (
            (held == norms).all() and (weights == 1 / 3).all() and setting == slides.Setting("exp", "cosine")
        )
        for method in ("Powell", "Powell, norms held"):
            assert by.loc[(sigma, method), "left"] == pytest.approx(1, abs=1e-9)
            apart = matching.distance(similarity(torch.from_numpy(start)), target).item()
            assert by.loc[(sigma, method), "distance"] == pytest.approx(apart, abs=1e-9)
        assert by.loc[(sigma, "converged"), "left"] == 0
        for method in ("converged", AGAIN):
            # All that end, end at the triangle, whose pairs have an energy of exp(-1/2) each.
            assert by.loc[(sigma, method), "distance"] == pytest.approx(to_triangle(target), abs=1e-3)
            assert by.loc[(sigma, method), "energy"] == pytest.approx(6 / 9 * math.exp(-0.5), abs=1e-7)
    # The same noise, a tenth of it: what is perturbed lies beyond the smaller perturbation.
    far, near = (stays.calls[i][0] for i in (0, 2))
    assert np.linalg.norm(near + (near - far) / 9, axis=1) == pytest.approx(norms) and (near != far).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_what_is_left_between_the_start_and_the_minimum(monkeypatch, kernel):
    """A method that ends at 40, 150 and 260 degrees, with other lengths, which are brought back."""
    end = fan(40, 150, 260)
    ends = Recorded(lambda start: (end * torch.tensor([[3.0], [4], [5]])).numpy())
    monkeypatch.setattr(slides, "reoptimise", ends)
    x = turned(fan(0, 60, 180))
    table = as_in_slides(x, kernels=(kernel,)).set_index("method")
    start, norms = (torch.from_numpy(part) for part in ends.calls[0][:2])
    before, here = (
        energy((norms[:, None] * z / z.norm(dim=-1, keepdim=True))[None], kernel).item() for z in (start, end)
    )
    lowest = table.loc["converged", "energy"]
    assert lowest < here < before
    expected = (here - lowest) / (before - lowest)
    assert table.loc["Powell", "left"] == pytest.approx(expected, abs=1e-9) and 0.001 < expected < 0.5
    assert table.loc["Powell", "energy"] == pytest.approx(here, abs=1e-9)
    apart = matching.distance(similarity(end), similarity(x)).item()
    assert table.loc["Powell", "distance"] == pytest.approx(apart, abs=1e-9)
    assert table["kept"].isna().all() == (kernel != "exp"), "log and riesz are infinite at i = j"


def test_rbf_similarity_is_of_scaled_directions(monkeypatch):
    """The fit meets the target, and so has its distances: those of lengths of 10, whatever they were."""
    stays = Recorded()
    monkeypatch.setattr(slides, "reoptimise", stays)
    table = as_in_slides(7 * turned(fan(0, 60, 180)), (0.0,), kinds=("rbf",)).set_index("method")
    assert (table["similarity"] == "rbf").all()
    assert table.loc["Powell", "distance"] < 0.01 < table.loc["converged", "distance"]
    fitted = torch.from_numpy(stays.calls[0][0])
    square = (fitted[:, None] - fitted[None]).square().sum(-1)
    close(square[[0, 1, 0], [1, 2, 2]], torch.tensor([100.0, 300, 400]).double(), 0.02)


def test_converged_from_two_perturbations_of_one_size(monkeypatch):
    stays, starts = Recorded(), []
    monkeypatch.setattr(slides, "reoptimise", stays)
    monkeypatch.setattr(matching, "reoptimise", lambda x, *_, **__: starts.append(x) or SimpleNamespace(x=x))
    x = turned(fan(0, 60, 180))
    distance = as_in_slides(x).set_index("method")["distance"]
    first, other = starts[0]
    assert torch.equal(first, torch.from_numpy(stays.calls[0][0]))
    for method, start in (("converged", first), (AGAIN, other)):
        assert distance[method] == pytest.approx(matching.distance(similarity(start), similarity(x)).item())
    assert 0.02 < (first - other).norm() / torch.from_numpy(stays.calls[0][1]).norm() < 0.6


def test_nothing_to_gain_is_no_share(monkeypatch):
    monkeypatch.setattr(slides, "reoptimise", Recorded())
    table = as_in_slides(turned(fan(0, 120, 240)), (0.0,))
    assert table["left"].isna().all(), table["left"]
    assert table["distance"].max() < 1e-2


def test_importance_as_in_the_slides_with_and_without_the_diagonal(monkeypatch):
    monkeypatch.setattr(slides, "reoptimise", Recorded())
    table = as_in_slides(turned(fan(0, 100, 250)))
    assert table["weight"].nunique() == table["kept"].nunique() == 1
    assert 1 <= table["kept"][0] < 1.3 and table["kept"][0] < table["weight"][0] <= 3


def test_powells_method_itself():
    x = turned(fan(0, 60, 180))
    table = as_in_slides(x, (0.05,)).set_index("method")
    assert table.loc["Powell, norms held", "left"] == pytest.approx(0, abs=1e-3)
    assert table.loc["Powell, norms held", "distance"] == pytest.approx(to_triangle(similarity(x)), abs=0.02)
    assert table.loc["Powell", "left"] > -1e-6
    pd.testing.assert_frame_equal(table, as_in_slides(x, (0.05,)).set_index("method"))


def test_importance_collapses_without_the_diagonal_and_is_equal_with_it():
    table = measures.importance(similarity(simplex(4)), f=3).set_index("diagonal")
    assert list(table.index) == [False, True] and (table["n"] == 4).all()
    assert table.loc[True, "largest"] == pytest.approx(0.25, abs=1e-3), "nothing tells the features apart"
    assert table.loc[False, "largest"] > 0.9


def test_lengths_drift_where_the_kernel_sees_them_alone():
    found = measures.drift(similarity(draw(5, 16)))
    assert list(found.index) == list(KERNELS)
    assert abs(found["exp"]) < 0.5 and found["log"] > 1 and found["riesz"] > 1


def test_held_norms_are_inert_for_exp_alone():
    found = measures.norms_inert(similarity(draw(5, 16)))
    assert list(found.index) == list(KERNELS)
    assert found["exp"] < 1e-3 and found["log"] > 0.01


def test_lambda_decides_between_the_target_and_the_minimum():
    target = similarity(fan(0, 60, 180))
    table = measures.regularised(target, (1e-7, 1e5), f=2)
    assert table["strength"].tolist() == [1e-7, 1e5] * 2 and table["start"].tolist() == [0, 0, 1, 1]
    by = table.set_index(["strength", "start"])["distance"]
    for start in (0, 1):
        assert by[1e-7, start] == pytest.approx(to_triangle(target), abs=1e-2)
        assert by[1e5, start] < 1e-3
    # A target that is the minimum is met whatever lambda is.
    table = measures.regularised(similarity(fan(0, 120, 240)), (1.0,), starts=1)
    assert table["distance"].item() < 1e-3
