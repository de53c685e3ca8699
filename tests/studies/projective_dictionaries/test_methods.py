"""Every method is what its name says; the lists name methods."""

import pytest
import torch

from helpers.plain import generator
from lib.studies.projective_dictionaries import methods


@pytest.mark.parametrize("name", methods.METHODS)
def test_every_method_is_built(name):
    model = methods.build(name, d_in=16, d_sae=40, k=4, replicas=2, generator=generator(0))
    kind, options = methods.METHODS[name]
    assert type(model) is kind and options.items() <= model.config.items()
    assert model.k == (15 if "L1" in name else 4)
    if name == "ridge, budget":
        assert model.strength == pytest.approx(0.8 * 4)
    x = torch.randn(2, 50, 16, generator=generator(1)) + 3
    methods.initialise(model, x)
    torch.testing.assert_close(model.centre.detach(), x.mean(1))


def test_the_lists_name_methods_once():
    lists = (
        methods.CORE,
        methods.RELU,
        methods.MAIN,
        methods.QUOTAS,
        methods.VARIANTS,
        methods.ON_IMAGES,
        methods.TRANSCODERS,
    )
    for names in lists:
        assert set(names) <= set(methods.METHODS) and len(set(names)) == len(names)
    assert sorted(methods.MAIN + methods.QUOTAS + methods.VARIANTS) == sorted(methods.METHODS)
