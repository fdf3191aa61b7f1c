"""What a user sees before anything is computed: the plan, and what is said of a wrong configuration."""

import functools
import json
import os
import re
import shlex
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
        "HOME": "/proc/none",
    }
    done = snakemake(checkout, "--dry-run", env=env)
    assert done.returncode == 0, done.stderr
    assert f"/proc/none/.cache can't be written: caches go to {checkout}/.snakemake/cache" in done.stderr
    plan = done.stdout + done.stderr
    for rule in (
        "prepare_corpus",
        "list_split",
        "build_manifest",
        "compare_splits",
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


def refusal(folder, *arguments):
    """What a dry run ends with, in one line."""
    done = snakemake(folder, "--dry-run", "--quiet", "host", *arguments)
    output = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in output and "Exception" not in output, output
    return next(line for line in output.splitlines() if line.startswith("error: "))


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_a_file_that_snakemake_can_t_read_is_one_clear_line(checkout, profile):
    (checkout / "wrong.yaml").write_text("training: &a {seed: *a}\n")
    given = ("--workflow-profile", f"profiles/{profile}", "--configfile", "wrong.yaml")
    assert "error: wrong.yaml:1: an alias stands for what it is in itself" in refusal(checkout, *given)


def test_a_key_given_twice_is_named_with_both_lines_in_every_file(checkout):
    (checkout / "good.yaml").write_text("training: {seed: 2}\n")
    (checkout / "twice.yaml").write_text("training: {seed: 2}\ndevice: cpu\ntraining: {batch_size: 3}\n")
    without_profile = ("--workflow-profile", "none", "--configfile", "good.yaml", "twice.yaml")
    assert "error: twice.yaml:3: `training` is already given in line 1" in refusal(checkout, *without_profile)
    with (checkout / "config/config.yaml").open("a") as file:
        file.write("training: {seed: 2}\ntraining: {seed: 3}\n")
    assert "error: config/config.yaml:" in refusal(checkout)


def test_no_value_of_the_configuration_is_a_pattern(checkout):
    (checkout / "a b").mkdir()
    (checkout / "a b/'$HOME'.arpa").write_text("")
    (checkout / "bare").write_text("")  # a word like the name of a target
    project = '{"tensorboard":false,"wandb":{"mode":"offline","project":"asr-{dataset} {x} <x> $HOME *"}}'
    (checkout / "overlay.yaml").write_text(
        "wandb: {mode: offline, project: 'asr-{dataset} {x} <x> $HOME *'}\n"
        "evaluation: {beam: {lm: \"a b/'$HOME'.arpa\"}}\n"
    )
    arguments = ("--dry-run", "--printshellcmds", "--configfile", "overlay.yaml", "--", "spoken_digits")
    plan = (done := snakemake(checkout, *arguments)).stdout + done.stderr
    assert done.returncode == 0, plan
    told = [
        shlex.split(line.removeprefix("Shell command: "))
        for line in plan.splitlines()
        if "python workflow_scripts/" in line
    ]
    tracking = [words[words.index("--tracking") + 1] for words in told if "--tracking" in words]
    assert len(tracking) == 4 and set(tracking) == {project}
    assert [words[words.index("--lm") + 1] for words in told if "--lm" in words] == 2 * ["a b/'$HOME'.arpa"]
    (checkout / "overlay.yaml").write_text("evaluation: {beam: {lm: bare}}\n")
    assert f"--lm {checkout}/bare" in snakemake(checkout, *arguments).stdout


def test_a_place_that_snakemake_would_take_for_a_pattern_is_refused(checkout):
    (checkout / "{x}.arpa").write_text("")
    (checkout / "overlay.yaml").write_text("evaluation: {beam: {lm: '{x}.arpa'}}\n")
    assert "{x}.arpa: braces" in refusal(checkout, "--configfile", "overlay.yaml")
    (checkout / "overlay.yaml").write_text(f"evaluation: {{beam: {{lm: {'a' * 300}}}}}\n")
    assert "File name too long" in refusal(checkout, "--configfile", "overlay.yaml")
    assert "brace{x}: braces in the path" in refusal(checkout.rename(checkout.with_name("brace{x}")))


@pytest.mark.parametrize("name", ["train_kept_leg", "figures"])
def test_a_data_set_is_not_called_as_something_of_the_workflow(checkout, name):
    text = (checkout / "config/config.yaml").read_text().replace("spoken_commands:", f"{name}:")
    (checkout / "config/config.yaml").write_text(text)
    assert f"config: datasets.{name}: the workflow has something of that name" in refusal(checkout)


def test_names_of_python_and_of_folders_are_good_names(checkout):
    text = (checkout / "config/config.yaml").read_text()
    text = text.replace("spoken_commands:", "config:").replace("spoken_digits:", "lambda:")
    (checkout / "config/config.yaml").write_text(text)
    done = snakemake(checkout, "--dry-run", "--", "config", "lambda")
    assert done.returncode == 0 and "output: results/config/wer_table.csv" in done.stdout + done.stderr, done.stderr


def test_a_leg_or_a_split_that_there_is_not_is_refused_before_any_is_trained(checkout):
    folder = "results/spoken_digits"
    assert "spoken_digits has no leg 9: evaluation.legs is 3" in refusal(checkout, "--", f"{folder}/checkpoints/leg_9")
    message = "spoken_digits has no split dev: it has train, validation, test"
    assert message in refusal(checkout, "--", f"{folder}/evaluation/leg_3/greedy/dev.json")


@pytest.mark.parametrize("option", ["--snakefile", "--directory"])
def test_another_working_directory_is_refused(checkout, tmp_path, option):
    (tmp_path / "elsewhere").mkdir()
    started, given = {
        "--snakefile": (tmp_path / "elsewhere", checkout / "Snakefile"),
        "--directory": (checkout, tmp_path / "elsewhere"),
    }[option]
    assert f"error: run Snakemake in {checkout}, where the Snakefile is" in refusal(started, option, str(given))


@pytest.mark.parametrize("place", ["results", "logs/spoken_digits"])
def test_a_place_that_can_t_be_written_to_is_refused(checkout, place):
    (checkout / place).parent.mkdir(exist_ok=True)
    (checkout / place).write_text("")
    assert f"{place}: not a folder that may be written to" in refusal(checkout)


def test_the_audio_is_listened_to_unless_the_configuration_says_no(checkout):
    (checkout / "headers.yaml").write_text("datasets: {spoken_digits: {filter: {read_samples: false}}}\n")
    files = ("--configfile", "config/config.yaml", "headers.yaml")
    plan = snakemake(checkout, "--dry-run", "--printshellcmds", "results/wer_table.csv", *files).stdout
    commands = [line for line in plan.splitlines() if "list_split.py --corpus" in line]
    assert sorted("--headers-only" in line for line in commands) == 3 * [False] + 3 * [True], commands


def test_wrong_transcripts_are_looked_for_where_and_as_far_as_the_configuration_says(checkout):
    (checkout / "overlay.yaml").write_text(
        "evaluation: {suspects_hours: 0.5, greedy: {max_symbols: 7}}\ntraining: {transducer: nemo}\n"
        "datasets: {spoken_digits: {evaluation: {suspects: false}}}\n"
    )
    overlay = ("--configfile", "config/config.yaml", "overlay.yaml")
    plan = snakemake(checkout, "--dry-run", "--printshellcmds", *overlay).stdout
    (command,) = [line for line in plan.splitlines() if "find_suspects.py --checkpoint" in line]
    assert "--label spoken_commands" in command and "--splits train validation" in command
    for part in ("--hours 0.5", '"max_symbols":7', "--transducer nemo", "checkpoints/leg_3"):
        assert part in command, command
    (command,) = [line for line in plan.splitlines() if "make_report.py --table" in line]
    assert "--suspects results/spoken_commands/suspects.tsv --log" in command
    (checkout / "overlay.yaml").write_text("evaluation: {suspects: false}\n")
    plan = snakemake(checkout, "--dry-run", *overlay).stdout
    assert "rule make_report" in plan and "find_suspects" not in plan
    assert "find_suspects" not in snakemake(checkout, "--dry-run", "results/wer_table.csv").stdout


def test_a_language_model_is_for_the_beam_search_alone_and_must_be_there(checkout):
    (checkout / "overlay.yaml").write_text("evaluation: {beam: {lm: my words.arpa, lm_weight: 0.5}}\n")
    arguments = ("--dry-run", "--printshellcmds", "--configfile", "overlay.yaml", "--", "spoken_digits")
    done = snakemake(checkout, *arguments)
    assert done.returncode == 1 and "evaluation.beam.lm: my words.arpa: no such file" in done.stderr + done.stdout
    (checkout / "my words.arpa").write_text("")
    plan = (done := snakemake(checkout, *arguments)).stdout + done.stderr
    for command in [line for line in plan.splitlines() if "transcribe_split.py --checkpoint" in line]:
        fused = "--lm 'my words.arpa'" in command and '"lm_weight":0.5' in command
        assert fused == ("malsd_batch" in command and "/beam_without_lm/" not in command), command
        assert ("lm_weight" in command) == fused
    assert plan.count("--lm 'my words.arpa'") == 1 and plan.count("/beam_without_lm/test.jsonl --decoding") == 1
    assert "tune_language_model" not in plan and "build_language_model" not in plan


def test_an_n_gram_is_made_of_the_training_text_and_weighed_for_each_seed(checkout):
    @functools.cache
    def plan(overlay):
        (checkout / "overlay.yaml").write_text(overlay)
        files = ("--configfile", "config/config.yaml", "overlay.yaml")
        done = snakemake(checkout, "--dry-run", "--printshellcmds", *files, "--", "results/report.html")
        assert done.returncode == 0, done.stdout + done.stderr
        return [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()]

    def commands(overlay, script):
        return [line for line in plan(overlay) if f"{script}.py --" in line]

    seeds = "training: {seeds: [1, 5]}\n"
    auto = f"{seeds}evaluation: {{transfer: true, beam: {{lm: auto}}}}\n"
    built = commands(auto, "build_language_model")
    assert len(built) == 2 and all("--order 6 --workers" in line and "--text" not in line for line in built)
    tuned = commands(auto, "tune_language_model")
    assert len(tuned) == 4 and not [line for line in tuned if "lm_weight" in line]
    weights = [shlex.split(line)[-1] for line in tuned]
    assert sorted(weights) == sorted(
        f"results/spoken_{name}{seed}/language_model/weight.json"
        for name in ("digits", "commands")
        for seed in ("", "/seed_5")
    )
    for place in ("digits", "digits/seed_5"):
        name = place.partition("/")[0]
        own = f"results/spoken_{place}"
        lm = f" --lm results/spoken_{name}/language_model/ngram.arpa --lm-weight {own}/language_model/weight.json"
        searched = [line for line in commands(auto, "transcribe_split") if f"--checkpoint {own}/checkpoints" in line]
        fused = [shlex.split(line)[-3] for line in searched if lm in line]
        assert sorted(fused) == [
            f"{own}/evaluation/leg_3/beam/test.jsonl",
            f"{own}/transfer/spoken_commands/test.jsonl",
        ]
        assert len([line for line in searched if "/beam_without_lm/test.jsonl" in line and "--lm" not in line]) == 1
    (score,) = [line for line in commands(auto, "score_split") if "--label spoken_digits" in line]
    assert (
        "--without-lm results/spoken_digits/evaluation/leg_3/beam_without_lm/test.jsonl results/spoken_digits/s"
        in score
    )
    (compare,) = commands(auto, "make_comparisons")
    assert compare.count("/beam_without_lm/") == 4

    number = auto.replace("lm: auto", "lm: auto, lm_weight: 0.2, lm_order: 4")
    assert commands(number, "tune_language_model") == []
    assert "--order 4" in commands(number, "build_language_model")[0]
    assert len([line for line in commands(number, "transcribe_split") if '"lm_weight":0.2' in line]) == 8
    (checkout / "my words.txt.gz").write_text("")
    text = auto.replace("lm: auto", "lm: auto, lm_text: my words.txt.gz")
    (line, _) = commands(f"{text}text: {{case: keep, language: tr}}\n", "build_language_model")
    assert "--text 'my words.txt.gz' --case keep --rules auto --language tr --kinds synthetic" in line
    assert commands(seeds, "build_language_model") == [] == commands(seeds, "tune_language_model")
    missing = text.replace("my words", "other")
    (checkout / "overlay.yaml").write_text(missing)
    assert "evaluation.beam.lm_text: other.txt.gz: no such file" in refusal(checkout, "--configfile", "overlay.yaml")


def test_an_untouched_model_is_searched_with_an_n_gram_of_its_tokens_and_with_nothing_of_the_training_s(checkout):
    (checkout / "base.nemo").write_text("")
    (checkout / "words.arpa").write_text("")
    given = "lm: words.arpa, lm_weight: 0.3"
    for source, lm, fused in (
        ("model", given, True),
        ("train", given, False),
        ("model", "lm: words.arpa", False),
        ("model", "lm: auto, lm_weight: 0.3", False),
    ):
        (checkout / "overlay.yaml").write_text(
            "model: {init_from: base.nemo, reinitialize_decoder: true}\n"
            f"tokenizer: {{source: {source}}}\nevaluation: {{beam: {{{lm}}}}}\n"
        )
        arguments = ("--dry-run", "--printshellcmds", "--configfile", "config/config.yaml", "overlay.yaml", "--")
        plan = (done := snakemake(checkout, *arguments, "spoken_digits")).stdout + done.stderr
        (command,) = [line for line in plan.splitlines() if "transcribe_split.py --" in line and "/pretrained" in line]
        assert ("--lm words.arpa" in command and '"lm_weight":0.3' in command) == fused
        assert ("--lm" in command) == fused


def test_augmentation_is_told_to_the_training_and_previewed_where_it_is_on(checkout):
    for name in ("street", "below/café"):
        (checkout / "my noises" / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / f"my noises/{name}.wav").write_bytes(b"a")
    (checkout / "overlay.yaml").write_text(
        "training: {augmentation: {speed: [0.9, 1.1], noise: {path: my noises, probability: 0.5}}}\n"
        "datasets: {spoken_digits: {training: {augmentation: {speed: [1.0], noise: {probability: 0}}}}}\n"
    )
    overlay = ("--configfile", "config/config.yaml", "overlay.yaml")

    def commands(*arguments):
        done = snakemake(checkout, "--dry-run", "--printshellcmds", *arguments)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if "python workflow_scripts/" in line]
        found = {"spoken_commands": {}, "spoken_digits": {}}
        for name, scripts in found.items():
            for line in lines:
                words = shlex.split(line.removeprefix("Shell command: "))
                if f"--label {name}" in line or "make_report" in line:
                    scripts.setdefault(Path(words[1]).stem, []).append(words)
        return found

    def value(words, key):
        return json.loads(words[words.index(f"--{key}") + 1])

    on = commands(*overlay)
    training = [value(words, "training")["augmentation"] for words in on["spoken_commands"]["train_leg"]]
    hashed = training[0]["noise"].pop("files")
    assert training[0] == {"speed": [0.9, 1.1], "noise": {"path": "my noises", "snr": [10, 20], "probability": 0.5}}
    assert len(training) == 3 and len(hashed) == 16
    (preview,) = on["spoken_commands"]["preview_augmentation"]
    assert value(preview, "augmentation")["noise"]["files"] == hashed and value(preview, "seed") == 1
    (page,) = on["spoken_commands"]["make_report"]
    assert page[page.index("--augmented") + 1 : page.index("--suspects")] == ["results/spoken_commands/augmentation"]

    off = commands()
    assert off["spoken_digits"]["train_leg"] == on["spoken_digits"]["train_leg"], "trained again for nothing"
    assert not any("augmentation" in words for words in off["spoken_digits"]["train_leg"][0])
    assert "preview_augmentation" not in str(off) and "preview_augmentation" not in on["spoken_digits"]
    message = "results/spoken_digits/augmentation: nothing of training.augmentation is on that can be heard"
    assert message in refusal(checkout, "--", "results/spoken_digits/augmentation")

    (checkout / "my noises/street.wav").write_bytes(b"ab")
    other = value(commands(*overlay)["spoken_commands"]["train_leg"][0], "training")["augmentation"]["noise"]["files"]
    assert other != hashed, "other noises are another training"
    shutil.rmtree(checkout / "my noises")
    message = "training.augmentation.noise.path: my noises: no such folder: it takes one with audio files"
    assert message in refusal(checkout, *overlay)


