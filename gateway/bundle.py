"""The bundle: a configuration with all it names, validated, as sealed bytes in a memory file.

The supervisor has it made by a child (`python -m gateway.worker --check --bundle-fd N`), because it imports no mail
code itself and because a crash in the validation must not hurt who runs already. Problems are the child's standard
error, word for word.
"""

import asyncio
import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

import orjson

from gateway.log import log

_CHECK_SECONDS = 60.0
_PROBLEMS = 8000  # characters


class Refused(Exception):  # noqa: N818 - the outcome of a check
    """The configuration is bad; the text is what the check said, one problem a line."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a check tells of a configuration."""

    listeners: tuple[tuple[str, ...], ...]
    workers: int
    admin: str | None
    revision: str
    census_head: int = 0  # octets before the first row of the census
    census_row: int = 0  # octets of a worker's row; 0: the workers look after it alone
    control: str = ""  # the socket for orders; "": none
    fixed: tuple[object, ...] = ()  # what else of the listeners cannot change under their connections

    @classmethod
    def parse(cls, octets: bytes) -> "Summary":
        """From the last line of the check's standard output."""
        said = orjson.loads(octets.strip().rpartition(b"\n")[2])
        listeners = tuple(tuple(addresses) for addresses in said["listeners"])
        workers = int(said["workers"])
        head, row = int(said.get("census_head", 0)), int(said.get("census_row", 0))
        control, fixed = str(said.get("control", "")), tuple(said.get("fixed", ()))
        return cls(listeners, workers, said["admin"], str(said["revision"]), head, row, control, fixed)

    @property
    def bound(self) -> tuple[object, ...]:
        """What cannot change without a restart."""
        return self.listeners, self.workers, self.admin, self.fixed


@dataclass(frozen=True, slots=True)
class Bundle:
    """A validated configuration: its bytes behind a descriptor, and its summary."""

    descriptor: int
    summary: Summary
    warnings: tuple[str, ...] = ()

    def reopened(self) -> int:
        """A descriptor of its own for one worker: an inherited one would share its read position with the others."""
        return os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Lets the bytes go; workers that have them keep them."""
        os.close(self.descriptor)


async def validated(worker: tuple[str, ...], config: Path, *, tested: bool = False) -> Bundle:
    """Checks the configuration in a child. Raises `Refused`; warnings go to the log.

    With `tested` a policy that fails one of its own tests is refused, else that is a warning.
    """
    descriptor = os.memfd_create("bundle", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        said, warnings = await _checked((*worker, *(["--tested"] if tested else [])), config, descriptor)
        summary = Summary.parse(said)
        seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        return Bundle(descriptor, summary, warnings)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, TimeoutError):
            raise Refused(f"the check took longer than {_CHECK_SECONDS:g} s") from error
        if isinstance(error, OSError | ValueError | KeyError | TypeError):
            raise Refused(f"the check could not be done: {error!r}") from error
        raise


async def _checked(worker: tuple[str, ...], config: Path, descriptor: int) -> tuple[bytes, tuple[str, ...]]:
    """Standard output of the check, and its warnings."""
    process = await asyncio.create_subprocess_exec(
        *worker,
        *("--config", str(config), "--check", "--bundle-fd", str(descriptor)),
        pass_fds=(descriptor,),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        process_group=0,
    )
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            said, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    problems = complaints.decode("utf-8", "backslashreplace")
    if process.returncode != 0:
        raise Refused(problems.rstrip()[:_PROBLEMS] or f"the check ended with status {process.returncode}")
    warnings = tuple(problems[:_PROBLEMS].splitlines())
    for warning in warnings:
        log.warning("configuration", said=warning)
    return said, warnings
