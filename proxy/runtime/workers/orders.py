"""What all workers are told: policies, and breakers moved by hand. Each change carries a number.

A worker that carries traffic confirms each number in time, or is killed: it would go on serving by what
was before.
"""

import asyncio
from collections.abc import Iterable, Sequence

from proxy.core.policy import Policy
from proxy.runtime.workers.member import Member
from proxy.runtime.workers.messages import Action, Apply, Command, Down, frame
from proxy.runtime.workers.news import News
from proxy.tasks import spawn

CONFIRM_S = 1.0
"""Within so long a change has to be confirmed."""
LIST_S = 15.0
"""The same while a new popularity list is on its way: 100,000 films are a second's work to take over."""
KILLED_S = 5.0
"""Within so long a process that was killed is gone."""
_READ_S = 0.05


class Orders:
    """Holds what workers to come have to be told as well."""

    def __init__(self, share: Policy, members: Sequence[Member], news: News) -> None:
        """`share`: the policy to begin with, a worker's; `members`: all there are, at any time."""
        self._members = members
        self._news = news
        self._share = share
        self._held: dict[str, tuple[Action, str]] = {}  # breakers moved by hand
        self._sequence = 0
        self._list_sequence = 0  # of the last change that brought a popularity list
        self._settling: asyncio.Task[None] | None = None

    def policy(self, share: Policy, came: Iterable[str]) -> None:
        """Serve by `share`; `came`: its upstreams that there were not before."""
        before, self._share = self._share, share
        self._sequence += 1
        if share.popularity is not before.popularity:
            self._list_sequence = self._sequence
        self._send_policy(self._members)
        for message in self._held_breakers(came):
            self.send(message)
        self._settle()

    def breaker(self, name: str, action: Action, reason: str) -> None:
        """Move this breaker, here and in workers to come."""
        self._held[name] = action, reason
        if action == "auto":
            del self._held[name]
        self._sequence += 1
        self.send(Command(self._sequence, name, action, reason))
        self._settle()

    def catch_up(self, member: Member) -> None:
        """Tell a worker that has just begun all that holds."""
        self._send_policy([member])
        for message in self._held_breakers(self._share.upstreams):
            member.send(message)

    def send(self, message: Down) -> None:
        """Tell all, and wait for nobody."""
        data = frame(message)
        for member in self._members:
            member.send_frame(data)

    def list_is_on_its_way(self, member: Member) -> bool:
        """Whether it may be busy taking over a popularity list."""
        return member.sequence < self._list_sequence

    async def settled(self) -> None:
        """Return when every worker goes by all that was said so far, or is gone."""
        if self._settling is not None:
            await asyncio.shield(self._settling)

    def _settle(self) -> None:
        """See to it that the latest change holds everywhere, whether or not anybody waits for that."""
        if self._members:
            self._settling = spawn(self._see_confirmed(self._sequence), "settle")

    async def _see_confirmed(self, sequence: int) -> None:
        """Whoever starts to listen after this was told of the change before it was told to listen."""
        meant = [member for member in self._members if member.carries]

        def late() -> list[Member]:
            return [it for it in meant if not it.ended and it.sequence < sequence]

        within_s = LIST_S if any(map(self.list_is_on_its_way, meant)) else CONFIRM_S
        if await self._news.until(lambda: not late(), within_s):
            return
        await asyncio.sleep(_READ_S)  # if it was this process that stood still, this reads the answers
        for member in late():
            member.kill(f"did not confirm a change within {within_s:g} s")
        await self._news.until(lambda: not late(), KILLED_S)

    def _send_policy(self, members: Sequence[Member]) -> None:
        share = self._share
        whole: bytes | None = None
        brief: bytes | None = None
        for member in members:
            if member.knows(share):
                brief = brief or frame(Apply.brief(self._sequence, share))
                member.send_frame(brief)
            else:
                whole = whole or frame(Apply(self._sequence, share, keeps_popularity=False))
                member.send_frame(whole)

    def _held_breakers(self, names: Iterable[str]) -> Iterable[Command]:
        for name in names:
            if name in self._held:
                yield Command(self._sequence, name, *self._held[name])
