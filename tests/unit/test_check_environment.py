"""The check-up: a verdict for each thing, and exit 1 only for what the configuration needs."""

from urllib.parse import urlsplit

import check_environment
import pytest
import torch
import wandb

from rnnt import console
from rnnt.errors import UserError
from rnnt.training import models


def broken():
    raise RuntimeError("it is not there")


@pytest.mark.parametrize(("needed", "verdict"), [(True, "MISSING"), (False, "not needed")])
def test_only_what_is_needed_fails(monkeypatch, capsys, needed, verdict):
    monkeypatch.setattr(check_environment, "checks", lambda needs: [("thing", broken, needed), ("other", str, True)])
    console.start_logging(None, "")
    args = check_environment.parser().parse_args([])
    if needed:
        with pytest.raises(UserError, match="needs what is missing here: thing"):
            check_environment.main(args)
    else:
        check_environment.main(args)
    first, second = capsys.readouterr().err.splitlines()
    assert first.split("  ")[0] == verdict and "it is not there" in first
    assert second.startswith("ok")


def needed(needs):
    defaults = {"device": "auto", "optimizers": [], "precisions": [], "sources": [], "wandb": "off"}
    return {name for name, _, is_needed in check_environment.checks({**defaults, **needs}) if is_needed}


def test_what_is_needed_follows_from_the_configuration():
    least = needed({"sources": ["synthetic"]})
    assert {"python", "torch", "nemo", "espeak-ng", "disk", "memory"} <= least
    assert not {"cuda", "bitsandbytes", "wandb", "audio mp3"} & least
    assert needed({"device": "cuda"}) >= {"cuda"} <= needed({"precisions": ["fp16"]})
    assert "bf16" in needed({"precisions": ["bf16"]}) and "bf16" not in needed({"precisions": ["fp32"]})
    assert "bitsandbytes" in needed({"optimizers": ["adamw_8bit"]})
    assert "wandb" in needed({"wandb": "online"}) and "wandb" not in needed({"wandb": "offline"})
    assert "audio sphere" in needed({"sources": ["local", "synthetic"]})


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what a CPU does")
@pytest.mark.parametrize("works", [True, False])
def test_the_way_that_bf16_goes_is_told(monkeypatch, works):
    monkeypatch.setattr(models, "bf16_lstm_works", lambda: works)
    assert ("LSTM computes in fp32" in check_environment.bf16()) != works


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 13, 1)])
def test_the_pythons_that_the_lock_is_for_pass(monkeypatch, version):
    monkeypatch.setattr(check_environment.sys, "version_info", version)
    assert "cores" in check_environment.python()


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0)])
def test_another_python_is_refused(monkeypatch, version):
    monkeypatch.setattr(check_environment.sys, "version_info", version)
    with pytest.raises(RuntimeError, match="the lock is for 3.11 to 3.13"):
        check_environment.python()


@pytest.mark.parametrize("kind", ["flac", "wav", "mp3", "sphere"])
def test_every_audio_format_is_written_and_read_here(kind):
    assert "written and read" in check_environment.decode(kind)


def test_an_eight_bit_step_changes_a_parameter_and_a_login_is_looked_for(monkeypatch, tmp_path):
    assert "changes a parameter" in check_environment.eight_bit_step()
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(RuntimeError, match="not logged in"):
        check_environment.wandb_login()
    host = urlsplit(wandb.Settings().base_url).hostname
    (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password secret\n")
    assert "logged in" in check_environment.wandb_login() and "secret" not in check_environment.wandb_login()
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="no CUDA GPU"):
            check_environment.cuda_device()
