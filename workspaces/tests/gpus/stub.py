"""Build the NVML stand-in and put it under the real binding; used by every test that needs one."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
SONAME = "libnvidia-ml.so.1"
VARIABLE = "DS01_NVML_STUB"


def build_stub(directory: Path) -> Path:
    """Compile the stand-in into a directory and give the library's path."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise RuntimeError(
            "The GPU tests compile a stand-in for NVIDIA's library and need a C compiler: "
            "install gcc with the C headers (on Debian: gcc libc6-dev)."
        )
    library = directory / SONAME
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += [f"-Wl,-soname,{SONAME}", "-o", str(library), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"The NVML stand-in does not compile:\n{done.stderr}")
    return library


class NvmlStub:
    """Say what the machine looks like to NVML; each call of `shows` replaces what was said."""

    def __init__(self, library: Path, machine: Path) -> None:
        self.handle = ctypes.CDLL(str(library))
        self.library = library
        self.machine = machine

    def shows(self, text: str) -> None:
        """Make the next read find this machine."""
        self.machine.write_text(text)

    @property
    def open_sessions(self) -> int:
        """Count the sessions that were opened and not closed."""
        return int(self.handle.stub_open_sessions())
