"""What the table rests on, in a file."""

from conftest import run_script
from rnnt import files


def test_base_models_are_named_by_their_path_two_of_one_name_too(tmp_path):
    metrics = tmp_path / "results/digits/evaluation/leg_1/beam/test.json"
    files.write_sealed(metrics, {"checkpoint": {"model": "old/base.nemo"}, "wer": 1.0})
    files.write_text(tmp_path / "results/digits/tokenizer/tokenizer.model", "tokens")
    for name in ("old", "new"):
        files.write_text(tmp_path / name / "base.nemo", name)
    bases = ("old/base.nemo", "new/base.nemo")
    options = ("--config", "{}", "--metrics", metrics, "--base-models", *bases, "--output", "provenance.json")
    done = run_script("make_provenance", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = files.read_json(tmp_path / "provenance.json")
    assert found["base_models"] == {base: files.sha256(tmp_path / base) for base in bases}
    assert found["datasets"]["digits"]["evaluations"]["leg_1/beam/test"]["checkpoint"]["model"] == "old/base.nemo"
