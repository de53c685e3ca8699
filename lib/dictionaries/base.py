"""What all dictionaries share: their parameters, their interface, and how errors are counted.

A dictionary reads activations of width `d_in`, uses about `k` of its `d_sae` latents and writes a reconstruction.
Every model is a batch of replicas: the decoder is `(replicas, d_sae, d_out)`, its rows (the source's columns f_j) with
norm 1. The target y is the input itself, except in a transcoder (`d_out` given), which reads one layer and reconstructs
another.

**Shapes.** With one replica, the default, the interface is the field's: `encode`, `decode` and `forward` take any
leading dimensions, `(..., d_in)`, and keep them. With several, the input is `(replicas, batch, d_in)`, or
`(batch, d_in)` for all replicas alike, and what comes out has the replica first. `loss` has one value per replica, in
units of the batch's variance: it is an FVU plus penalties, which do not depend on the scale of the data. Encoder scores
have the units of the activations, which `lib.common.metrics.mean_and_rms` brings to a root mean square of 1 per
coordinate.
"""

from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib.common.metrics import variation
from lib.dictionaries import rows
from lib.dictionaries.selection import dense, flatten, top_scores


@dataclass(frozen=True)
class Code:
    """The latents that a batch uses: indices, strengths and which of them count, each `(replicas, batch, k)`."""

    index: Tensor
    strength: Tensor
    valid: Tensor


class Cfg(SimpleNamespace):
    """What SAELens and SAEBench look for in `sae.cfg`.

    For their evaluations set `metadata.hook_name`, and for SAEBench's `metadata.model_name` too.
    """

    def to_dict(self) -> dict:
        """Everything but the metadata."""
        return {key: value for key, value in vars(self).items() if key != "metadata"}


