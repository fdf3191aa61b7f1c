"""Which leg is taken: by validation alone, and whole."""

import os

import pytest
import select_leg

from rnnt import files


@pytest.fixture
def legs(tmp_path):
    """Three finished legs and a function that writes their metrics."""
    for leg in (1, 2, 3):
        folder = tmp_path / f"checkpoints/leg_{leg}"
        files.write_json(folder / "leg.json", {"leg": leg, "legs": 3, "step": 10 * leg})
        files.write_text(folder / "model.nemo", f"weights of leg {leg}")
        files.write_text(folder / "trainer/trainer_state.json", "{}")
        files.write_text(folder / ".snakemake_timestamp", "")

    def choose(*rates):
        places = [tmp_path / f"evaluation/leg_{leg}/greedy/validation.json" for leg in (1, 2, 3)]
        for path, rate in zip(places, rates, strict=True):
            files.write_sealed(path, {"wer": rate})
        given = ["--checkpoints", *(tmp_path / f"checkpoints/leg_{leg}" for leg in (1, 2, 3)), "--metrics", *places]
        output = tmp_path / "checkpoints/best"
        select_leg.main(select_leg.parser().parse_args([*map(str, given), "--output", str(output)]))
        return output

    return choose


@pytest.mark.parametrize(
    ("rates", "chosen"), [((30.0, 10.0, 20.0), 2), ((10.0, 20.0, 30.0), 1), ((20.0, 10.0, 10.0), 3)]
)
def test_the_leg_with_the_lowest_rate_is_taken_the_later_of_two_alike(legs, tmp_path, rates, chosen):
    best = legs(*rates)
    report = files.read_json(best / "leg.json")
    assert (report["leg"], report["step"]) == (chosen, 10 * chosen)
    wer = {str(leg): rate for leg, rate in enumerate(rates, 1)}
    assert report["selected"] == {"split": "validation", "wer": wer}
    assert "selected" not in files.read_json(tmp_path / f"checkpoints/leg_{chosen}/leg.json")
    assert os.path.samefile(best / "model.nemo", tmp_path / f"checkpoints/leg_{chosen}/model.nemo"), "no second copy"
    assert (best / "trainer/trainer_state.json").is_file() and not (best / ".snakemake_timestamp").exists()


def test_another_choice_takes_the_place_of_the_one_before(legs):
    assert (legs(1.0, 2.0, 3.0) / "model.nemo").read_text() == "weights of leg 1"
    assert (legs(3.0, 1.0, 2.0) / "model.nemo").read_text() == "weights of leg 2"
