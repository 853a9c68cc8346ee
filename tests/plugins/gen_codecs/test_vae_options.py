"""Settings of the VAE that cannot be."""

import pytest

from gen_codecs.vae_options import Vae, VaeLossOptions


def test_one_multiplier_a_halving():
    assert Vae(stride=(1, 8, 4), multipliers=(1, 2, 4)).multipliers == (1, 2, 4)
    with pytest.raises(ValueError, match="one for each of the 3 levels"):
        Vae(stride=(1, 8, 4), multipliers=(1, 2))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stride": (1, 3, 4)}, "must be one of"),
        ({"stride": (1, 1, 1)}, "use the codec 'identity'"),
        ({"latent_channels": 0}, "latent_channels"),
        ({"blocks_encoder": -1}, "blocks_encoder"),
    ],
)
def test_what_is_no_number_of_its_kind_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Vae(**wrong)


@pytest.mark.parametrize("name", ["beta", "free_bits", "warmup"])
def test_weights_below_zero_are_refused(name):
    with pytest.raises(ValueError, match=name):
        VaeLossOptions(**{name: -1})