def test_a_language_is_told_to_what_depends_on_it(checkout):
    """Every scoring; the manifests, on which the training rests, only where lower case is made in another way."""
    (checkout / "overlay.yaml").write_text(
        "text: {language: tr}\ndatasets: {spoken_digits: {text: {language: hi-IN}}}\n"
    )
    overlay = ("--configfile", "config/config.yaml", "overlay.yaml", "--", "results/wer_table.csv")
    done = snakemake(checkout, "--dry-run", "--printshellcmds", *overlay)
    assert done.returncode == 0, done.stderr
    commands = [line for line in (done.stdout + done.stderr).splitlines() if "python workflow_scripts/" in line]
    manifests = {"spoken_digits" in line: line for line in commands if "build_manifest.py" in line}
    assert "--language tr" in manifests[False] and "--language" not in manifests[True]
    scorings = [line for line in commands if "score_hypotheses.py" in line]
    assert len(scorings) > 4
    for line in scorings:
        assert ("--language hi-IN" if "spoken_digits" in line else "--language tr") in line


def trained_by(plan):
    """The commands of the trainings of a plan, but for what they transcribe when they are done."""
    lines = [line for line in plan.splitlines() if "train_leg.py --manifest" in line]
    return sorted(re.sub("--ahead '.*?'", "", line) for line in lines)


