"""What starts a worker, page by page: systemd's unit, the Dockerfile, the Procfile, Kubernetes' manifests."""

import configparser
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from tests.playground import eventually
from tests.ports import free_port

from .howto import block, fetch, longest_stop, path, shell, start, worker_options
from .pages import README, page
from .site import Site

PRODUCTION, DOCKER, PROCFILE, KUBERNETES = map(
    page, ("how-to/production", "how-to/docker", "how-to/procfile", "how-to/kubernetes")
)
UNIT = "# /etc/systemd/system/meanwhile.service"
INSTRUCTIONS = {"FROM", "ENV", "WORKDIR", "COPY", "RUN", "USER", "STOPSIGNAL", "CMD"}


@pytest.fixture(params=["sqlite"], scope="module")
def _vendor_of_project(request: pytest.FixtureRequest) -> str:
    return request.param


# --- systemd ------------------------------------------------------------------------------------


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say about the page's unit, apart from where Python is."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("there is no systemd-analyze on this machine: the unit is only read as a file of sections")
    text = block(PRODUCTION, UNIT)
    unit = configparser.ConfigParser()
    unit.read_string(text)
    python = shlex.split(unit["Service"]["ExecStart"])[0]
    file = tmp_path / "meanwhile.service"
    for expected, shown in (("", text), ("kill mode", text.replace("KillMode=mixed", "KillMode=some"))):
        file.write_text(shown.replace(python, sys.executable))
        done = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
        said = "\n".join(line for line in done.stderr.splitlines() if "meanwhile.service" in line)
        assert done.returncode == 0, done.stderr
        assert (expected in said) if expected else not said, said


# --- Docker -------------------------------------------------------------------------------------


def _instructions() -> list[tuple[str, str]]:
    lines = block(DOCKER, "# Dockerfile").splitlines()[1:]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_dockerfile_is_sound() -> None:
    """Known instructions, commands that exist, a user that is not root, exec form, the signal that a worker knows."""
    instructions = _instructions()
    assert {name for name, _ in instructions} == INSTRUCTIONS
    assert instructions[0][0] == "FROM"
    said = dict(instructions)
    assert said["STOPSIGNAL"] == signal.Signals.SIGTERM.name
    assert said["USER"] not in {"root", "0"}
    made = next(rest for name, rest in instructions if name == "RUN" and rest.startswith("useradd"))
    assert made.split()[-1] == said["USER"]
    order = [name for name, _ in instructions]
    assert order.index("USER") > max(place for place, name in enumerate(order) if name in {"RUN", "COPY"})
    for name, rest in instructions:
        if name == "RUN":
            assert shutil.which(rest.split()[0], path=f"{path()}:/usr/sbin"), rest
    command = json.loads(said["CMD"])
    assert shutil.which(command[0], path=path()), command
    assert "DJANGO_SETTINGS_MODULE=mysite.settings" in said["ENV"]


def test_the_compose_file_is_sound() -> None:
    """The worker's command is one, its time to stop suffices, and every service that is named exists."""
    services = yaml.safe_load(block(DOCKER, "# compose.yaml"))["services"]
    worker = services["worker"]
    assert worker_options(worker["command"])["threads"] == 8
    assert float(worker["stop_grace_period"].removesuffix("s")) > longest_stop()
    assert services["migrate"]["command"] == ["python", "manage.py", "migrate"]
    for each in services.values():
        for name, how in each.get("depends_on", {}).items():
            assert name in services
            assert how["condition"] != "service_healthy" or "healthcheck" in services[name]
    for each in DOCKER.blocks():
        for command in each.commands if each.language == "console" else ():
            assert shlex.split(command)[:2] == ["docker", "compose"]
            assert shlex.split(command)[-1] in services


@pytest.mark.slow
def test_a_worker_may_be_process_one(site: Site) -> None:
    """In a process namespace of its own, where signals without a handler are ignored, SIGTERM ends a worker."""
    if not shutil.which("unshare") or shell(site, ["unshare", "--pid", "--fork", "true"]).returncode:
        pytest.skip("unshare cannot make a process namespace on this machine")
    site.use(README)
    site.sql("DELETE FROM meanwhile_worker")
    outside = start(site, f"unshare --pid --fork --kill-child {sys.executable} manage.py meanwhile worker")
    eventually(lambda: len(site.workers()) == 3, within=30, what="the children of process 1 have registered")
    (inside,) = psutil.Process(outside.pid).children()
    inside.terminate()
    assert outside.wait() == 0, outside.log
    assert not site.processes()


# --- the Procfile -------------------------------------------------------------------------------


