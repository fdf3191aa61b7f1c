"""What a user sees before anything is computed: the plan, and what is said of a wrong configuration."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

SNAKEMAKE = str(Path(sys.executable).with_name("snakemake"))


def snakemake(folder, *arguments, env=None):
    return subprocess.run([SNAKEMAKE, *arguments], cwd=folder, capture_output=True, text=True, env=env)


def test_a_dry_run_needs_nothing_but_snakemake(checkout, tmp_path):
    """Libraries of the rules raise on import, there is no home, no network variable, no configuration."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in (
        "torch",
        "nemo",
        "transformers",
        "datasets",
        "soundfile",
        "sentencepiece",
        "jiwer",
        "soxr",
        "tqdm",
    ):
        (blocked / f"{name}.py").write_text("raise ImportError('not installed here')\n")
    env = {
        "PATH": f"{Path(SNAKEMAKE).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(blocked),
        "HOME": str(tmp_path / "home"),
    }
    done = snakemake(checkout, "--dry-run", env=env)
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    for rule in (
        "prepare_corpus",
        "build_manifests",
        "build_tokenizer",
        "train_leg",
        "train_kept_leg",
        "make_wer_table",
    ):
        assert rule in plan


def test_a_data_set_s_name_is_a_target(checkout):
    done = snakemake(checkout, "--dry-run", "--quiet", "host", "--", "spoken_digits")
    assert done.returncode == 0, done.stderr
    plan = done.stdout + done.stderr
    assert "results/spoken_digits/wer_table.csv" in plan and "spoken_commands" not in plan


@pytest.mark.parametrize("tracker", ["wandb: {mode: offline}", "tensorboard: true"])
def test_results_are_tracked_where_the_configuration_says_so_and_only_there(checkout, tracker):
    (checkout / "overlay.yaml").write_text(tracker + "\n")
    for target in ("spoken_digits", "results/wer_table.csv"):
        done = snakemake(checkout, "--dry-run", target)
        assert done.returncode == 0 and "track_results" not in done.stdout + done.stderr
        done = snakemake(checkout, "--dry-run", target, "--configfile", "overlay.yaml")
        assert "output: results/spoken_digits/tracked.json\n" in done.stdout + done.stderr, done.stderr


def test_a_name_that_is_no_data_set_is_named(checkout):
    done = snakemake(checkout, "--dry-run", "spoken_digit")
    assert done.returncode != 0
    assert "no data set or target spoken_digit: did you mean `spoken_digits`?" in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("evaluation: {beam: {beamsize: 3}}", "unknown key evaluation.beam.beamsize: did you mean `beam_size`?"),
        ("training: {learning_rate: 5e-4}", "YAML reads 5e-4 as text, write 5.0e-4"),
        ("datasets: {d: {splits: {train: a, validation: b, test: c}}}", "datasets.d.source is missing"),
    ],
)
def test_a_wrong_configuration_is_one_clear_line(checkout, text, message):
    (checkout / "wrong.yaml").write_text(text + "\n")
    done = snakemake(checkout, "--dry-run", "--configfile", "wrong.yaml")
    assert done.returncode == 1
    output = done.stderr + done.stdout
    assert message in output and "Traceback" not in output


def test_an_overlay_changes_the_default_experiment_and_a_file_with_data_sets_replaces_it(checkout):
    (checkout / "overlay.yaml").write_text("evaluation: {legs: 5}\n")
    done = snakemake(checkout, "--dry-run", "--configfile", "overlay.yaml")
    assert "leg_5" in done.stdout + done.stderr and "spoken_commands" in done.stdout + done.stderr
    done = snakemake(checkout, "--dry-run", "--configfile", "config/local_example.yaml")
    assert "spoken_commands" not in done.stdout + done.stderr


def test_the_audio_is_listened_to_unless_the_configuration_says_no(checkout):
    (checkout / "headers.yaml").write_text("datasets: {spoken_digits: {filter: {read_samples: false}}}\n")
    files = ("--configfile", "config/config.yaml", "headers.yaml")
    plan = snakemake(checkout, "--dry-run", "--printshellcmds", "results/wer_table.csv", *files).stdout
    commands = [line for line in plan.splitlines() if "build_manifests.py" in line and "--corpus" in line]
    assert sorted("--headers-only" in line for line in commands) == [False, True], commands


