"""Peak memory: a row for each method and repetition, each from a process of its own."""

import pytest

from lib.studies.speed import memory
from lib.studies.speed.measures import PEERS, Size


@pytest.mark.slow
def test_memory_is_measured_in_processes_of_their_own():
    size = Size(d=256, n=4096, k=16, batch=512)
    table = memory.peak(size, repetitions=1, names=["projective", "naive projection"])
    peak = table.set_index("method")["training"]
    # Decoder, gradient and two moments of 4 MB each are the least; the naive one gathers 8 MB several times over.
    assert 12 < peak["projective"] < peak["naive projection"]


def test_each_number_goes_to_its_method_and_repetition(monkeypatch):
    """Ours and the peers' are measured in turn by two functions; the table has them as they were asked for."""
    told = iter(range(100))
    monkeypatch.setattr(
        memory, "_of_ours", lambda names, size: [{"training": f"{name} {next(told)}"} for name in names]
    )
    monkeypatch.setattr(memory, "_of_peer", lambda name, size: {"training": f"{name} {next(told)}"})
    peer = next(iter(PEERS))
    table = memory.peak(Size(d=8, n=16, k=2, batch=4), repetitions=2, names=["ridge", peer, "top-k"])
    assert list(zip(table["method"], table["repetition"], table["training"], strict=True)) == [
        ("ridge", 0, "ridge 0"),
        (peer, 0, f"{peer} 4"),
        ("top-k", 0, "top-k 1"),
        ("ridge", 1, "ridge 2"),
        (peer, 1, f"{peer} 5"),
        ("top-k", 1, "top-k 3"),
    ]
