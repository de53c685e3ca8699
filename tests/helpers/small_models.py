"""A GPT-NeoX and a BERT in miniature, and what Hugging Face gives for them, for the tests of language models.

The fixtures go by shorter names than their functions, whose import would else be shadowed by the tests' arguments.
"""

import shutil
from pathlib import Path

import pytest
import torch

from lib.language import model as lm

TEXTS = [
    "The cat sat on the mat.",
    "A dog",
    "Łódź is 3 years older, they say, than the house by the sea",
    "9",
]


def byte_level_tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, unk_token=end)


def word_piece_tokenizer():
    from tokenizers import BertWordPieceTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(TEXTS, vocab_size=60, min_frequency=1, show_progress=False)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer._tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "cls", "sep", "unk", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, **names)


def saved(hf, tokenizer, folder: Path) -> Path:
    """A folder of a model whose every weight is its own, and none too small to matter."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.add_(0.15 * torch.randn(parameter.shape, generator=g))
    hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", name="neox_folder")
def neox_folder_fixture(tmp_path_factory):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    tokenizer = byte_level_tokenizer()
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    config = GPTNeoXConfig(vocab_size=len(tokenizer), max_position_embeddings=64, eos_token_id=0, **sizes)
    return saved(GPTNeoXForCausalLM(config), tokenizer, tmp_path_factory.mktemp("models") / "neox")


@pytest.fixture(scope="module", name="bert_folder")
def bert_folder_fixture(tmp_path_factory):
    """A body alone, as sentence encoders are published."""
    from transformers import BertConfig, BertModel

    tokenizer = word_piece_tokenizer()
    sizes = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    return saved(BertModel(config), tokenizer, tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module", name="neox")
def neox_fixture(neox_folder):
    return lm.load(str(neox_folder))


@pytest.fixture(scope="module", name="bert")
def bert_fixture(bert_folder):
    return lm.load(str(bert_folder))


@pytest.fixture(name="copied")
def copied_fixture(neox_folder, tmp_path) -> Path:
    return Path(shutil.copytree(neox_folder, tmp_path / "model"))


def one_line(raised) -> str:
    text = str(raised.value)
    assert "\n" not in text and raised.value._render_traceback_() == [text]
    return text


def hugging_face(hf, ids, mask, modules):
    """What Hugging Face's own modules give, by plain forward hooks, and the logits."""
    got = {}
    for name, module in modules.items():
        module.register_forward_hook(
            lambda _, inputs, output, name=name: got.update(
                {name: output[0] if isinstance(output, tuple) else output}
            )
        )
    with torch.no_grad():
        logits = hf.eval()(ids, attention_mask=mask.long())
    return got, getattr(logits, "logits", None)


def same(ours, theirs, mask, atol=2e-5):
    torch.testing.assert_close(ours[mask], theirs[mask], atol=atol, rtol=0)


def berts(folder_or_model):
    from transformers import BertModel

    hf = BertModel.from_pretrained(folder_or_model, dtype=torch.float32)
    return hf, {
        f"blocks.{i}.mlp.out.hook_in": layer.intermediate for i, layer in enumerate(hf.encoder.layer)
    } | {f"blocks.{i}.hook_out": layer for i, layer in enumerate(hf.encoder.layer)} | {
        "blocks.0.hook_in": hf.embeddings
    }


def folders(folder):
    """The names of what lies in a folder."""
    return sorted(p.name for p in folder.iterdir())