class Dictionary(nn.Module):
    """A decoder of unit rows, an encoder (the decoder, where `tied`), biases of the latents and a centre of the data.

    - `d_in`: width of the input; `d_sae`: number of latents; `k`: how many of them a sample uses;
    - `d_out`: width of the target of a transcoder; without it the target is the input;
    - `replicas`: how many dictionaries are trained as one; `generator`: draws their first weights.

    Raises ValueError if k is not between 1 and d_sae, or sizes are not positive.
    """

    projects = False  # whether decoding looks at the target

    def __init__(
        self,
        *,
        d_in: int,
        d_sae: int,
        k: int,
        d_out: int | None = None,
        replicas: int = 1,
        tied: bool = False,
        generator: Generator | None = None,
    ):
        super().__init__()
        sizes = {"d_in": d_in, "d_sae": d_sae, "k": k, "replicas": replicas}
        sizes["d_out"] = d_in if d_out is None else d_out
        for name, value in sizes.items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a positive integer")
        if k > d_sae:
            raise ValueError(f"k is {k}, more than the {d_sae} latents there are; choose k of at most d_sae")
        if tied and d_out is not None:
            raise ValueError("a transcoder (d_out given) has an encoder of its own; choose tied=False")
        self.config = dict(d_in=d_in, d_sae=d_sae, k=k, d_out=d_out, replicas=replicas, tied=tied)
        self.d_in, self.d_sae, self.k, self.d_out = d_in, d_sae, k, sizes["d_out"]
        self.replicas, self.transcodes = replicas, d_out is not None
        start = F.normalize(torch.randn(replicas, d_sae, self.d_out, generator=generator), dim=-1)
        self.decoder = nn.Parameter(start)
        self.encoder = None
        if not tied:
            other = torch.randn(replicas, d_sae, d_in, generator=generator)
            self.encoder = nn.Parameter(F.normalize(other, dim=-1) if self.transcodes else start.clone())
        self.bias = nn.Parameter(torch.zeros(replicas, d_sae))
        self.centre = nn.Parameter(torch.zeros(replicas, self.d_out))
        # Samples since a latent was used.
        self.register_buffer("idle", torch.zeros(replicas, d_sae, dtype=torch.long))

    # --- the field's interface ---------------------------------------------------------------------------------------

    def encode(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        """Dense codes `(..., d_sae)`, mostly 0, that `decode` turns into what `forward` gives.

        A dictionary that projects (`projects`) gives the coefficients of its projection, which may be negative and
        carry no gradient; as a transcoder it needs the target y for them.
        """
        inputs, y = self._prepared(a, y)
        return self._like(a, self._dense(self.select(inputs), y))

    def decode(self, codes: Tensor) -> Tensor:
        """Reconstructions `(..., d_out)` of dense codes `(..., d_sae)`."""
        stacked = self.stacked(codes, name="code", width=self.d_sae)
        return self._like(codes, stacked @ self.decoder + self.centre[:, None])

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        """Reconstructions `(..., d_out)`; a projection looks at the target y to make them."""
        inputs, y = self._prepared(a, y)
        return self._like(a, self.reconstruct(self.select(inputs), y) + self.centre[:, None])

    @property
    def W_enc(self) -> Tensor:
        """`(d_in, d_sae)`; preceded by a replica dimension if there are several, as are the others below."""
        return self._single(self.rows).mT

    @property
    def W_dec(self) -> Tensor:
        """`(d_sae, d_out)`."""
        return self._single(self.decoder)

    @property
    def b_enc(self) -> Tensor:
        """`(d_sae,)`."""
        return self._single(self.bias)

    @property
    def b_dec(self) -> Tensor:
        """`(d_out,)`: the centre, which is also subtracted from the input, except in a transcoder."""
        return self._single(self.centre)

    @property
    def device(self) -> torch.device:
        """Of the parameters."""
        return self.decoder.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the parameters."""
        return self.decoder.dtype

    @property
    def cfg(self) -> Cfg:
        """For SAELens' and SAEBench's evaluations; one object per model, whose metadata can be set. Not saved."""
        if not hasattr(self, "_cfg"):
            about = dict.fromkeys(
                ("model_name", "hook_name", "hook_head_index", "context_size", "seqpos_slice")
            )
            self._cfg = Cfg(metadata=SimpleNamespace(**about, prepend_bos=True))
            self._cfg.normalize_activations = self._cfg.reshape_activations = "none"
            self._cfg.architecture = type(self).__name__
            self._cfg.apply_b_dec_to_input = not self.transcodes
        # A transcoder's d_out is its width here too.
        vars(self._cfg).update(self.config | {"d_out": self.d_out})
        vars(self._cfg).update(dtype=str(self.dtype).removeprefix("torch."), device=str(self.device))
        return self._cfg

    def replica(self, which: int) -> "Dictionary":
        """A copy of one replica, as a dictionary of its own; raises ValueError if there is no such replica."""
        if not 0 <= which < self.replicas:
            raise ValueError(f"replica is {which}; it must be from 0 to {self.replicas - 1}")
        with torch.device("meta"):  # nothing is drawn at random only to be replaced
            alone = type(self)(**self.config | {"replicas": 1})
        state = {name: value[which : which + 1].clone() for name, value in self.state_dict().items()}
        alone.load_state_dict(state, assign=True)
        return alone.train(self.training)

    # --- its parts, all with the replica first -----------------------------------------------------------------------

    @property
    def table(self) -> Tensor:
        """The replicas' decoders one below the other, `(replicas x d_sae, d_out)`."""
        return self.decoder.flatten(0, 1)

    @property
    def rows(self) -> Tensor:
        """What the encoder multiplies by, `(replicas, d_sae, d_in)`: the decoder, if it is tied."""
        return self.decoder if self.encoder is None else self.encoder

    def prepare(self, a: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Input and target as `(replicas, batch, width)`, less the centre; raises ValueError on what does not fit."""
        if y is None and self.transcodes:
            raise ValueError("a transcoder needs a target: call it with the input and the target")
        a = self.stacked(a, name="input", width=self.d_in)
        y = a if y is None else self.stacked(y, name="target", width=self.d_out)
        if a.shape[-2] != y.shape[-2]:
            raise ValueError(f"{a.shape[-2]} inputs and {y.shape[-2]} targets; there must be equally many")
        y = y - self.centre[:, None]
        return (a if self.transcodes else y), y

    def stacked(self, part: Tensor, *, name: str, width: int) -> Tensor:
        """Input, target or codes as `(replicas, batch, width)`, with any leading dimensions; checked.

        Raises ValueError, with the `name`, on shapes that do not fit and on values that are not finite.
        """
        dimensions = range(1, part.ndim + 1) if self.replicas == 1 else (2, 3)
        if part.ndim not in dimensions or part.shape[-1] != width:
            raise ValueError(f"the {name} is {tuple(part.shape)}; its last dimension must be {width}")
        if self.replicas > 1 and part.ndim == 3 and len(part) != self.replicas:
            raise ValueError(f"the {name} has {len(part)} replicas; the dictionary has {self.replicas}")
        if not part.sum().isfinite():  # a sum of finite numbers is finite; one pass
            raise ValueError(f"the {name} has NaN or infinite values; leave those samples out")
        if self.replicas == 1:
            return part.reshape(1, -1, width)
        return part.expand(self.replicas, -1, -1)

    def select(self, a: Tensor) -> Code:
        """The latents of a prepared input: the k largest scores, of which those above 0 count."""
        values, index = top_scores(a, self.rows, self.bias, k=self.k)
        return Code(index, values.relu(), values > 0)

    def reconstruct(self, code: Code, y: Tensor | None) -> Tensor:
        """The reconstruction of the prepared target from a code, less the centre."""
        return self._decode(code)

    def loss(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        """Squared error over the batch's variance, plus the model's own terms; one value per replica."""
        a, y = self.prepare(a, y)
        code = self.select(a)
        self._count(code)
        return self._relative(self._errors(code, y), y)

    @torch.no_grad()
    def constrain(self) -> None:
        """Brings the decoder's rows back to norm 1; called after each step."""
        self.decoder.copy_(F.normalize(self.decoder, dim=-1))

    @torch.no_grad()
    def tangent(self) -> None:
        """Takes from the decoder's gradient what would only change the rows' norms; called before each step."""
        grad = self.decoder.grad
        if grad is not None:
            grad.sub_(self.decoder * torch.linalg.vecdot(grad, self.decoder)[..., None])

    def _prepared(self, a: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """As `prepare`; without a target if amplitudes decode and none is needed."""
        if y is None and self.transcodes and not self.projects:
            return self.stacked(a, name="input", width=self.d_in), None
        return self.prepare(a, y)

    def _like(self, given: Tensor, out: Tensor) -> Tensor:
        """`out`; of a single replica, with the leading dimensions of what was given."""
        return out.reshape(*given.shape[:-1], out.shape[-1]) if self.replicas == 1 else out

    def _single(self, parameter: Tensor) -> Tensor:
        return parameter[0] if self.replicas == 1 else parameter

    def _dense(self, code: Code, y: Tensor | None) -> Tensor:
        return dense(code.index, code.strength, n=self.d_sae)

    def _decode(self, code: Code, table: Tensor | None = None) -> Tensor:
        flat = flatten(code.index, self.d_sae)
        y_hat = rows.decode(self.table if table is None else table, flat, code.strength.flatten(0, 1))
        return y_hat.view(self.replicas, -1, self.d_out)

    def _errors(self, code: Code, y: Tensor) -> Tensor:
        """Squared errors of the samples."""
        return (y - self.reconstruct(code, y)).square().sum(-1)

    def _relative(self, error: Tensor, y: Tensor) -> Tensor:
        """Squared errors of samples over the variation of the batch, one value per replica.

        Not `metrics.fvu`: a projection has the errors but not the differences that they sum, and a batch of equal
        samples must not stop training.
        """
        return error.view(self.replicas, -1).sum(1) / variation(y.detach()).clamp_min(1e-30)

    @torch.no_grad()
    def _count(self, code: Code) -> None:
        if self.training:
            self.idle += code.index.shape[1]
            self.idle.view(-1)[flatten(code.index, self.d_sae)[code.valid.flatten(0, 1)]] = 0
