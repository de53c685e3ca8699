"""The speed study: what it measures, its frames, and ratios with room for a busy machine."""

import json
from dataclasses import asdict

import pandas as pd
import pytest
import torch

from lib.studies.speed import measures, peers
from lib.studies.speed.measures import Size

TINY = Size(16, 64, 4, 32)


def test_sizes_that_can_not_be_are_refused():
    for bad in ((16, 64, 16, 32), (16, 8, 9, 32), (16, 64, 0, 32), (16, 64, 4, 0)):
        with pytest.raises(ValueError, match="k must be"):
            Size(*bad)


@pytest.mark.parametrize("name", measures.methods())
def test_a_training_step_trains(name):
    """Every method's step is a whole one: the error falls, the decoder's rows keep norm 1."""
    take = measures.training_step(name, TINY)
    cells = dict(zip(take.__code__.co_freevars, take.__closure__, strict=True))
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
    table = measures.steps({"a": TINY, "b": Size(8, 32, 3, 16)}, repetitions=2, rounds=2)
    assert torch.get_num_threads() == before
    assert list(table.columns) == ["method", "size", "repetition", "seconds"]
    assert (table.groupby(["method", "size"])["repetition"].apply(list).map(lambda r: r == [0, 1])).all()
    assert set(table["method"]) == set(measures.methods()) and (table["seconds"] > 0).all()


def test_ratios_are_paired_within_the_repetition():
    rows = [("top-k", 0, 1.0), ("other", 0, 2.0), ("top-k", 1, 10.0), ("other", 1, 30.0)]
    table = pd.DataFrame(rows, columns=["method", "repetition", "seconds"])
    ratio = measures.ratios(table)
    assert list(ratio["other"]) == [2, 3] and list(ratio["top-k"]) == [1, 1]
    assert list(ratio.columns) == ["top-k", "other"], "in the order they were measured"
    assert measures.summary(ratio).loc["other"].tolist() == [2.5, 2, 3]
    assert list(measures.ratios(table, over="other")["top-k"]) == pytest.approx([1 / 2, 1 / 3])


def test_without_peers_the_error_says_how_to_get_them(monkeypatch, tmp_path):
    monkeypatch.setattr(peers.Peers.__init__, "__defaults__", (None, tmp_path / "none"))
    with pytest.raises(peers.PeersError, match="make benchmark"):
        measures.steps({"a": TINY}, with_peers=True)


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own():
    size = Size(256, 4096, 16, 512)
    table = measures.memory(size, repetitions=1, names=["projective", "naive projection"])
    peak = table.set_index("method")["training"]
    # Decoder, gradient and two moments of 4 MB each are the least; the naive one gathers 8 MB several times over.
    assert 12 < peak["projective"] < peak["naive projection"]


@pytest.mark.slow
def test_projecting_costs_little_and_much_less_than_naively():
    table = measures.steps(
        {"middle": Size(128, 2048, 16, 512)},
        repetitions=3,
        names=["top-k", "projective", "ridge", "naive projection"],
    )
    ratio = measures.summary(measures.ratios(table))["ratio"]
    assert ratio["projective"] < 1.6 and ratio["ridge"] < 1.8
    assert ratio["naive projection"] > 1.3 * ratio["projective"]


@pytest.mark.slow
def test_pursuit_costs_far_more_than_an_encoder():
    times = measures.omp_coding(Size(64, 512, 12, 256), repetitions=3)
    assert (times["OMP"] / times["encoder"]).median() > 4


def test_tables_of_an_executed_notebook_are_printed(tmp_path, capsys, monkeypatch):
    output = {
        "data": {"text/html": ["<div><table>", "</table></div>"], "text/plain": ["Ratios\n", "\n", "1"]}
    }
    other = {"data": {"text/html": "<figure>", "text/plain": "not this"}}
    cells = [
        {"cell_type": "markdown"},
        {"cell_type": "code", "outputs": [output, other, {"text": "nor this"}]},
    ]
    path = tmp_path / "speed.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr("sys.argv", ["speed", str(path)])
    measures.main()
    assert capsys.readouterr().out == "Ratios\n\n1\n\n"
    monkeypatch.setattr("sys.argv", ["speed", str(tmp_path / "missing")])
    with pytest.raises(SystemExit, match="make benchmark"):
        measures.main()


def test_a_size_survives_the_way_to_another_process():
    assert Size(**json.loads(json.dumps(asdict(measures.LARGE)))) == measures.LARGE