def test_the_best_leg_is_tested_and_given_away_where_the_configuration_says_so(checkout):
    (checkout / "overlay.yaml").write_text(
        "evaluation: {select: best, transfer: true}\ntraining: {seeds: [1, 5]}\n"
        "datasets: {spoken_commands: {evaluation: {select: last}}}\n"
    )
    files = ("--printshellcmds", "--configfile", "config/config.yaml", "overlay.yaml")
    plan = snakemake(checkout, "--dry-run", *files).stdout
    for place in ("spoken_digits", "spoken_digits/seed_5"):
        assert f"output: results/{place}/checkpoints/best\n" in plan
        assert f"output: results/{place}/evaluation/leg_best/beam/test.jsonl, " in plan
        assert f"results/{place}/evaluation/leg_3/beam" not in plan
    commands = [line for line in plan.splitlines() if "python workflow_scripts/" in line and " --checkpoint" in line]
    final = [line for line in commands if "greedy/validation.json" not in line and "select_leg" not in line]
    for script in ("transcribe_split", "find_suspects", "make_transformers_form", "make_model_folder"):
        ours = [line for line in final if f"/{script}.py" in line and "--label spoken_digits" in line]
        ours = [line for line in ours if "greedy/validation.jsonl" not in line]
        assert ours and all("results/spoken_digits/" in line and "checkpoints/best " in line for line in ours), script
        others = [line for line in final if f"/{script}.py" in line and "--label spoken_commands" in line]
        assert others and not any("checkpoints/best" in line for line in others)
    (chosen,) = [line for line in commands if "select_leg.py" in line and "seed_5" not in line]
    legs = " ".join(
        f"results/spoken_digits/checkpoints/{leg}" for leg in ("temporary/leg_1", "temporary/leg_2", "leg_3")
    )
    rates = " ".join(f"results/spoken_digits/evaluation/leg_{leg}/greedy/validation.json" for leg in (1, 2, 3))
    assert f"--checkpoints {legs} --metrics {rates} " in chosen
    trainings = trained_by(plan)
    (checkout / "seeds.yaml").write_text("training: {seeds: [1, 5]}\n")
    plan = snakemake(checkout, "--dry-run", "--printshellcmds", "--configfile", "seeds.yaml").stdout
    assert "select_leg" not in plan and "leg_best" not in plan
    assert trainings == trained_by(plan)
    message = "spoken_digits has no leg best: that is for evaluation.select: best"
    assert message in refusal(checkout, "--", "results/spoken_digits/evaluation/leg_best/beam/test.json")
    assert message in refusal(checkout, *files, "--", "results/spoken_digits/checkpoints/leg_best")


