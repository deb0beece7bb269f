"""One piece of work after the other: a model takes all of a machine's processors and much of its memory."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


class WorkQueue:
    """Runs pieces of work in their order, one at a time.

    Args:
        name: Name of its thread.
    """

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._keys: list[str] = []
        self._lock = threading.Lock()

    def put(self, key: str, work: Callable[[], None]) -> None:
        """Add a piece of work at the end.

        Args:
            key: A name by which to ask for its place.
            work: The work; it handles its own errors.
        """

        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._keys.remove(key)

        with self._lock:
            self._keys.append(key)
            self._executor.submit(run)

    def before(self, key: str) -> int:
        """How many pieces of work come before one; 0 for one that is being done, or that is not in the queue."""
        with self._lock:
            if key in self._keys:
                return self._keys.index(key)
            return 0

    def close(self) -> None:
        """Drop what waits, and wait for what is being done."""
        self._executor.shutdown(wait=True, cancel_futures=True)
