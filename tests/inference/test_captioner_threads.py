"""A captioner is used in more threads than it runs models in."""

import subprocess
import sys

from helpers import EXAMPLES


def test_more_threads_than_cores_get_all_captions():
    # One thread's worth of memory, and sixteen threads with batches of sixteen images.
    program = f"""
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from showtell import Captioner

images = [path.read_bytes() for path in sorted(Path({str(EXAMPLES)!r}).glob("*.jpg"))] * 3
captioner = Captioner.load()
expected = [result.captions[0].text for result in captioner.caption(images[:16])]

def work(_):
    results = captioner.caption_batch(images[:16], captioner.search_options)
    return [result.captions[0].text for result in results]

with ThreadPoolExecutor(16) as pool:
    assert all(texts == expected for texts in pool.map(work, range(16)))
"""
    subprocess.run([sys.executable, "-c", program], check=True, env={"OMP_NUM_THREADS": "1"})