@pytest.mark.alone  # honcho kills what has not ended after its five seconds
@pytest.mark.slow
def test_the_procfile_runs(site: Site) -> None:
    """Web and worker start under honcho; a view's job is done; SIGTERM ends all and gives back what runs, uncharged."""
    site.use(README)
    port = free_port()
    procfile = block(PROCFILE, "# Procfile")
    (site.path / "Procfile").write_text(procfile)
    (site.path / ".env").write_text(block(PROCFILE, "# .env").replace("8000", str(port)))
    assert "web, worker" in shell(site, "honcho check").stderr
    site.sql("DELETE FROM meanwhile_attempt")
    site.sql("DELETE FROM meanwhile_job")
    site.write("reports/tasks.py", README.files()["reports/tasks.py"] + "\n\n" + LONG)
    site.write("mysite/settings.py", 'MEANWHILE = {"EMBEDDED": False}')  # as with DEBUG off
    honcho = start(site, PROCFILE.blocks()[2].commands[0])
    job = eventually(lambda: fetch(port, "/start/"), within=30, what="the web server answers").rpartition(" ")[2]
    found = eventually(lambda: (said := fetch(port, f"/report/{job}/")) and "SUCCESSFUL" in said, within=30)
    assert found
    site.python("from reports.tasks import long; long.enqueue()")
    eventually(lambda: site.states().get("RUNNING") == 1, within=30, what="the long job runs")
    honcho.stop()
    assert not site.processes()
    assert site.states() == {"SUCCESSFUL": 1, "READY": 1}
    assert site.sql("SELECT attempts, interruptions FROM meanwhile_job WHERE state = 2") == [(0, 1)], honcho.log


LONG = """@task(executor="process")
def long():
    import time
    time.sleep(600)
"""


def test_the_procfiles_grace_fits() -> None:
    """The grace in the Procfile is over before the impatient kill, and the platform's before the platform's."""
    line = next(line for line in block(PROCFILE, "# Procfile").splitlines() if line.startswith("worker:"))
    words = shlex.split(re.sub(r"\$\{GRACE:-(\d+)\}", r"\1", line).partition(": ")[2])
    patience = {row[0]: float(row[1].split()[0]) for row in PROCFILE.table("The grace period", "").rows}
    stop = 1  # STOP_GRACE; what else it may take is for a database that hangs
    assert worker_options(words)["grace"] + stop < patience["honcho, foreman, overmind"]
    platform = float(re.search(r"GRACE=(\d+)\n", PROCFILE.text).group(1))  # type: ignore[union-attr]
    assert platform + stop < patience["Heroku, and platforms like it"]
    from honcho.manager import KILL_WAIT

    assert patience["honcho, foreman, overmind"] == KILL_WAIT
    assert block(PROCFILE, "# Procfile, one more line").splitlines()[1] == "release: python manage.py migrate"


# --- Kubernetes ---------------------------------------------------------------------------------


def _pods() -> dict[str, dict[str, Any]]:
    worker = yaml.safe_load(block(KUBERNETES, "# worker.yaml"))
    watch = yaml.safe_load(block(KUBERNETES, "# watch.yaml"))
    assert (worker["apiVersion"], worker["kind"]) == ("apps/v1", "Deployment")
    assert (watch["apiVersion"], watch["kind"]) == ("batch/v1", "CronJob")
    assert worker["spec"]["selector"]["matchLabels"] == worker["spec"]["template"]["metadata"]["labels"]
    return {
        "worker": worker["spec"]["template"]["spec"],
        "watch": watch["spec"]["jobTemplate"]["spec"]["template"]["spec"],
    }


def test_a_pod_has_time_to_end() -> None:
    """Its terminationGracePeriodSeconds exceeds what a worker takes; the command is a list, and a worker's."""
    pod = _pods()["worker"]
    (container,) = pod["containers"]
    assert pod["terminationGracePeriodSeconds"] > longest_stop(worker_options(container["command"])["grace"])
    assert container["command"][0] == "python"
    assert "livenessProbe" not in container


def test_the_probe_and_the_watch_tell_the_truth(site: Site) -> None:
    """The probe fails without a worker and passes with one; the watch fails while due jobs wait for nobody."""
    pods = _pods()
    site.use(KUBERNETES)
    probe = pods["worker"]["containers"][0]["startupProbe"]["exec"]["command"]
    watch = pods["watch"]["containers"][0]["command"]
    site.sql("DELETE FROM meanwhile_job")
    site.python("from reports.tasks import generate_report as task; task.enqueue({'name': 'x'})")
    without = shell(site, probe)
    assert without.returncode == 1, without.stdout
    assert "no worker of this host" in without.stderr
    assert shell(site, watch).returncode == 1
    worker = site.start_worker()
    eventually(lambda: site.states() == {"SUCCESSFUL": 1}, within=30, what="the job is done")
    assert (done := shell(site, probe)).returncode == 0, done.stderr
    assert (done := shell(site, watch)).returncode == 0, done.stdout
    assert worker.stop() == 0


def test_a_worker_without_tables_exits_with_2(bare_project: Any) -> None:
    """What the page says of a pod that is started before the migration: status 2, and the message names it."""
    done = bare_project.manage("meanwhile", "worker", check=False)
    assert done.returncode == 2, done.stderr
    assert "migrate" in done.stderr
