"""The language model's training loss, equal to transformers' and several times as fast on a CPU.

With this model's small matrices the time goes into memory, not arithmetic: the two layer norms of a parallel block
are of one vector, which is normalised once, rotary attention is one operation with its gradient written out, and the
logits `(tokens, vocabulary)` never exist all at once, only a block of rows whose gradient is made while it is in the
cache.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from transformers import GPTNeoXForCausalLM

ROWS = 128  # of logits at a time: 2 MB with a vocabulary of 4,096


def loss(model: GPTNeoXForCausalLM, windows: Tensor) -> Tensor:
    """Mean cross-entropy in nats of every token of `windows` `(batch, context + 1)` but the first, given those before.

    Differentiable once, with respect to the model's parameters.
    """
    body = model.gpt_neox
    heads, eps = model.config.num_attention_heads, model.config.layer_norm_eps
    ids, targets, length = windows[:, :-1], windows[:, 1:], windows.shape[1] - 1
    cos, sin = (
        part[0]
        for part in body.rotary_emb(body.embed_in.weight, torch.arange(length, device=ids.device)[None])
    )
    future = torch.full((length, length), -torch.inf, device=ids.device).triu(1)
    x = body.embed_in(ids)
    for layer in body.layers:
        unit = F.layer_norm(x, x.shape[-1:], eps=eps)
        attention, mlp = layer.attention, layer.mlp
        qkv = _linear_after_norm(unit, layer.input_layernorm, attention.query_key_value)
        hidden = F.gelu(_linear_after_norm(unit, layer.post_attention_layernorm, mlp.dense_h_to_4h))
        x = x + attention.dense(_Attention.apply(qkv, heads, cos, sin, future)) + mlp.dense_4h_to_h(hidden)
    norm = body.final_layer_norm
    x = F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, eps)
    return _CrossEntropy.apply(x.flatten(0, 1), model.lm_head.weight, targets.flatten())


def _linear_after_norm(unit: Tensor, norm: torch.nn.LayerNorm, linear: torch.nn.Linear) -> Tensor:
    """linear(norm.weight * unit + norm.bias), with the scale and shift moved into the small matrix."""
    return F.linear(unit, linear.weight * norm.weight, linear.bias + linear.weight @ norm.bias)


class _Attention(Function):
    """Causal attention of `qkv` `(batch, context, heads x 3 x head)`, rotary on the first dimensions of a head."""

    @staticmethod
    def forward(ctx, qkv: Tensor, heads: int, cos: Tensor, sin: Tensor, future: Tensor) -> Tensor:
        batch, context, _ = qkv.shape
        parts = qkv.view(batch, context, heads, 3, -1).permute(3, 0, 2, 1, 4).contiguous()
        _rotate(parts[:2], cos, sin)
        parts[0] *= parts.shape[-1] ** -0.5
        q, k, v = parts.flatten(1, 2)
        p = (q @ k.mT).add_(future)
        torch.softmax(p, -1, out=p)
        out = p @ v
        ctx.save_for_backward(parts, p, out, cos, sin)
        return out.view(batch, heads, context, -1).transpose(1, 2).reshape(batch, context, -1)

    @staticmethod
    def backward(ctx, d_out: Tensor):
        parts, p, out, cos, sin = ctx.saved_tensors
        _, batch, heads, context, size = parts.shape
        d_out = d_out.view(batch, context, heads, size).transpose(1, 2).reshape_as(out)
        q, k, v = parts.flatten(1, 2)
        d_parts = torch.empty_like(parts)
        d_q, d_k, d_v = d_parts.flatten(1, 2)
        # d_scores = p (d_p - sum p d_p), and the sum over keys of p d_p is that of out d_out over a head.
        d_scores = (d_out @ v.mT).sub_((out * d_out).sum(-1, keepdim=True)).mul_(p)
        torch.bmm(d_scores, k, out=d_q).mul_(size**-0.5)
        torch.bmm(d_scores.mT, q, out=d_k)
        torch.bmm(p.mT, d_out, out=d_v)
        _rotate(d_parts[:2], cos, -sin)
        return d_parts.permute(1, 3, 2, 0, 4).reshape(batch, context, -1), None, None, None, None


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotates, in place, dimension i of the first half of a head's rotary dimensions with i of the second."""
    half = cos.shape[-1] // 2
    cos, sin = cos[:, :half], sin[:, :half]
    a, b = x[..., :half], x[..., half : 2 * half]
    turned = a * cos - b * sin, b * cos + a * sin
    a.copy_(turned[0])
    b.copy_(turned[1])


class _CrossEntropy(Function):
    """Mean cross-entropy of `hidden` `(tokens, d)` with the unembedding `(vocabulary, d)`, in blocks of rows."""

    @staticmethod
    def forward(ctx, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        d_hidden, d_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        chosen = hidden.new_empty(len(hidden), 1)
        for start in range(0, len(hidden), ROWS):
            rows = slice(start, start + ROWS)
            h, target = hidden[rows], targets[rows, None]
            p = (h @ weight.T).softmax(-1)
            chosen[rows] = p.gather(1, target)
            p.scatter_add_(1, target, p.new_full(target.shape, -1.0))  # now the gradient of the logits
            torch.mm(p, weight, out=d_hidden[rows])
            d_weight.addmm_(p.T, h)
        ctx.save_for_backward(d_hidden.div_(len(hidden)), d_weight.div_(len(hidden)))
        return -chosen.clamp_min(torch.finfo(chosen.dtype).tiny).log().mean()

    @staticmethod
    def backward(ctx, d_loss: Tensor):
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * d_loss, d_weight * d_loss, None
