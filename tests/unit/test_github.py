"""What GitHub and the Snakemake workflow catalog read of the project."""

import os
import subprocess

import yaml

from conftest import ROOT

WORKFLOWS = ROOT / ".github/workflows"


def test_ci_runs_what_must_pass_on_every_python():
    job = yaml.safe_load((WORKFLOWS / "ci.yml").read_text())["jobs"]["test"]
    assert job["steps"][-1] == {"run": ".ci/run"} and os.access(ROOT / ".ci/run", os.X_OK)
    for version in job["strategy"]["matrix"]["python"]:
        assert version in (ROOT / "envs/find_python.sh").read_text()


def test_a_release_has_its_section_of_the_changelog(tmp_path):
    *_, step = yaml.safe_load((WORKFLOWS / "release.yml").read_text())["jobs"]["release"]["steps"]
    gh = tmp_path / "gh"
    gh.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > called\n')
    gh.chmod(0o755)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3\n\n- new\n\n## 1.2\n\n- old\n")

    def release(tag):
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "GITHUB_REF_NAME": tag}
        command = ["bash", "-e", "-c", step["run"]]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert release("v1.2.3").returncode == 0
    called = (tmp_path / "called").read_text()
    assert called.startswith("release\ncreate\nv1.2.3\n") and "- new" in called and "- old" not in called
    missing = release("v1.2.4")
    assert missing.returncode == 1 and missing.stderr == "error: CHANGELOG.md has no section 1.2.4\n"


def test_the_catalog_finds_a_workflow_and_flags_that_run():
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    flag, path = usage["mandatory-flags"]["flags"].split()
    assert flag == "--configfile" and (ROOT / path).is_file()
    readme = (ROOT / "README.md").read_text().lower()
    assert "snakemake" in readme and "workflow" in readme
    assert usage["software-stack-deployment"]["conda"] and list(ROOT.glob("envs/*.yaml"))
