"""The program of a decode worker: a process that decodes images with limits on its time and memory.

It imports neither ONNX Runtime nor FastAPI. `DecodePool` starts it, sends image files to its standard input, and reads
replies from its standard output. Each message is a kind (1 byte), a length (4 bytes) and the content.
"""

import json
import os
import signal
import sys
import warnings
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from struct import Struct
from threading import Thread
from typing import BinaryIO

from PIL import AvifImagePlugin, Image

from showtell.errors import ImageError
from showtell.images import Preprocess, open_image
from showtell.images.limits import CostError

# Kinds of messages.
READY, FILE, PIXELS, ERROR, TOO_MUCH_MEMORY, LARGE = b"RFPEML"
_HEADER = Struct(">BI")
# Exit status of a worker that exceeded its processor time. No process has status None.
OUT_OF_TIME = -signal.SIGPROF if sys.platform != "win32" else None


@dataclass(frozen=True)
class WorkerOptions:
    """The preprocessing and the limits of a worker.

    Attributes:
        preprocesses: each image is decoded once for each of these.
        max_pixels: maximum number of pixels of an image.
        large_pixels: an image with more pixels that is not a baseline JPEG is not decoded; the reply is LARGE. A
            baseline JPEG is decoded at a reduced scale, which is fast.
        seconds: maximum processor time per image. The system kills the worker with SIGPROF when it is used up.
        memory: maximum memory in bytes, in addition to that of the idle worker.
        niceness: added to the worker's niceness, so that other processes have priority.
    """

    preprocesses: tuple[Preprocess, ...]
    max_pixels: int
    large_pixels: int
    seconds: float
    memory: int
    niceness: int

    def to_json(self) -> str:
        """Return the options as the command-line argument of a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "WorkerOptions":
        """Return the options from the result of `to_json`."""
        fields = json.loads(text)
        return cls(**fields | {"preprocesses": tuple(Preprocess(**values) for values in fields["preprocesses"])})


def write_message(file: BinaryIO, kind: int, content: bytes = b"") -> None:
    """Write a message."""
    file.write(_HEADER.pack(kind, len(content)))
    file.write(content)
    file.flush()


def read_message(file: BinaryIO) -> tuple[int, bytes]:
    """Read a message. Raises EOFError at the end of the file, and if the message is incomplete."""
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        raise EOFError
    kind, length = _HEADER.unpack(header)
    content = file.read(length)
    if len(content) < length:
        raise EOFError
    return kind, content


def main() -> None:
    """Decode images until standard input ends."""
    options = WorkerOptions.from_json(sys.argv[1])
    # Only the server ends its workers. Signals that are sent to all processes of the server must not end them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # there is one worker per core, and each thread reserves memory
    output = _take_standard_output()
    files: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_read_files, args=(files,), daemon=True).start()
    _limit_process(options)
    write_message(output, READY)
    while True:
        content = files.get()
        _limit_processor_time(options.seconds)
        reply = _decode(content, options)
        _limit_processor_time(0)
        write_message(output, *reply)


def _take_standard_output() -> BinaryIO:
    """Return standard output as a file. What decoders print goes to standard error, so that it becomes no reply."""
    if sys.stderr is None:  # closed: the next opened file would get its descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


def _read_files(files: "SimpleQueue[bytes]") -> None:
    """Read files until the server closes the pipe or is killed; then exit, even during a decode."""
    try:
        while True:
            files.put(read_message(sys.stdin.buffer)[1])
    finally:
        os._exit(0)


def _limit_process(options: WorkerOptions) -> None:
    if sys.platform != "win32":
        import resource

        os.nice(options.niceness)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            with open("/proc/self/statm") as file:
                data_pages = int(file.read().split()[5])
            limit = data_pages * resource.getpagesize() + options.memory
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _limit_processor_time(seconds: float) -> None:
    """Let the system kill this process after some seconds of processor time; 0 removes the limit."""
    if sys.platform != "win32":
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _decode(content: bytes, options: WorkerOptions) -> tuple[int, bytes]:
    """Return the reply to an image file."""
    try:
        if _is_large(content, options):
            return LARGE, b""
        return PIXELS, b"".join(preprocess.load(content).tobytes() for preprocess in options.preprocesses)
    except MemoryError:
        return TOO_MUCH_MEMORY, b""
    except ImageError as error:
        if isinstance(error.__context__, MemoryError):
            return TOO_MUCH_MEMORY, b""
        return ERROR, str(error).encode()


def _is_large(content: bytes, options: WorkerOptions) -> bool:
    """Return whether an image is too large for this worker. Raises ImageError if it is too large for the server."""
    size = max(preprocess.size for preprocess in options.preprocesses)
    try:
        with open_image(content, at_least=size) as (image, pixels):
            is_baseline_jpeg = image.format in ("JPEG", "MPO") and "progressive" not in image.info
    except Image.DecompressionBombError:
        raise ImageError(f"more than {options.max_pixels:,} pixels; resize the image") from None
    except CostError as error:
        raise ImageError(f"too costly to decode: {error}; resize the image, or save it as a JPEG file") from None
    except Exception:  # decoding gives a more precise message
        return False
    if pixels > options.max_pixels:
        raise ImageError(f"{pixels:,} pixels exceed the limit of {options.max_pixels:,}; resize the image")
    return pixels > options.large_pixels and not is_baseline_jpeg


if __name__ == "__main__":
    main()