def test_a_training_starts_from_another_data_set_s_best_leg(checkout):
    (checkout / "overlay.yaml").write_text("datasets: {digits: {evaluation: {select: best}}}\n")
    files = ("--configfile", "config/replay.yaml", "overlay.yaml")
    plan = snakemake(checkout, "--dry-run", "--printshellcmds", *files).stdout
    bases = [line for line in plan.splitlines() if "train_leg.py" in line and "--base-model" in line]
    assert len(bases) == 9
    assert all("--base-model results/digits/checkpoints/best/model.nemo" in line for line in bases)


def test_validation_decides_about_a_mean_of_the_weights_where_there_is_one(checkout):
    (checkout / "overlay.yaml").write_text(
        "training: {averaging: 0.5}\nevaluation: {batch_size: 7, greedy: {max_symbols: 5}}\n"
    )
    arguments = ("--dry-run", "--printshellcmds", "--configfile", "overlay.yaml", "--", "spoken_digits")
    commands = [line for line in snakemake(checkout, *arguments).stdout.splitlines() if "train_leg.py --man" in line]
    wanted = (
        "--validation results/spoken_digits/manifests/validation.jsonl "
        """--greedy '{"max_symbols":5,"strategy":"greedy_batch"}' --batch-size 7"""
    )
    assert len(commands) == 3 and all(wanted in line and '"averaging":0.5' in line for line in commands)


