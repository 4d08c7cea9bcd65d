"""Which offset of each partition may be committed: the end of the longest run of finished messages. Pure, no I/O.

A message is finished when its effect is stored. On revocation a partition is first *closed* (nothing new starts), then
drained, committed, and only then *forgotten*; a late ``finish`` of a forgotten partition changes nothing. What is older than
a message that has its effect is a *gap*: as long as it is open, the newer one cannot be committed and would be delivered again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Ticket:
    """One delivered message. It knows its partition's ledger, so that an earlier assignment cannot touch a later one."""

    ledger: Ledger
    offset: int


@dataclass(eq=False)
class Ledger:
    """One assignment of one partition."""

    partition: int
    delivered: deque[int] = field(default_factory=deque)
    done: set[int] = field(default_factory=set)
    last: int = -1
    sizes: dict[int, int] = field(default_factory=dict)  # bytes of the messages that are not finished
    appended: dict[int, float] = field(default_factory=dict)  # when the broker took them, in seconds of the epoch
    running: set[int] = field(default_factory=set)
    closed: bool = False
    until: int = -1  # of a closed one: up to this offset work may still start, to close gaps
    next_offset: int | None = None  # what to commit: one past the last of the finished run
    committed: int | None = None


class Offsets:
    """The ledgers of all partitions this member owns."""

    def __init__(self) -> None:
        self._ledgers: dict[int, Ledger] = {}

    def deliver(self, partition: int, offset: int, size: int = 0, appended: float = 0.0) -> Ticket:
        """A message of ``size`` bytes, which the broker took at ``appended`` (seconds of the epoch), has been read. Going back
        in a partition means that it was assigned anew: a new ledger begins."""
        ledger = self._ledgers.get(partition)
        if ledger is None or offset <= ledger.last:
            if ledger is not None:
                ledger.closed = True
            ledger = self._ledgers[partition] = Ledger(partition)
        ledger.last = offset
        ledger.delivered.append(offset)
        ledger.sizes[offset] = size
        ledger.appended[offset] = appended
        return Ticket(ledger, offset)

    @staticmethod
    def start(ticket: Ticket) -> bool:
        """May work on it begin? ``finish`` or ``abandon`` must follow if so."""
        if ticket.ledger.closed and ticket.offset > ticket.ledger.until:
            return False
        ticket.ledger.running.add(ticket.offset)
        return True

    @staticmethod
    def abandon(ticket: Ticket) -> None:
        """Work ended without an effect: the message will be delivered again to whoever owns the partition then."""
        ticket.ledger.running.discard(ticket.offset)

    @staticmethod
    def finish(ticket: Ticket) -> None:
        """The effect of the message is stored."""
        ledger = ticket.ledger
        ledger.running.discard(ticket.offset)
        ledger.done.add(ticket.offset)
        ledger.sizes.pop(ticket.offset, None)
        while ledger.delivered and ledger.delivered[0] in ledger.done:
            offset = ledger.delivered.popleft()
            ledger.done.discard(offset)
            del ledger.appended[offset]
            ledger.next_offset = offset + 1

    def close(self, partitions: Collection[int], until: Mapping[int, int] | None = None) -> None:
        """Nothing new starts on these partitions, but for messages up to the offset that ``until`` has for them."""
        for partition in partitions:
            if partition in self._ledgers:
                ledger = self._ledgers[partition]
                ledger.closed, ledger.until = True, (until or {}).get(partition, -1)

    def newest(self, partition: int, leaving_out: Collection[int]) -> int:
        """The last offset that is finished or being worked on, ``leaving_out`` some; -1 where there is none."""
        ledger = self._ledgers.get(partition, Ledger(partition))
        return max((ledger.done | ledger.running).difference(leaving_out), default=-1)

    def gaps(self, partitions: Collection[int]) -> int:
        """Messages of closed partitions that may still start or are being worked on, up to their last offset to close."""
        found = [ledger for p, ledger in self._ledgers.items() if p in partitions and ledger.closed]
        return sum(offset <= ledger.until and offset not in ledger.done for ledger in found for offset in ledger.delivered)

    def running(self, partitions: Collection[int]) -> int:
        """Messages of these partitions that are being worked on."""
        return sum(len(ledger.running) for p, ledger in self._ledgers.items() if p in partitions)

    def forget(self, partitions: Collection[int]) -> None:
        """These partitions belong to somebody else."""
        for partition in partitions:
            self._ledgers.pop(partition, None)

    def to_commit(self) -> dict[int, int]:
        """Partition to offset, where there is something new to commit."""
        return {
            p: ledger.next_offset
            for p, ledger in self._ledgers.items()
            if ledger.next_offset is not None and ledger.next_offset != ledger.committed
        }

    def committed(self, offsets: dict[int, int]) -> None:
        """The broker has taken these offsets."""
        for partition, offset in offsets.items():
            if partition in self._ledgers:
                self._ledgers[partition].committed = offset

    @property
    def unfinished(self) -> int:
        """Messages read and not finished, over all partitions."""
        return sum(len(ledger.delivered) - len(ledger.done) for ledger in self._ledgers.values())

    @property
    def oldest(self) -> float | None:
        """When the broker took the oldest message that is not finished; None where all are."""
        return min((led.appended[led.delivered[0]] for led in self._ledgers.values() if led.delivered), default=None)

    @property
    def queued(self) -> int:
        """Messages read on which no work has begun."""
        return self.unfinished - sum(len(ledger.running) for ledger in self._ledgers.values())

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of the messages read and not finished."""
        return sum(sum(ledger.sizes.values()) for ledger in self._ledgers.values())

    @property
    def partitions(self) -> list[int]:
        return list(self._ledgers)
