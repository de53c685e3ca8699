"""Dictionaries as files: safetensors with the model's configuration, and the folders that SAELens loads.

Format 2 names the sizes as the field does (d_in, d_sae, d_out); files of format 1 (d, n, d_in) are still read.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from lib.common.errors import UserError, one_line
from lib.common.files import whole, write_text
from lib.dictionaries.base import Dictionary
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.sae import L1, BatchTopK, TopK

KINDS = {kind.__name__: kind for kind in (TopK, BatchTopK, L1, Projective, Ridge, Hybrid)}

KEY = "superposition_studies.dictionary"  # of the metadata in a file's header
FORMAT = 2
SAELENS = "6.54.12"  # whose format is written; a folder without a version is read as from before 6.0


class StorageError(UserError, ValueError):
    """A file that is not, or no longer, a dictionary of ours; one line."""


def save(model: Dictionary, path: str | Path) -> None:
    """Writes a dictionary, all replicas, with its class and configuration; the file appears whole or not at all."""
    name = type(model).__name__
    if KINDS.get(name) is not type(model):
        raise ValueError(f"can't save a {name}; allowed: {', '.join(KINDS)}")
    header = json.dumps({"format": FORMAT, "class": name, "config": model.config})
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with whole(path) as part:
        save_file(tensors, part, metadata={KEY: header})


def load(path: str | Path) -> Dictionary:
    """The dictionary that `save` wrote, on the CPU and in evaluation mode.

    Raises StorageError on a file that is missing, damaged, truncated, not ours, of another format or unknown class.
    """
    path = Path(path)
    if not path.is_file():
        raise StorageError(f"there is no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(KEY)
            # Copies: safetensors gives views at any offset in memory, on which products differ in their last bits.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise StorageError(f"{path} is damaged, or not a safetensors file: {one_line(error)}") from None
    if header is None:
        raise StorageError(f"{path} is a safetensors file, but holds no dictionary of this project")
    kind, config = _header(path, header)
    try:
        with torch.device("meta"):  # nothing is drawn at random only to be replaced
            model = kind(**config)
        model.load_state_dict(tensors, assign=True)
    except (TypeError, ValueError, RuntimeError) as error:
        raise StorageError(
            f"{path}: its tensors are not those of its configuration: {one_line(error)}"
        ) from None
    return model.eval()


def export_saelens(model: Dictionary, folder: str | Path, *, replica: int = 0) -> None:
    """Writes one replica as `sae_lens.SAE.load_from_disk(folder)` reads it: cfg.json and sae_weights.safetensors.

    Top-k becomes SAELens' "topk", ReLU with L1 its "standard"; its decoder bias is our centre. Raises ValueError for
    what SAELens has no equivalent of (other dictionaries, transcoders) and for a replica that does not exist.
    """
    architectures = {TopK: "topk", L1: "standard"}
    if type(model) not in architectures:
        raise ValueError(f"SAELens can't hold a {type(model).__name__}; allowed: TopK and L1")
    if model.transcodes:
        raise ValueError("SAELens' top-k and standard SAEs reconstruct their input; this is a transcoder")
    if not 0 <= replica < model.replicas:
        raise ValueError(f"replica is {replica}; it must be from 0 to {model.replicas - 1}")
    config = {
        "architecture": architectures[type(model)],
        "d_in": model.d_in,
        "d_sae": model.d_sae,
        "dtype": str(model.decoder.dtype).removeprefix("torch."),
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"sae_lens_version": SAELENS, "sae_lens_training_version": None},
    }
    if type(model) is TopK:
        config |= {"k": model.k, "rescale_acts_by_decoder_norm": False}
    tensors = {
        "W_enc": model.rows[replica].T,
        "b_enc": model.bias[replica],
        "W_dec": model.decoder[replica],
        "b_dec": model.centre[replica],
    }
    # Copies, as tied weights would share their memory.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    folder = Path(folder)
    with whole(folder / "sae_weights.safetensors") as part:
        save_file(tensors, part)
    write_text(folder / "cfg.json", json.dumps(config, indent=2))


def _header(path: Path, text: str) -> tuple[type[Dictionary], dict]:
    try:
        header = json.loads(text)
        version, name, config = header["format"], header["class"], dict(header["config"])
    except (ValueError, TypeError, KeyError):
        raise StorageError(f"{path}: its header can't be read") from None
    if version not in (1, FORMAT):
        raise StorageError(f"{path} has format {version!r}; this version reads formats 1 and {FORMAT}")
    if name not in KINDS:
        raise StorageError(f"{path} holds a {name!r}; known: {', '.join(KINDS)}")
    if version == 1:
        try:
            config = renamed(config)
        except KeyError as missing:
            raise StorageError(f"{path}: its header can't be read: it has no {missing}") from None
    return KINDS[name], config


def renamed(config: dict) -> dict:
    """A configuration of format 1 in the names of format 2; raises KeyError if it lacks one.

    In format 1, `d` was the width of what is reconstructed, `n` the number of latents, and `d_in` the width of a
    transcoder's input, or None.
    """
    old = dict(config)
    d, n, k, d_in = (old.pop(key) for key in ("d", "n", "k", "d_in"))
    sizes = {"d_in": d, "d_sae": n, "k": k, "d_out": None}
    if d_in is not None:
        sizes |= {"d_in": d_in, "d_out": d}
    return sizes | old