def test_a_training_is_told_what_to_transcribe_while_it_has_the_model(checkout):
    def trainings(overlay):
        """For each leg of spoken_digits, what is ahead, and the command without it."""
        (checkout / "overlay.yaml").write_text(overlay)
        files = ("--configfile", "config/config.yaml", "overlay.yaml")
        done = snakemake(checkout, "--dry-run", "--printshellcmds", *files, "--", "spoken_digits")
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [shlex.split(line) for line in done.stdout.splitlines() if "train_leg.py --man" in line]
        for words in lines:
            assert words[words.index("--label") + 1].startswith("spoken_digits")
        at = [words.index("--ahead") for words in lines]
        found = [(json.loads(words[i + 1]), words[:i] + words[i + 2 :]) for words, i in zip(lines, at, strict=True)]
        return sorted(found, key=lambda pair: (pair[0]["progress"], pair[1][pair[1].index("--leg") + 1]))

    def outputs(found):
        return [[split["hypotheses"].partition("/evaluation/")[2] for split in ahead["splits"]] for ahead, _ in found]

    validation = [[f"leg_{leg}/greedy/validation.jsonl"] for leg in (1, 2, 3)]
    plain = trainings("device: auto\n")
    tests = [f"leg_3/{search}/test.jsonl" for search in ("greedy", "beam")]
    assert outputs(plain) == [*validation[:2], validation[2] + tests]
    wide = trainings("evaluation: {beam: {beam_size: 7}, greedy: {max_symbols: 5}, batch_size: 3}\n")
    assert [command for _, command in wide] == [command for _, command in plain], "trains nothing again"
    assert [ahead["batch_size"] for ahead, _ in wide] == [3, 3, 3]
    searches = [split["search"] for split in wide[2][0]["splits"]]
    assert searches[0] == searches[1] == {"max_symbols": 5, "strategy": "greedy_batch"}
    assert searches[2] == {"beam_size": 7, "score_norm": True, "strategy": "malsd_batch"}
    assert [split["manifest"] for split in wide[2][0]["splits"]] == [
        f"results/spoken_digits/manifests/{split}.jsonl" for split in ("validation", "test", "test")
    ]
    fused = [f"leg_3/{search}/test.jsonl" for search in ("greedy", "beam_without_lm")]
    assert outputs(trainings("evaluation: {beam: {lm: auto}}\n")) == [*validation[:2], validation[2] + fused]
    assert outputs(trainings("evaluation: {select: best}\n")) == validation
    seeds = trainings("training: {seeds: [1, 5]}\nevaluation: {legs: 1}\n")
    for (ahead, _), place in zip(seeds, ("spoken_digits", "spoken_digits/seed_5"), strict=True):
        assert ahead["progress"] == f"results/{place}/runs/transcripts"
        assert [split["hypotheses"] for split in ahead["splits"]] == [
            f"results/{place}/evaluation/leg_1/{path}"
            for path in ("greedy/validation.jsonl", "greedy/test.jsonl", "beam/test.jsonl")
        ]