def test_a_language_model_is_for_the_beam_search_alone_and_must_be_there(checkout):
    (checkout / "overlay.yaml").write_text("evaluation: {beam: {lm: my words.arpa, lm_weight: 0.5}}\n")
    arguments = ("--dry-run", "--printshellcmds", "--configfile", "overlay.yaml", "--", "spoken_digits")
    done = snakemake(checkout, *arguments)
    assert done.returncode == 1 and "evaluation.beam.lm: my words.arpa: no such file" in done.stderr + done.stdout
    (checkout / "my words.arpa").write_text("")
    plan = (done := snakemake(checkout, *arguments)).stdout + done.stderr
    for command in [line for line in plan.splitlines() if "transcribe_split.py --checkpoint" in line]:
        fused = "--lm 'my words.arpa'" in command and '"lm_weight":0.5' in command
        assert fused == ("malsd_batch" in command), command
        assert ("lm_weight" in command) == fused
    assert plan.count("--lm 'my words.arpa'") == 1


def test_several_legs_are_kept_where_asked(checkout):
    (checkout / "overlay.yaml").write_text("evaluation: {legs: 4, save_every_legs: 2}\n")
    done = snakemake(checkout, "--dry-run", "--configfile", "overlay.yaml", "--", "spoken_digits")
    plan = done.stdout + done.stderr
    for path in (
        "checkpoints/temporary/leg_1",
        "checkpoints/leg_2",
        "checkpoints/temporary/leg_3",
        "checkpoints/leg_4",
    ):
        assert f"output: results/spoken_digits/{path}\n" in plan
    assert "output: results/spoken_digits/checkpoints/temporary/leg_2\n" not in plan


def test_a_pretrained_name_is_downloaded_once_and_a_file_is_used_where_it_lies(checkout):
    (checkout / "overlay.yaml").write_text("model: {init_from: stt_en_contextnet_1024}\ntokenizer: {source: model}\n")
    done = snakemake(checkout, "--dry-run", "--configfile", "overlay.yaml")
    plan = done.stdout + done.stderr
    assert plan.count("rule fetch_base_model:") == 1
    assert (
        "--take-from data/base_models/stt_en_contextnet_1024.nemo"
        in snakemake(checkout, "--dry-run", "--printshellcmds", "--configfile", "overlay.yaml").stdout
    )
    (checkout / "overlay.yaml").write_text("model: {init_from: mine.nemo}\ntokenizer: {source: model}\n")
    (checkout / "mine.nemo").write_bytes(b"x")
    done = snakemake(checkout, "--dry-run", "--configfile", "overlay.yaml")
    assert "fetch_base_model" not in done.stdout + done.stderr and "mine.nemo" in done.stdout + done.stderr


def test_the_slurm_profile_is_accepted(checkout):
    done = snakemake(checkout, "--dry-run", "--workflow-profile", "profiles/slurm")
    assert done.returncode == 0, done.stderr
    assert "runtime=1440" in done.stdout + done.stderr


def test_every_rule_tells_what_it_does(checkout):
    listed = snakemake(checkout, "--list-rules").stdout.splitlines()
    assert {"train_leg", "spoken_digits", "check_environment"} <= {line.split()[0] for line in listed if line.strip()}
    for file in (checkout / "rules").glob("*.smk"):
        lines = file.read_text().splitlines()
        for number, line in enumerate(lines):
            if line.startswith("rule "):
                assert lines[number + 1].strip().startswith('"""'), f"{file.name}: {line}"


def test_lint_and_format_are_clean(checkout):
    assert snakemake(checkout, "--lint").returncode == 0
    formatter = shutil.which("snakefmt", path=os.fspath(Path(SNAKEMAKE).parent))
    assert subprocess.run([formatter, "--check", "Snakefile", "rules"], cwd=ROOT, capture_output=True).returncode == 0
