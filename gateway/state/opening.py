"""The store that the configuration names."""

from gateway.clock import Clock
from gateway.config import Config, Redis
from gateway.mail.terms import Unavailable
from gateway.state.sqlite import SqliteStore
from gateway.state.store import Store

#: That a command waits for an answer of Redis: no mail waits with it.
_COMMAND_SECONDS = 5.0


def open_store(config: Config, clock: Clock, *, existing: bool = False) -> Store:
    """Opens it. Raises `Unavailable` where a file cannot be had; a Redis that is away is met at the first call.

    `existing`, for commands: a file that is not there is not made (by root it would be one that the gateway cannot
    write to), and Redis has more time to answer.
    """
    if isinstance(config.state, Redis):
        from gateway.state.redis import RedisStore  # noqa: PLC0415 - its client costs 0.1 s and 10 MB a process

        return (
            RedisStore(config.state, clock, seconds=_COMMAND_SECONDS) if existing else RedisStore(config.state, clock)
        )
    if existing and not config.state.path.exists():
        raise Unavailable(f"{config.state.path}: no state there yet; the gateway makes it when it runs")
    return SqliteStore(config.state.path, clock)
