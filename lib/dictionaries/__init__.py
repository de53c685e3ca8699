"""Dictionaries of activations: sparse autoencoders and projective dictionaries, their training and storage.

    from lib.dictionaries import TopK, fit, save

    sae = TopK(d_in=512, d_sae=8192, k=32)
    fit({"top-k": sae}, batches, steps=10_000)      # any iterable of tensors (batch, d_in)
    codes = sae.encode(x)                           # (..., 512) to (..., 8192)
    x_hat = sae.decode(codes)                       # back; sae(x) does both
    save(sae, "top-k.safetensors")

Dictionaries: TopK, BatchTopK and L1 decode by amplitudes, Projective, Ridge and Hybrid by a projection of the target;
Dictionary is what they share. Training: fit, which returns Fitted. Files: save, load, export_saelens; StorageError.
The projection on its own, with its gradient: project, which returns Projection.

base        what all dictionaries share: sizes, encode, decode, forward, loss
sae         top-k, BatchTopK and L1 sparse autoencoders
projective  dictionaries that decode by projection
projection  the least-squares projection and its gradient
rows        sums over a few rows of a table, and their transposes
selection   top-k over latents; sparse codes made dense
coding      sparse coding without an encoder: OMP, least squares, ridge, NNLS, MOD
training    `fit`: several dictionaries from one stream of activations
storage     saved, loaded, exported to SAELens
planted     data made of known features
recovery    whether those were found: cosines, absorption, splitting
references  plain versions, for tests and for the speed study
"""

from lib.dictionaries.base import Code, Dictionary
from lib.dictionaries.projection import Projection, project
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.sae import L1, BatchTopK, TopK
from lib.dictionaries.storage import StorageError, export_saelens, load, save
from lib.dictionaries.training import Fitted, fit

__all__ = [
    "L1",
    "BatchTopK",
    "Code",
    "Dictionary",
    "Fitted",
    "Hybrid",
    "Projection",
    "Projective",
    "Ridge",
    "StorageError",
    "TopK",
    "export_saelens",
    "fit",
    "load",
    "project",
    "save",
]
