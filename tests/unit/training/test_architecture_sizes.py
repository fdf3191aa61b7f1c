"""What config/models/ says, built: sizes are those that are published, and every architecture is listed here."""

import pytest

from rnnt.training import models

PARAMETERS = {  # millions, least and most, with 24 tokens
    "contextnet_dummy": (0.01, 0.05),
    "contextnet_tiny": (0.4, 0.6),
    "contextnet_tdt_small": (1.0, 1.2),
    "contextnet_large": (140, 148),
    # With NVIDIA's 1,024 tokens 1.3 million more: 120, 114 and 115.
    "conformer_large": (118, 120),
    "fastconformer_large": (112, 114),
    "fastconformer_tdt": (113, 115),
    "fastconformer_tiny": (0.9, 1.2),
    "fastconformer_tdt_tiny": (0.9, 1.2),
}


def test_each_architecture_is_listed():
    assert {path.stem for path in models.ARCHITECTURES.glob("*.yaml")} == PARAMETERS.keys()


@pytest.mark.parametrize("architecture", PARAMETERS)
def test_it_has_its_size_and_an_output_for_each_token(prepared, architecture):
    model = models.build(architecture, prepared / "tokenizer")
    least, most = PARAMETERS[architecture]
    assert least * 1e6 <= models.count_parameters(model) <= most * 1e6
    durations = 5 if "tdt" in architecture else 0
    assert model.joint.num_classes_with_blank == 24 + durations + 1
    assert (model.spec_augmentation is None) == (architecture == "contextnet_tiny")