def test_a_training_by_several_processes_asks_for_a_gpu_and_threads_for_each(checkout):
    (checkout / "overlay.yaml").write_text("training: {processes: 3}\ndevice: cuda\nevaluation: {legs: 1}\n")
    places = ["--cores", "16", "--resources", "gpu=4", "--configfile", "overlay.yaml"]
    done = snakemake(checkout, "--dry-run", "--printshellcmds", *places, "--", "spoken_digits")
    jobs = re.split(r"\n(?=rule )", done.stdout + done.stderr)
    found = {
        name: next(job for job in jobs if job.startswith(f"rule {name}:"))
        for name in ("train_kept_leg", "transcribe_split")
    }
    assert "threads: 12\n" in found["train_kept_leg"] and re.search(r"resources:.* gpu=3\b", found["train_kept_leg"])
    assert '"processes":3' in found["train_kept_leg"].partition("--running ")[2].partition(" --")[0].replace(" ", "")
    assert "threads: 4\n" in found["transcribe_split"] and re.search(r" gpu=1\b", found["transcribe_split"])


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


@pytest.mark.parametrize("source", ["extend", "model", "train"])
def test_what_is_asked_of_a_pretrained_model_is_told_to_what_looks_at_it_before_the_training(checkout, source):
    (checkout / "overlay.yaml").write_text(
        f"model: {{init_from: mine.nemo, reinitialize_decoder: true}}\n"
        f"tokenizer: {{source: {source}, sample: 7}}\n"
        "text: {language: de, case: keep}\ntraining: {ctc_weight: 0, transducer: nemo}\n"
        "evaluation: {beam: {strategy: maes}}\n"
    )
    (checkout / "mine.nemo").write_bytes(b"x")
    arguments = ("--printshellcmds", "--configfile", "overlay.yaml", "--", "spoken_digits")
    done = snakemake(checkout, "--dry-run", *arguments)
    commands = {
        script: [
            line for line in (done.stdout + done.stderr).splitlines() if f"python workflow_scripts/{script}.py" in line
        ]
        for script in ("build_tokenizer", "check_tokenizer", "check_model", "train_leg")
    }
    (built,), (checked,), (model,) = (commands[name] for name in ("build_tokenizer", "check_tokenizer", "check_model"))
    assert ("--take-from mine.nemo" in built) is (source != "train") and ("--extend" in built) is (source == "extend")
    assert "--case keep" in built and "--sample 7 " in built
    assert all(("--language de" in command) is (source != "train") for command in (built, checked))
    for part in ("--base-model mine.nemo", "--beam maes", "--transducer nemo", "--ctc-weight 0 "):
        assert part in model
    assert all('"ctc_weight":0' in command for command in commands["train_leg"])
    (checkout / "overlay.yaml").write_text("training: {transducer: nemo}\n")
    done = snakemake(checkout, "--dry-run", *arguments)
    commands = [
        line for line in (done.stdout + done.stderr).splitlines() if "python workflow_scripts/train_leg.py" in line
    ]
    later = ("ctc_weight", "encoder_learning_rate", "overrides", "averaging", "--validation")
    assert len(commands) == 3 and not any(key in line for line in commands for key in later), (
        "trained again for nothing"
    )
    (checkout / "overlay.yaml").write_text(
        "model: {overrides: {joint.jointnet.dropout: 0.2}}\ntraining: {encoder_learning_rate: 0.001}\n"
    )
    done = snakemake(checkout, "--dry-run", *arguments)
    commands = {
        script: [
            line for line in (done.stdout + done.stderr).splitlines() if f"python workflow_scripts/{script}.py" in line
        ]
        for script in ("check_model", "train_leg")
    }
    wanted = '"overrides":{"joint.jointnet.dropout":0.2}'
    assert all(wanted in line and '"encoder_learning_rate":0.001' in line for line in commands["train_leg"])
    assert """--overrides '{"joint.jointnet.dropout":0.2}'""" in commands["check_model"][0]


