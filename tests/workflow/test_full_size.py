"""The model of config/paper.yaml at its full size: too large for the unit tests."""

from legs import flight


def test_the_weights_in_low_precision_are_not_taken_for_utterances(prepared):
    """They are made once a run, whatever the batch: contextnet_large's are 275 MiB."""
    made = flight(prepared, [1.0] * 8, 4, "contextnet_large", precision="bf16")
    constant, slope = made.taken.networks
    assert constant > 100 * 2**20 and slope > 20 * 2**20
