"""SAELens' evaluations and SAEBench's core evaluation of dictionaries in files; runs in the environment of the peers.

    python -P tests/helpers/outsiders.py ROOT FOLDER

FOLDER has `texts/` (JSON lines with a field text), `NAME.safetensors` (dictionaries of ours) and `NAME/` (exported to
SAELens), and gets `metrics.json`: evaluation -> dictionary -> the metrics, flat. The language model is neox-tiny, at
`HOOK`.
"""

import json
import sys
from pathlib import Path

HOOK, CONTEXT, PROMPTS, BATCHES = "blocks.3.hook_resid_post", 64, 8, 2


def neox_tiny(root: Path):
    """neox-tiny as transformer_lens' HookedTransformer, whose list of names it is not on."""
    import torch
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_neox_weights
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = root / "lib" / "language" / "neox-tiny"
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    c = theirs.config
    config = HookedTransformerConfig(
        n_layers=c.num_hidden_layers,
        d_model=c.hidden_size,
        n_ctx=c.max_position_embeddings,
        d_head=c.hidden_size // c.num_attention_heads,
        n_heads=c.num_attention_heads,
        d_mlp=c.intermediate_size,
        d_vocab=c.vocab_size,
        act_fn=c.hidden_act,
        eps=c.layer_norm_eps,
        normalization_type="LN",
        positional_embedding_type="rotary",
        rotary_adjacent_pairs=False,
        rotary_dim=round(c.rope_parameters["partial_rotary_factor"] * c.hidden_size // c.num_attention_heads),
        parallel_attn_mlp=c.use_parallel_residual,
        default_prepend_bos=False,
        tokenizer_prepends_bos=False,
        device="cpu",
    )
    model = HookedTransformer(config, tokenizer=AutoTokenizer.from_pretrained(folder))
    model.load_state_dict(convert_neox_weights(theirs, config), strict=False)
    ids = torch.arange(40)[None]
    torch.testing.assert_close(model.eval()(ids), theirs(ids).logits, atol=1e-3, rtol=1e-3)
    return model


def saelens(sae, model, texts: str) -> dict:
    """The metrics of sae_lens.evals.run_evals, all that there are."""
    from sae_lens.evals import get_eval_everything_config, run_evals
    from sae_lens.training.activation_scaler import ActivationScaler
    from sae_lens.training.activations_store import ActivationsStore

    store = ActivationsStore.from_sae(model, sae, texts, context_size=CONTEXT)
    config = get_eval_everything_config(PROMPTS, BATCHES, BATCHES)
    metrics, features = run_evals(sae, store, model, ActivationScaler(), config)
    return _flat(metrics) | {"alive": sum(d > 0 for d in features["feature_density"])}


def saebench(sae, model, texts: str, folder: Path) -> dict:
    """The metrics that SAEBench's core evaluation writes, as its command does for an object of one's own."""
    from sae_bench.evals.core import main
    from transformer_lens import HookedTransformer

    HookedTransformer.from_pretrained_no_processing = lambda *_, **__: model  # neox-tiny has no known name
    results = main.multiple_evals(
        selected_saes=[("ours", sae)],
        n_eval_reconstruction_batches=BATCHES,
        n_eval_sparsity_variance_batches=BATCHES,
        eval_batch_size_prompts=PROMPTS,
        compute_featurewise_density_statistics=True,
        compute_featurewise_weight_based_metrics=True,
        exclude_special_tokens_from_reconstruction=True,
        dataset=texts,
        context_size=CONTEXT,
        output_folder=str(folder),
        device="cpu",
        force_rerun=True,
    )
    assert len(results) == 1, "it logs errors and goes on"
    (written,) = folder.glob("*.json")
    found = json.loads(written.read_text())
    written.unlink()
    details = found["eval_result_details"]
    return _flat(found["eval_result_metrics"]) | {"alive": sum(d["feature_density"] > 0 for d in details)}


def _flat(metrics: dict) -> dict:
    return {key: value for part in metrics.values() for key, value in part.items()}


def main(root: Path, folder: Path) -> None:
    sys.modules["torchvision"] = None  # as for the speed study: it may be built for another torch
    sys.path.append(str(root))  # last, so that nothing of the project stands in for what the peers import
    import torch
    from sae_lens import SAE

    from lib.dictionaries import load  # the project is on the path only now

    torch.set_num_threads(1)
    model, texts = neox_tiny(root), str(folder / "texts")
    metrics = {"SAELens": {}, "SAEBench": {}}
    for path in sorted(folder.glob("*.safetensors")):
        exported = folder / path.stem
        saes = {path.stem: load(path)}
        if exported.is_dir():
            saes[f"{path.stem}, exported"] = SAE.load_from_disk(exported)
        for name, sae in saes.items():
            about = sae.cfg.metadata
            about.hook_name, about.model_name, about.prepend_bos = HOOK, "neox-tiny", True
            metrics["SAELens"][name] = saelens(sae, model, texts)
            metrics["SAEBench"][name] = saebench(sae, model, texts, folder / "saebench")
    (folder / "metrics.json").write_text(json.dumps(metrics))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