def test_the_slurm_profile_is_accepted(checkout):
    arguments = ("--dry-run", "--workflow-profile", "profiles/slurm", "--configfile")
    (checkout / "cuda.yaml").write_text("device: cuda\n")
    asked = {}
    for name, files in (("small", ["config/config.yaml"]), ("large", ["config/paper.yaml", "cuda.yaml"])):
        done = snakemake(checkout, *arguments, *files)
        assert done.returncode == 0, done.stderr
        leg = re.search(r"^rule train_leg:.*?resources: (.*?)$", done.stdout + done.stderr, re.M | re.S)[1]
        assert "slurm_extra=--signal=TERM@120" in leg
        asked[name] = [int(re.search(rf"\b{key}=(\d+)", leg)[1]) for key in ("runtime", "mem_mb", "gpu")]
    assert asked["small"][2] == 0 and asked["large"][2] == 1
    assert all(small < large for small, large in zip(asked["small"], asked["large"], strict=True))


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


SOURCES = """
sources:
  digits: &digits {type: synthetic, corpus: spoken_digits}
  again: *digits
  commands: {type: synthetic, corpus: spoken_commands}
datasets:
  one:
    splits:
      train: [digits/train, {split: commands/train, weight: 0.1}]
      validation: digits/validation
      test: digits/test
      test_commands: commands/test
    max_steps: 30
  two:
    splits: {train: commands/train, validation: {split: commands/validation, hours: 0.01}, test: again/test}
    max_steps: 30
"""


def test_a_source_is_prepared_once_and_a_split_listed_once_for_all_that_draw_on_it(checkout):
    (checkout / "mine.yaml").write_text(SOURCES)
    plan = snakemake(checkout, "--dry-run", "--configfile", "mine.yaml").stdout
    assert re.search(r"prepare_corpus +2\n", plan), "three sources of which two are one corpus"
    assert re.search(r"list_split +6\n", plan) and re.search(r"build_manifest +7\n", plan)


def test_a_source_that_gets_a_name_keeps_its_files(checkout):
    """What `source` in a data set and a named source make is the same: nothing is listed or trained again."""
    named = "sources: {s: &s {type: synthetic, corpus: spoken_digits}}\n"
    splits = "splits: {{train: {0}train, validation: {0}validation, test: {0}test}}, max_steps: 30"
    commands = []
    for head, source, before in (("", "source: {type: synthetic, corpus: spoken_digits}, ", ""), (named, "", "s/")):
        (checkout / "mine.yaml").write_text(f"{head}datasets: {{d: {{{source}{splits.format(before)}}}}}\n")
        plan = snakemake(checkout, "--dry-run", "--printshellcmds", "--configfile", "mine.yaml").stdout
        lines = [line for line in plan.splitlines() if "python workflow_scripts/" in line and "make_wer" not in line]
        commands.append(sorted(lines))
    assert commands[0] == commands[1] and len(commands[0]) > 20


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("again/test", "agian/test", "datasets.two.splits.test: agian/test: there is no source agian: did you mean"),
        (
            "again/test",
            "test",
            "datasets.two.splits.test: test: expected SOURCE/SPLIT: there is no source test: sources",
        ),
        (
            "again/test",
            "again/tset",
            "the source synthetic has no split tset (it has train, validation, test): did you",
        ),
        (
            "weight: 0.1",
            "weight: 0",
            "datasets.one.splits.train.1.weight: expected a number above 0 and below 1, got 0",
        ),
        ("weight: 0.1", "weight: 0.1, hours: 1", "commands/train: hours and weight are both given: take out one"),
        (
            "weight: 0.1",
            "share: 0.1",
            "unknown key datasets.one.splits.train.1.share: known here: split, hours, weight",
        ),
        ("hours: 0.01", "weight: 0.5", "datasets.two.splits.validation: only train has weights: use hours"),
        ("test: digits/test", "test: digits/train", "datasets.one.splits.test: digits/train is in train too"),
        ("max_steps: 30\n  two", "training: {seeds: [1, 2, 1]}\n  two", "training.seeds: 1 is there twice"),
        (
            "max_steps: 30\n  two",
            "training: {seeds: [1], seed: 2}\n  two",
            "seed and seeds are both given: take out one",
        ),
    ],
)
def test_a_wrong_share_source_or_seed_is_one_clear_line(checkout, before, after, message):
    text = SOURCES.replace(before, after)
    assert text != SOURCES
    (checkout / "mine.yaml").write_text(text)
    assert message in refusal(checkout, "--configfile", "mine.yaml")


