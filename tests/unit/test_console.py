"""What a user sees when something is wrong: one line for a mistake, a traceback only for a bug."""

import logging

import pytest
import torch

from rnnt import console
from rnnt.errors import UserError


class UnreadableAudio(torch.utils.data.Dataset):
    """Raises in the data loader's process, as a clip that vanished would."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        raise UserError("clip.flac: not readable as audio")


def raises(error):
    def main(args):
        raise error

    return main


def read_in_a_process(args):
    next(iter(torch.utils.data.DataLoader(UnreadableAudio(), num_workers=1)))


def test_a_log_that_can_t_be_written_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "logs").write_text("")
    monkeypatch.setattr("sys.argv", ["script", "--log", str(tmp_path / "logs/x.log")])
    with pytest.raises(SystemExit, match=r"error: .*logs"):
        console.run(lambda args: None, console.parser(""))


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("main", "code", "line"),
    [
        (raises(UserError("metadata.csv:3: expected 2 fields")), 1, "error: metadata.csv:3: expected 2 fields"),
        (read_in_a_process, 1, "error: clip.flac: not readable as audio"),
        (
            raises(NO_MEMORY),
            1,
            "error: out of memory: lower evaluation.batch_size or training.batch_budget (CUDA out of memory)",
        ),
        (raises(KeyboardInterrupt()), 130, "interrupted"),
    ],
)
def test_a_mistake_is_one_line_on_the_terminal_and_in_the_log(monkeypatch, capfd, tmp_path, main, code, line):
    log = tmp_path / "logs/job.log"
    monkeypatch.setattr("sys.argv", ["script", "--log", str(log), "--label", "digits"])
    with pytest.raises(SystemExit) as exit:
        console.run(main, console.parser("A script."))
    assert exit.value.code == code
    assert capfd.readouterr().err.splitlines() == [f"[digits] {line}"]
    assert log.read_text().splitlines() == [f"[digits] {line}"]


def test_a_bug_shows_its_traceback(monkeypatch, capfd):
    monkeypatch.setattr("sys.argv", ["script"])
    with pytest.raises(SystemExit) as exit:
        console.run(raises(ZeroDivisionError("oops")), console.parser("A script."))
    shown = capfd.readouterr().err
    assert exit.value.code == 1 and "this is a bug" in shown and "Traceback" in shown


def test_progress_away_from_a_terminal_is_lines_with_rate_and_eta(capfd, monkeypatch):
    console.start_logging(None, "digits")
    monkeypatch.setattr(console, "LINE_EVERY_SECONDS", 0)
    assert list(console.progress(range(3), 3, "read headers")) == [0, 1, 2]
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith("[digits] read headers: 3/3 utt [") and "\r" not in "".join(lines)
    assert logging.getLogger("rnnt").level == logging.INFO


def test_what_a_message_quotes_can_be_neither_a_command_of_the_terminal_nor_many_lines_nor_endless():
    message = str(UserError("list.csv:2: expected a number, got \x1b[2J\r\n\ud800\u2028ä"))
    assert message == r"list.csv:2: expected a number, got \x1b[2J\r\n\ud800\u2028ä"
    message = str(UserError(f"list.csv:2: `{'x' * 10**6}` is no number: write one"))
    assert len(message) < 2100 and message.startswith("list.csv:2: `xx")
    assert message.endswith("x` is no number: write one")
