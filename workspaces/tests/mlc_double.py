"""What `mlc` of version 4 asks of Docker, done with the docker command line as it does.

A stand-in for AIME's tool where that cannot be had: the same filters, the same verbs, the same
way of reading a listing (labels are split at commas, then at the first equals sign), and the
same lack of care for exit codes. Not in charge of: menus, questions and colours, and the host
user that `mlc` runs as; the numbers are given.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

LABEL = "aime.mlc"
PROMPT = re.compile(rb"[$#] ?$")
STYLE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def find_docker() -> str:
    """Return the docker command; its absence is a failure."""
    found = shutil.which("docker")
    if found is None:
        pytest.fail("The docker command is not on PATH: run `make setup`, which installs it.")
    return found


@dataclass(frozen=True, kw_only=True)
class Mlc:
    """`mlc` in the hands of one user of the host."""

    host: str
    login: str
    uid: int
    gid: int

    def docker(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the docker command; its exit code is the caller's matter."""
        return subprocess.run(
            [find_docker(), "--host", self.host, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def ask(self, *arguments: str) -> str:
        """Run the docker command, which must succeed; return what it printed."""
        done = self.docker(*arguments)
        assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done.stdout.strip()

    # Reading

    def names(self) -> dict[str, str]:
        """Return name → name on the engine, of this user's containers in every state."""
        mine = f"label={LABEL}.USER={self.login}"
        tags = self.ask("container", "ps", "-a", "--filter", mine, "--format", "{{.Names}}")
        return {tag.rpartition("._.")[0] or tag: tag for tag in tags.splitlines()}

    def list(self, *, all_users: bool = False) -> dict[str, dict[str, str]]:
        """Return the rows of `mlc list -a` by name. A comma in a label raises ValueError."""
        whose = f"label={LABEL}" if all_users else f"label={LABEL}={self.login}"
        lines = self.ask("container", "ls", "-a", "--filter", whose, "--format", "{{json .}}")
        table = {}
        for line in lines.splitlines():
            row = json.loads(line)
            labels = {}
            for pair in row["Labels"].split(","):
                key, value = pair.split("=", 1)
                labels[key] = value
            columns = ("NAME", "FRAMEWORK", "USER", "ARCH")
            mounts = ("WORK_MOUNT", "DATA_MOUNT", "MODELS_MOUNT")
            shown = {key: labels[f"{LABEL}.{key}"] for key in (*columns, *mounts)}
            table[shown["NAME"]] = {**shown, "STATUS": row["Status"], "SIZE": row["Size"]}
        return table

    def is_running(self, tag: str) -> bool:
        """Tell whether exactly this container runs."""
        exact = ("--filter", f"name=^/{tag}$", "--filter", f"label={LABEL}")
        return self.ask("container", "ps", *exact, "--format", "{{.Names}}") == tag

    def has_image(self, reference: str) -> bool:
        """Tell whether the engine has this reference."""
        return self.docker("image", "inspect", reference).returncode == 0

    # Verbs

    def start(self, name: str) -> None:
        """`mlc start`: only what does not run."""
        tag = self.names()[name]
        assert not self.is_running(tag), f"{name} runs"
        assert self.ask("container", "start", tag) == tag

    def stop(self, name: str) -> None:
        """`mlc stop -f`: only what runs."""
        tag = self.names()[name]
        assert self.is_running(tag), f"{name} does not run"
        self.docker("container", "stop", tag)

    def remove(self, name: str) -> str:
        """`mlc remove -f`: the container, then the image it was made from; return that."""
        tag = self.names()[name]
        assert not self.is_running(tag), f"{name} runs"
        which = ("--filter", f"name={tag}", "--filter", f"label={LABEL}")
        image = self.ask("container", "ps", "-a", *which, "--format", "{{.Image}}")
        self.docker("container", "rm", tag)
        self.docker("image", "rm", image)  # whatever comes of it
        return image

    def open(self, name: str, *lines: str) -> str:
        """`mlc open`: a shell as the user, started if need be; return what was on the screen.

        When nothing but the main shell is left afterwards, the container is stopped.
        """
        tag = self.names()[name]
        if not self.is_running(tag):
            self.docker("container", "start", tag)
        screen = self._type_into(tag, (*lines, "exit"))
        top = self.docker("top", tag, "-o", "pid")
        if top.returncode != 0 or len(top.stdout.splitlines()) <= 2:
            self.docker("container", "stop", tag)
        return STYLE.sub("", screen).replace("\r", "")

    def _type_into(self, tag: str, lines: tuple[str, ...]) -> str:
        command = [find_docker(), "--host", self.host, "exec", "-it", "-e DISPLAY=None"]
        command += ["--user", f"{self.uid}:{self.gid}", tag, "bash"]
        ours, theirs = pty.openpty()
        shell = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)
        try:
            screen = b""
            for line in lines:
                screen += _read_until_prompt(ours)
                os.write(ours, f"{line}\r".encode())
            screen += _read_until_prompt(ours)
            shell.wait(timeout=20)
        finally:
            shell.kill()
            shell.wait()
            os.close(ours)
        return screen.decode("utf-8", "replace")

    def create(
        self, name: str, *, image: str, workspace: Path, framework: str, gpus: str = "all"
    ) -> str:
        """`mlc create`: run once, commit, create; return its name on the engine.

        Without what makes a session root on the host and a nested machine refuses: privileged
        mode, the host's network and its devices. None of it is seen by the portal. And with a
        hang-up as stop signal, which ends a shell at once; `mlc` waits ten seconds.
        """
        tag = f"{name}._.{self.uid}"
        repository = image.rpartition(":")[0]
        mount = ("-v", f"{workspace}:/workspace", "-w", "/workspace", "--tty")
        prepare = f"useradd -u {self.uid} {self.login}; exit 0"
        self.ask("run", *mount, "--name", tag, "--gpus", gpus, image, "bash", "-c", prepare)
        self.ask("commit", tag, f"{repository}:{tag}")
        self.ask("rm", tag)
        labels = {
            "": self.login,
            ".NAME": name,
            ".USER": self.login,
            ".ARCH": "CUDA_ADA",
            ".MLC_VERSION": "4",
            ".WORK_MOUNT": str(workspace),
            ".DATA_MOUNT": "-",
            ".MODELS_MOUNT": "-",
            ".FRAMEWORK": framework,
            ".GPUS": gpus,
        }
        flags = [
            part for key, value in labels.items() for part in ("--label", f"{LABEL}{key}={value}")
        ]
        flags += ["--user", f"{self.uid}:{self.gid}", "--interactive", "--gpus", gpus]
        flags += ["--stop-signal", "SIGHUP"]
        main = ("bash", "-c", "echo >> ~/.bashrc; bash")
        self.ask("create", *mount, "--name", tag, *flags, f"{repository}:{tag}", *main)
        return tag

    def clean_up(self) -> None:
        """Remove what is left of this user: containers, and images named after them."""
        ours = ("--filter", f"name=\\._\\.{self.uid}$")
        for identity in self.ask("ps", "-aq", *ours).split():
            self.docker("rm", "-f", "-v", identity)
        images = self.ask("image", "ls", "--format", "{{.Repository}}:{{.Tag}}")
        for reference in images.splitlines():
            if reference.endswith(f"._.{self.uid}"):
                self.docker("image", "rm", reference)
        self.docker("network", "rm", f"ds01-{self.uid}")


def _read_until_prompt(terminal: int, seconds: float = 15) -> bytes:
    """Return what is on the screen once a prompt waits, or the shell has ended."""
    screen, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        ready, _, _ = select.select([terminal], [], [], 0.2)
        if ready:
            try:
                data = os.read(terminal, 65536)
            except OSError:  # the other side is closed
                return screen
            if not data:
                return screen
            screen += data
        elif PROMPT.search(STYLE.sub("", screen.decode("utf-8", "replace")).rstrip().encode()):
            return screen
    pytest.fail(f"No prompt within {seconds:g} s: {screen!r}")
