"""Jobs side by side, the gradients that are compared, and the whole of the study in miniature."""

import time

import joblib
import torch

from lib.studies.projective_dictionaries import runs


def _late(name, seconds):
    time.sleep(seconds)
    return name, torch.get_num_threads()


def test_parallel_jobs_keep_their_order():
    threads = torch.get_num_threads()
    jobs = {name: (_late, {"name": name, "seconds": s}) for name, s in (("b", 0.2), ("a", 0.0), ("c", 0.1))}
    with joblib.parallel_config(backend="threading"):
        results = runs.parallel(jobs, "naming")
    torch.set_num_threads(threads)
    assert list(results) == ["b", "a", "c"] and {key: value[0] for key, value in results.items()} == {
        key: key for key in jobs
    }
    assert {value[1] for value in results.values()} == {1}


def test_gradients_by_seed_and_precision():
    found = runs.gradients(3)
    assert found.groupby("dtype")["seed"].apply(list).to_dict() == {
        "float32": [0, 1, 2],
        "float64": [0, 1, 2],
    }
    by = found.groupby("dtype")["difference"]
    assert by.max()["float64"] < 1e-12 and 1e-12 < by.min()["float32"] and by.max()["float32"] < 1e-2


def test_jobs_name_what_they_train():
    """Without running them: each kind of data has its methods and its seed, and nothing is trained twice."""
    jobs = runs._on_planted({}, seeds=3, steps=7, samples=11)
    assert set(jobs) == {(kind, 8) for kind in runs.KINDS} | {
        (kind, k) for kind in ("coherent", "hierarchy") for k in (4, 16, 32)
    }
    for (kind, k), (_, settings) in jobs.items():
        assert (settings["kind"], settings["k"], settings["seeds"], settings["steps"]) == (kind, k, 3, 7)
        assert settings["seed"] == {"independent": 11, "coherent": 12, "clusters": 13, "hierarchy": 14}[kind]
        assert len(set(settings["methods"])) == len(settings["methods"])
        assert settings.get("starts", 1) == (2 if (kind, k) == ("coherent", 16) else 1)
    extra = {kind: set(jobs[kind, 8][1]["methods"]) - set(runs.MAIN) for kind in runs.KINDS}
    assert extra["independent"] == set(runs.QUOTAS) and not extra["coherent"] and not extra["clusters"]
    assert extra["hierarchy"] == {"ridge, normalised", *runs.VARIANTS}
    for kind in runs.KINDS:
        assert runs._baselines(seeds=3, samples=11)["baselines", kind][1]["seed"] == jobs[kind, 8][1]["seed"]
