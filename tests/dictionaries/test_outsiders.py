"""Our dictionaries in the hands of others: SAELens' evaluations and SAEBench's core evaluation, in their environment.

Both take an object with `encode` and `decode` for a language model's activations; neox-tiny is small enough, offline.
"""

import json
import math
import os
import subprocess

import pytest
import torch

from helpers import outsiders
from helpers.plain import generator
from lib.common.files import ROOT
from lib.dictionaries import L1, BatchTopK, Hybrid, Projective, Ridge, TopK, export_saelens, fit, save
from lib.studies.speed import peers

D_SAE, K = 256, 8
KINDS = {kind.__name__: kind for kind in (TopK, BatchTopK, L1, Projective, Ridge, Hybrid)}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not peers.PYTHON.exists(), reason="no environment of the peers; `make benchmark` makes one"
    ),
]


def texts() -> list[str]:
    """Prose and code, as neox-tiny knows them, some lines each."""
    lines = [
        line
        for path in (ROOT / "README.md", *sorted((ROOT / "lib" / "dictionaries").glob("*.py")))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return ["\n".join(lines[i : i + 15]) for i in range(0, len(lines), 15)]


def activations(batch: list[str]) -> torch.Tensor:
    from lib.language import model as language_model
    from lib.language.activations import activations

    model = language_model.load("neox-tiny")
    ids, mask, _ = language_model.tokenize(model, batch, length=64)
    hook = language_model.residual_hook(model, 3)
    return activations(model, ids, hook, mask=mask)[hook][mask]


@pytest.fixture(scope="module")
def metrics(tmp_path_factory) -> dict:
    """Of a dictionary of each kind, of an untrained one, and of those that SAELens can hold, exported."""
    folder = tmp_path_factory.mktemp("outsiders")
    parts = texts()
    x = activations(parts[::2])
    models = {
        name: kind(d_in=x.shape[1], d_sae=D_SAE, k=K, generator=generator()) for name, kind in KINDS.items()
    }
    for model in models.values():
        with torch.no_grad():
            model.centre.copy_(x.mean(0))
    draw = generator(1)
    batches = (x[torch.randint(len(x), (256,), generator=draw)] for _ in range(300))
    fit(models, batches, steps=300, lr=3e-3)
    for name, model in models.items():
        save(model, folder / f"{name}.safetensors")
    for name in ("TopK", "L1"):
        export_saelens(models[name], folder / name)
    save(TopK(d_in=x.shape[1], d_sae=D_SAE, k=K, generator=generator(2)), folder / "untrained.safetensors")
    (folder / "texts").mkdir()
    lines = "".join(json.dumps({"text": part}) + "\n" for part in parts[1::2])
    (folder / "texts" / "texts.jsonl").write_text(lines, encoding="utf-8")
    run = subprocess.run(
        [str(peers.PYTHON), "-P", outsiders.__file__, str(ROOT), str(folder)],
        capture_output=True,
        text=True,
        env=os.environ | peers.OFFLINE | {"HF_HOME": str(folder / "cache")},
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads((folder / "metrics.json").read_text())


@pytest.mark.parametrize("evaluation", ["SAELens", "SAEBench"])
@pytest.mark.parametrize("name", KINDS)
def test_the_evaluation_runs_and_tells_trained_from_untrained(evaluation, name, metrics):
    found, control = metrics[evaluation][name], metrics[evaluation]["untrained"]
    assert all(math.isfinite(value) for value in found.values())
    assert found["explained_variance_legacy"] > 0.3 > control["explained_variance_legacy"]
    assert found["cossim"] > control["cossim"] + 0.2
    assert found["ce_loss_without_sae"] <= found["ce_loss_with_sae"] < found["ce_loss_with_ablation"]
    assert found["ce_loss_score"] > control["ce_loss_score"] + 0.05


@pytest.mark.parametrize("evaluation", ["SAELens", "SAEBench"])
def test_codes_are_as_sparse_as_they_are_said_to_be(evaluation, metrics):
    l0 = {name: found["l0"] for name, found in metrics[evaluation].items()}
    for name in ("TopK", "Projective", "Hybrid"):
        assert l0[name] == pytest.approx(K, abs=0.2)
    assert 0 < l0["Ridge"] <= K and 0 < l0["BatchTopK"] <= 4 * K and K < l0["L1"] < D_SAE


@pytest.mark.parametrize("evaluation", ["SAELens", "SAEBench"])
@pytest.mark.parametrize("name", ["TopK", "L1"])
def test_the_exported_one_is_the_same_to_them(evaluation, name, metrics):
    ours, exported = metrics[evaluation][name], metrics[evaluation][f"{name}, exported"]
    assert ours == pytest.approx(exported, rel=1e-3, abs=1e-3)


def test_the_two_evaluations_agree(metrics):
    """On what both define alike."""
    for name in KINDS:
        one, other = (metrics[evaluation][name] for evaluation in ("SAELens", "SAEBench"))
        for key in ("l0", "cossim", "l2_ratio", "ce_loss_without_sae"):
            assert one[key] == pytest.approx(other[key], rel=1e-3), (name, key)
