"""How much memory the machine, its container and this process have, and what it sounds like when it runs out."""

import os
from pathlib import Path

_CONTAINER = Path("/sys/fs/cgroup")
"""Limits of the container of this process. Source: the kernel's documentation of cgroup v2."""


def total_memory() -> int | None:
    """Bytes that this process may use at all: the machine's, or its container's limit; None where nobody tells."""
    limits = []
    # macOS and Linux have both names, other systems neither.
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    container = _container_limit()
    if container is not None:
        limits.append(container)
    return min(limits, default=None)


def free_memory() -> int | None:
    """Bytes that are free or can be freed, in the machine and in its container; None where nobody tells."""
    limits = []
    available = _available()
    if available is not None:
        limits.append(available)
    container = _container_limit()
    if container is not None:
        used = int((_CONTAINER / "memory.current").read_text(encoding="ascii"))
        # The cache of files counts as used, and is given back when memory is short.
        for line in (_CONTAINER / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith("inactive_file "):
                used -= int(line.split()[1])
        limits.append(max(container - used, 0))
    return min(limits, default=None)


def used_memory() -> int:
    """Bytes of memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # not on macOS, where the peak so far is known
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # macOS tells how much there is, and hands out what programs have not touched for long.
    if {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _container_limit() -> int | None:
    try:
        return int((_CONTAINER / "memory.max").read_text(encoding="ascii"))
    except (OSError, ValueError):  # there is no such file, or it says `max`
        return None


_PHRASES = ("out of memory", "can't allocate memory", "not enough memory")
"""What errors of memory say, in lower case: CUDA's and MPS's; that of PyTorch's allocator on the CPU; and Windows'."""


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error's type or text says that memory ran out.

    Args:
        error: Any error: most libraries have no type of their own for it, so the text decides.
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return any(phrase in text for phrase in _PHRASES)
