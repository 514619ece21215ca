"""Who sends in the storm: raw clients that note every answer, and a Postfix that tries again by itself.

Each mail has a number, in its sender (so that journal and logs know it), in X-Test-Id, and in a body that follows from
it. A client that gets no 250 sends the mail again, as any MTA does.
"""

import hashlib
import queue
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support.recorder import MARK
from tests.support.smtp import Client, Closed, stuffed

RECIPIENT = "alice@example.com"


def sender(number: int) -> str:
    return f"n{number:06d}@sender.example"


def mail(number: int) -> bytes:
    """The mail of that number: small, sometimes larger, dots at line starts."""
    lot = random.Random(number)
    lines = [b"." * lot.randrange(3) + lot.randbytes(lot.randrange(1, 35)).hex().encode() for _ in range(8)]
    lines *= 2000 if number % 97 == 0 else 1
    head = b"From: <%s>\r\nSubject: chaos %d\r\n\r\n" % (sender(number).encode(), number)
    return MARK + b"%06d\r\n" % number + head + b"\r\n".join(lines) + b"\r\n"


def digest(number: int) -> str:
    return hashlib.sha256(mail(number)).hexdigest()


@dataclass
class Outcomes:
    """What the raw clients were told."""

    answered: set[int] = field(default_factory=set)
    #: After the dot no answer came at all.
    unheard: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    told: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)  # 5xx: there must be none
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number: int, code: int, text: str, *, past_dot: bool) -> None:
        with self.lock:
            self.told[f"{code} {text[:5]}" if code else text] += 1
            if code == 250:
                self.answered.add(number)
            elif code >= 500:
                self.refused.append(f"{number}: {code} {text}")
            elif past_dot and not code:
                self.unheard[number] += 1


class RawClients:
    """`threads` connections at a time, to whichever gateway the lot says, with `rest` seconds after each mail."""

    def __init__(self, ports: list[int], numbers: list[int], seed: int, *, threads: int, rest: float) -> None:
        self.outcomes = Outcomes()
        self._rest = rest
        self._ports = ports
        self._work: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in numbers:
            self._work.put(number)
        self._total = len(numbers)
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(seed + index),), daemon=True)
            for index in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        return len(self.outcomes.answered) >= self._total

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, lot: random.Random) -> None:
        while not self._ended.is_set() and not self.done:
            try:
                with Client(lot.choice(self._ports), timeout=12) as client:
                    client.ehlo()
                    for _ in range(lot.randrange(1, 30)):
                        if not self._one(client):
                            break
            except (Closed, OSError, AssertionError):
                self._ended.wait(0.05)

    def _one(self, client: Client) -> bool:
        try:
            number = self._work.get(timeout=0.2)
        except queue.Empty:
            return False
        past_dot = False
        try:
            answer = next((a for a in client.envelope(sender(number), RECIPIENT) if a.code != 250), None)
            if answer is None:
                answer = client.command("DATA")
                if answer.code == 354:
                    past_dot = True  # from the first octet on: how much arrived nobody knows
                    client.send(stuffed(mail(number)))
                    answer = client.answer()
        except (Closed, OSError, AssertionError) as why:
            self.outcomes.note(number, 0, "no answer" if past_dot else "connection lost", past_dot=past_dot)
            self._work.put(number)
            raise Closed(str(why)) from None
        self.outcomes.note(number, answer.code, answer.text, past_dot=past_dot)
        self._ended.wait(self._rest)
        if answer.code == 250:
            return True
        self._again(number)
        return answer.code != 421 and client.command("RSET").code == 250

    def _again(self, number: int) -> None:
        """Behind all others, after a moment: who is told to wait does not hammer."""
        self._work.put(number)
        self._ended.wait(0.05)


def paced(
    numbers: list[int], inject: Callable[[int], object], ended: threading.Event, pause: float
) -> threading.Thread:
    """A thread that injects those mails one by one."""

    def run() -> None:
        for number in numbers:
            while not ended.is_set():
                try:
                    inject(number)
                    break
                except (Closed, OSError, AssertionError):
                    time.sleep(0.2)
            ended.wait(pause)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
