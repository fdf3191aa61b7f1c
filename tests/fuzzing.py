"""How the targets of tests/fuzz run: a few fixed examples in `make test`, random ones for minutes in `make fuzz`."""

import functools
import os
import tempfile
import time

import pytest

ROUND = 25  # examples between two looks at the clock


def pytest_addoption(parser):
    parser.addoption("--fuzz-minutes", type=float, help="random examples for so long, shared by the targets that run")


def pytest_configure(config):
    from hypothesis import HealthCheck, Phase, configuration, settings

    # What Hypothesis keeps between runs would make a test depend on what ran before, and lie in the checkout.
    home = tempfile.TemporaryDirectory(prefix="hypothesis")
    config.add_cleanup(home.cleanup)
    configuration.set_hypothesis_home_dir(home.name)
    # To explain a failure it runs everything traced, so slowly that what takes long seems to hang.
    phases = [phase for phase in Phase if phase != Phase.explain]
    plain = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck), phases=phases)
    settings.register_profile("bounded", plain, derandomize=True, max_examples=60)
    settings.register_profile("endless", plain, derandomize=False, max_examples=ROUND)
    settings.load_profile("endless" if config.getoption("--fuzz-minutes") else "bounded")


def pytest_collection_modifyitems(config, items):
    minutes, targets = config.getoption("--fuzz-minutes"), [item for item in items if hasattr(item.obj, "hypothesis")]
    for item in targets if minutes else ():
        _count(item)
        item.obj = _again_and_again(item.obj, 60 * minutes / len(targets))


def _count(item):
    """Make a target count its examples, for the report."""
    inner, counted = item.obj.hypothesis.inner_test, [0]

    @functools.wraps(inner)
    def test(*args, **kwargs):
        counted[0] += 1
        item.user_properties[:] = [("examples", counted[0])]
        return inner(*args, **kwargs)

    item.obj.hypothesis.inner_test = test


def _again_and_again(test, seconds):
    """Each round of a test has a seed of its own; the first failure ends it."""

    @functools.wraps(test)
    def rounds(*args, **kwargs):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            test(*args, **kwargs)

    return rounds


class Shown:
    """Says which target it is at, and at the end how many examples each of them had, in all processes together."""

    def __init__(self, config):
        self.terminal, self.examples = config.pluginmanager.getplugin("terminalreporter"), {}

    def pytest_runtest_logstart(self, nodeid):
        if nodeid not in self.examples:
            self.examples[nodeid] = 0
            self.terminal.write_line(f"{time.strftime('%H:%M:%S')} {nodeid}")

    def pytest_runtest_logreport(self, report):
        self.examples[report.nodeid] += dict(report.user_properties).get("examples", 0) * (report.when == "call")

    def pytest_terminal_summary(self):
        self.terminal.section("examples")
        for nodeid, count in self.examples.items():
            self.terminal.write_line(f"{count:8} {nodeid}")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    if session.config.getoption("--fuzz-minutes") and "PYTEST_XDIST_WORKER" not in os.environ:
        session.config.pluginmanager.register(Shown(session.config))
