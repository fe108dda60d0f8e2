"""The output of a job: a folder, or a URL that fsspec can write to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from showtell.errors import ConfigurationError
from showtell.utils.files import atomic_write

JOB = "job.json"


class JobFolder:
    """The output folder of a job: job.json, which describes the job, and one subfolder per kind of result.

    Files are written atomically.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")
        self._system, self._path = fsspec.core.url_to_fs(self.url)

    def claim(self, job: Mapping[str, Any]) -> None:
        """Start a job in this folder, or resume it. Raises ConfigurationError if the folder contains anything else."""
        expected = json.loads(json.dumps(job))
        if not self._system.exists(f"{self._path}/{JOB}"):
            if self._system.exists(self._path) and self._system.ls(self._path, detail=False):
                raise ConfigurationError(f"{self.url}: folder is not empty; choose a new folder for the results")
            self.write(JOB, (json.dumps(expected, indent=2) + "\n").encode())
            return
        try:
            existing = json.loads(self._system.cat_file(f"{self._path}/{JOB}"))
        except ValueError:
            existing = {}
        different = [
            name for name in expected if not isinstance(existing, dict) or existing.get(name) != expected[name]
        ]
        if different:
            raise ConfigurationError(
                f"{self.url}: contains a different job (changed: {', '.join(different)}); choose a new folder"
            )

    def files(self, kind: str, suffix: str) -> set[str]:
        """Return the names of all files of one kind of result that end in `suffix`, without it."""
        self._system.invalidate_cache()
        if not self._system.exists(f"{self._path}/{kind}"):
            return set()
        names = (str(path).rpartition("/")[2] for path in self._system.ls(f"{self._path}/{kind}", detail=False))
        return {name.removesuffix(suffix) for name in names if name.endswith(suffix) and not name.startswith(".")}

    def write(self, name: str, content: bytes) -> None:
        """Write a file."""
        if isinstance(self._system, LocalFileSystem):
            with atomic_write(Path(self._path, name)) as temporary:
                temporary.write_bytes(content)
        else:  # object stores write atomically
            self._system.pipe_file(f"{self._path}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove a file if it exists."""
        if self._system.exists(f"{self._path}/{name}"):
            self._system.rm_file(f"{self._path}/{name}")
