"""Where a job writes: a folder, or an address that fsspec can write to."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from showtell.errors import ConfigurationError
from showtell.utils.files import atomic_write

JOB = "job.json"


class Folder:
    """The folder of a job: job.json, which says what the job is, and a folder for each kind of its results.

    Files in it are there whole or not at all.
    """

    def __init__(self, place: str):
        self.place = place.rstrip("/")
        self._system, self._path = fsspec.core.url_to_fs(self.place)

    def claim(self, job: Mapping[str, Any]) -> None:
        """Begin a job here, or go on with it. Raises ConfigurationError if there is anything else."""
        wanted = json.loads(json.dumps(job))
        if not self._system.exists(f"{self._path}/{JOB}"):
            if self._system.exists(self._path) and self._system.ls(self._path, detail=False):
                raise ConfigurationError(f"{self.place}: there are files in it; name a new folder for the results")
            self.write(JOB, (json.dumps(wanted, indent=2) + "\n").encode())
            return
        try:
            there = json.loads(self._system.cat_file(f"{self._path}/{JOB}"))
        except ValueError:
            there = {}
        different = [name for name in wanted if not isinstance(there, dict) or there.get(name) != wanted[name]]
        if different:
            raise ConfigurationError(
                f"{self.place}: holds another job, which differs in {', '.join(different)}; name a new folder"
            )

    def files(self, kind: str, suffix: str) -> set[str]:
        """Return the names of all files of a kind of result, without `suffix`, which they have."""
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
        else:  # stores of objects know no half ones
            self._system.pipe_file(f"{self._path}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self._system.exists(f"{self._path}/{name}"):
            self._system.rm_file(f"{self._path}/{name}")