def test_each_seed_is_a_training_of_its_own_and_the_first_is_that_of_one_seed(checkout):
    (checkout / "seeds.yaml").write_text("training: {seeds: [1, 5]}\n")
    target = ("--", "spoken_digits")
    plan = snakemake(checkout, "--dry-run", "--printshellcmds", "--configfile", "seeds.yaml", *target).stdout
    for place in ("", "/seed_5"):
        assert f"output: results/spoken_digits{place}/checkpoints/leg_3\n" in plan
        assert f"output: results/spoken_digits{place}/evaluation/leg_3/beam/test.jsonl, " in plan
    trainings = [line for line in plan.splitlines() if "train_leg.py --manifest" in line]
    assert sorted('"seed":5' in line for line in trainings) == 3 * [False] + 3 * [True]
    alone = snakemake(checkout, "--dry-run", "--printshellcmds", *target).stdout
    ours = [line for line in trainings if '"seed":1' in line]
    assert ours == [line for line in alone.splitlines() if "train_leg.py --manifest" in line], (
        "and is not trained again"
    )
    wrong = ("--configfile", "seeds.yaml", "--", "results/spoken_digits/seed_7/checkpoints/leg_3")
    assert "results/spoken_digits/seed_7: no such seed: training.seeds has 1, 5" in refusal(checkout, *wrong)


def test_every_model_is_tested_on_every_test_set_where_the_configuration_says_so(checkout):
    done = snakemake(checkout, "--dry-run")
    assert "results/transfer.csv" not in done.stdout and "transcribe_transfer" not in done.stdout
    (checkout / "transfer.yaml").write_text("evaluation: {transfer: true}\n")
    plan = snakemake(checkout, "--dry-run", "--configfile", "transfer.yaml").stdout
    assert "output: results/spoken_digits/transfer/spoken_commands/test.jsonl, " in plan
    assert "output: results/spoken_commands/transfer/spoken_digits/test.jsonl, " in plan
    assert "output: results/transfer.csv\n" in plan
    one = "datasets: {spoken_digits: {evaluation: {transfer: true}}}\n"
    (checkout / "transfer.yaml").write_text(one)
    plan = snakemake(checkout, "--dry-run", "--configfile", "config/config.yaml", "transfer.yaml").stdout
    assert "results/spoken_digits/transfer/spoken_commands/test.jsonl" in plan
    assert "results/spoken_commands/transfer/" not in plan


def test_what_a_model_that_training_started_from_has_learned_is_compared_with_the_tests_too(checkout):
    plan = snakemake(checkout, "--dry-run", "--printshellcmds", "--configfile", "config/replay.yaml").stdout
    compared = {
        re.search(r"--label (\w+)", line)[1]: json.loads(shlex.split(line)[shlex.split(line).index("--splits") + 1])
        for line in plan.splitlines()
        if "compare_splits.py --splits" in line
    }
    tests = {"train", "validation", "test"}
    assert compared["digits"].keys() == tests | {"test_commands"}
    assert compared["tuned"].keys() == tests | {"test_digits", "train_digits/train", "validation_digits/validation"}
    trainings = [line for line in plan.splitlines() if "train_leg.py --manifest" in line]
    chained = [line for line in trainings if "--base-model results/digits/checkpoints/leg_1/model.nemo" in line]
    assert len(trainings) == 10 and len(chained) == 9


def test_a_split_may_be_called_as_anything(checkout):
    name = "../a b/" + 150 * "x"
    splits = f"splits: {{train: '{name}', validation: ./v, test: t}}, max_steps: 30"
    (checkout / "mine.yaml").write_text(f"datasets: {{d: {{source: {{type: local, path: p}}, {splits}}}}}\n")
    done = snakemake(checkout, "--dry-run", "--printshellcmds", "--configfile", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert f"--split '{name}'" in done.stdout and "--split ./v" in done.stdout
