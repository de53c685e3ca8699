"""The times of the speed study: whole steps, their frames, and ratios with room for a busy machine."""

import inspect
import json
from dataclasses import asdict

import pytest
import torch

from lib.studies.speed import evidence, measures, peers
from lib.studies.speed.measures import Size

TINY = Size(d=16, n=64, k=4, batch=32)


def test_impossible_sizes_are_refused():
    for d, n, k, batch in ((16, 64, 16, 32), (16, 8, 9, 32), (16, 64, 0, 32), (16, 64, 4, 0)):
        with pytest.raises(ValueError, match="k must be"):
            Size(d=d, n=n, k=k, batch=batch)


def test_every_method_is_described():
    assert list(measures.ABOUT) == measures.methods(with_peers=True)


@pytest.mark.parametrize("name", measures.methods())
def test_a_training_step_trains(name):
    """Every method's step is a whole one: the error falls, the decoder's rows keep norm 1."""
    take = measures.training_step(name, TINY)
    step = inspect.unwrap(take)  # what `--shapes` wraps
    cells = dict(zip(step.__code__.co_freevars, step.__closure__, strict=True))
    model = cells["step"].cell_contents.model if "step" in cells else cells["model"].cell_contents
    x = cells["x"].cell_contents

    def error():
        return (model(x) - x).detach().square().mean().item()

    before = error()
    for _ in range(60):
        take()
    assert error() < 0.97 * before
    norms = model.decoder.detach().norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="method 'magic'; known: top-k"):
        measures.training_step("magic", TINY)


def test_every_method_is_measured_in_every_repetition():
    before = torch.get_num_threads()
    table = measures.steps({"a": TINY, "b": Size(d=8, n=32, k=3, batch=16)}, repetitions=2, rounds=2)
    assert torch.get_num_threads() == before
    assert list(table.columns) == ["method", "size", "repetition", "seconds"]
    assert (table.groupby(["method", "size"])["repetition"].apply(list).map(lambda r: r == [0, 1])).all()
    assert set(table["method"]) == set(measures.methods()) and (table["seconds"] > 0).all()


def test_without_peers_the_error_says_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "PYTHON", tmp_path / "none")
    with pytest.raises(peers.PeersError, match="make benchmark"):
        measures.steps({"a": TINY}, with_peers=True)


@pytest.mark.slow
def test_projecting_costs_little_and_much_less_than_naively():
    table = measures.steps(
        {"middle": Size(d=128, n=2048, k=16, batch=512)},
        repetitions=3,
        names=["top-k", "projective", "ridge", "naive projection"],
    )
    ratio = evidence.step_ratios(table)["middle"].median()
    assert ratio["projective"] < 1.6 and ratio["ridge"] < 1.8
    assert ratio["naive projection"] > 1.3 * ratio["projective"]


@pytest.mark.slow
def test_pursuit_costs_far_more_than_an_encoder():
    times = measures.omp_coding(Size(d=64, n=512, k=12, batch=256), repetitions=3)
    assert (times["OMP"] / times["encoder"]).median() > 4


def test_a_size_survives_the_way_to_another_process():
    assert Size(**json.loads(json.dumps(asdict(measures.LARGE)))) == measures.LARGE
