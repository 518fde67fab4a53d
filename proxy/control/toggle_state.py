"""The toggles in force: as one version, over the settings, under the kill switch; and where they come from.

A start goes by the last good file at once. When the store opens, the newer of both holds and is written to
the other. Without either nobody knows: the sidecar is killed and says so.
"""

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

from proxy.clock import Clock, rfc3339
from proxy.control.kill import KillSwitch
from proxy.control.toggle_keeping import ToggleKeeper, same
from proxy.control.toggle_versions import Held, Numbers, following, held, row
from proxy.core.policy import Policy
from proxy.core.toggle_changes import World, unmet, without
from proxy.core.toggle_values import KILL, Damaged, Document, written
from proxy.ports import PolicyTarget, StoreError
from proxy.ports.records import ToggleVersion

_log = logging.getLogger("fusebox.toggles")

SIDECAR = "fusebox"
"""Who changes what nobody asked for at that moment."""
FILE = "toggles file"
MOST_UNMET = 5
"""Of what toggles ask for and the settings cannot give so many are told; rules may be ten thousand."""
_HINT = "PATCH /v1/toggles or `fusebox toggles set` changes them"
_WAY_OUT = "mend the store, or remove both files to begin with the toggles of the settings"


class ToggleState:
    """`target` carries the settings' policy when this is made, `environment` is what their toggles say."""

    def __init__(
        self,
        target: PolicyTarget,
        kill: KillSwitch,
        keeper: ToggleKeeper,
        numbers: Numbers,
        *,
        environment: str,
        wall: Clock,
    ) -> None:
        self.changing = asyncio.Lock()
        """One change at a time; the kill switch alone waits for none."""
        self.news = asyncio.Event()
        self.releasing = False
        """A change of ours releases the kill switch, and may have said when it returns."""
        self.target = target
        self.kill = kill
        self.keeper = keeper
        self.numbers = numbers
        self.settings = target.policy
        self.reconciled = False
        """With the store."""
        self.known = False
        """The version is one that was kept; until then it is the settings', and what the store has wins."""
        self.lost = ""
        """Why nobody knows which toggles hold; nothing is kept then."""
        self.held = self.first = self._first(environment)
        self._environment = environment
        self._begun = False
        self._wall = wall
        self._trouble = ""
        kill.heard = self.follow_kill

    @property
    def world(self) -> World:
        return World(self.settings)

    def troubles(self) -> Iterator[str]:
        """What is wrong and keeps no traffic away."""
        keeper = self.keeper
        yield from filter(
            None,
            (self.lost, self._trouble, self.kill.trouble, keeper.file_trouble, keeper.store_trouble),
        )
        for fault in islice(unmet(self.held.document.toggles, self.world), MOST_UNMET):
            yield f"{'.'.join(map(str, fault.place))}: {fault.message}{fault.way_out}"

    def following(self, **what: Any) -> Held:
        """The next version, now."""
        number = what.pop("version", None) or self.numbers.next()
        return following(self.held, version=number, at=rfc3339(self._wall()), **what)

    def put(self, version: Held) -> None:
        """In force with the next request. Where the kill switch has moved meanwhile, that comes on top."""
        on = self.kill.in_force(otherwise=version.document.toggles.kill_switch)
        self.held = version
        if on != version.document.toggles.kill_switch:
            self.keeper.waiting.clear()
            self.held = self._moved_by_kill(self.numbers.next(), on=on)
            self._keep(self.held)
        elif self._begun and version.version <= self.target.policy.toggles.version:
            # It moved there and back, or this is another sidecar's: the number has been told already.
            self.keeper.waiting.clear()
            self.held = replace(version, version=self.numbers.next())
            self._keep(self.held)
        self._apply(on=on)

    def note(self, version: Held) -> None:
        """In force, and kept as soon as can be."""
        self.put(version)
        if self.held is version:
            self._keep(version)

    def _keep(self, version: Held) -> None:
        if not self.lost:
            self.keeper.note(version)
            self.news.set()

    def follow_kill(self) -> None:
        """The kill switch has moved: a version of its own, kept as soon as can be."""
        now = self.target.policy.toggles
        known = self.held.version, self.held.document.toggles.kill_switch
        if (now.version, now.kill_switch) != known:
            self.held = self._moved_by_kill(now.version, on=now.kill_switch)
            self._keep(self.held)

    def _moved_by_kill(self, version: int, *, on: bool) -> Held:
        said = self.kill.status
        toggles = replace(self.held.document.toggles, kill_switch=on)
        return self.following(
            version=version,
            actor=said.by or SIDECAR,
            reason=said.reason or "the kill switch as it was decided",
            kind="kill",
            document=replace(self.held.document, toggles=toggles),
            returns=self.held.returns if self.releasing else without(self.held.returns, {KILL}),
        )

    def _apply(self, *, on: bool) -> None:
        document = self.held.document
        toggles = replace(document.toggles, version=self.held.version, kill_switch=on)
        experiment = document.experiment or self.settings.experiment
        self.target.apply(replace(self.settings, toggles=toggles, experiment=experiment))

    # -- settings

    def _first(self, environment: str) -> Held:
        """What the settings say, as the first version."""
        return Held(
            version=self.settings.toggles.version,
            at=rfc3339(0),
            actor=FILE,
            reason="the toggles of the settings",
            kind="file",
            document=_of_settings(self.settings, environment),
        )

    def reload(self, policy: Policy, environment: str) -> None:
        """Take over settings read anew, under the toggles that hold. What `apply` refuses changes nothing."""
        new = self.following(actor="SIGHUP", reason="settings read anew", kind="reload")
        before, self.settings = self.settings, policy
        was = self.held
        try:
            self.note(new)
        except BaseException:
            self.settings, self.held = before, was
            raise
        self._environment = environment
        self._compare()

    def _compare(self) -> None:
        """Tell whoever edits the toggles file that it counts no more, once for each edit."""
        document = _of_settings(self.settings, self._environment)
        said = hashlib.sha256(written(document, {})).hexdigest()
        if self.keeper.settings not in {"", said}:
            _log.warning(
                "the toggles file has changed, but counts at the first start only: version %d stays; %s",
                self.held.version,
                _HINT,
            )
        if said != self.keeper.settings:
            self.keeper.settings = said
            self.keeper.stale()

    # -- start

    def restore(self) -> None:
        """Put the last good toggles and the kill decision in force; before anything listens. Blocks."""
        self.held = self.first = replace(self.held, at=rfc3339(self._wall()))
        try:
            good = self.keeper.load()
        except StoreError as error:
            self.lost = f"nobody can tell which toggles hold: {error}; {_WAY_OUT}"
        else:
            if good is not None:
                self.known = True
                self.held = good.found.versions[-1]
                if good.trouble:
                    self._trouble = (
                        f"{good.trouble}: version {self.held.version} before it holds until the store opens"
                    )
                    _log.error("%s", self._trouble)
        self._compare()
        self.numbers.beyond(max(self.held.version, self.keeper.promised))
        self._apply(on=self.held.document.toggles.kill_switch)
        self.kill.restore()
        self.follow_kill()
        self.keeper.stale()  # what it promises is used up

    async def begin(self) -> None:
        """Before anything listens: ask the store where the file did not help."""
        if not self.known:
            try:
                async with self.changing:
                    await self.reconcile()
            except StoreError as error:
                if self.lost:
                    self.kill.hold(f"{self.lost}; and the store cannot tell: {error}")
                else:
                    self._trouble = f"the toggles are those of the settings until the store opens: {error}"
        if self.settings.toggles.kill_switch and self.kill.decision is None and not self.kill.status.kill:
            await self.kill.set(True, reason="kill_switch is true", by=FILE)
        self._begun = True

    async def reconcile(self) -> None:
        """The newer of the store's version and this one holds; StoreError. Under `changing`."""
        if self.reconciled:
            return
        kept = await self.keeper.newest()
        if kept is None:
            await self._begin_store()
        elif self.keeper.gave_up(kept.version) and kept.version > self.held.version:
            self._keep_on(kept.version, "was refused, and is in the store all the same")
        elif not self.known or self._is_news(kept):
            if not self.known and self.settings.toggles.kill_switch and self.kill.decision is None:
                await self.kill.set(True, reason="kill_switch is true", by=FILE)
            try:
                self._adopt(held(kept))
            except Damaged as error:
                if self.lost:
                    raise StoreError(f"the newest version in the store cannot be read: {error}") from error
                self._keep_on(kept.version, f"cannot be read in the store: {error}")
        elif kept.version < self.held.version and self.held not in self.keeper.waiting:
            _log.warning(
                "toggles: the newest version in the store is %d; version %d of the last good file holds, and "
                "the store gets it",
                kept.version,
                self.held.version,
            )
            self._keep(self.held)
        self.reconciled = self.known = True
        self._trouble = ""

    def _is_news(self, kept: ToggleVersion) -> bool:
        """Whether what the store has came after all that this sidecar knows to be there. What has happened
        here since is no change by a person: none is taken without the store.
        """
        if self.keeper.gave_up(kept.version):
            return False
        later = kept.version > self.keeper.sure or kept.version == self.held.version
        return later and not any(same(kept, row(ours)) for ours in (*self.keeper.waiting, self.held))

    async def _begin_store(self) -> None:
        if self.lost:
            why, self.lost = f"{self.lost}; the store is empty, so the settings' toggles hold", ""
            self.kill.let_go()
            await self.kill.set(True, reason=why, by=SIDECAR)
        if self.held not in self.keeper.waiting:
            self._keep(self.held)
        if not self.known and self.first not in self.keeper.waiting:
            self.keeper.waiting.insert(0, self.first)  # a kill came on top before the store could have it

    def _keep_on(self, number: int, why: str) -> None:
        self.numbers.beyond(number)
        reason = f"version {number} {why}; what held before it goes on"
        _log.warning("toggles: %s", reason)
        self.note(self.following(actor=SIDECAR, reason=reason, kind="kept"))

    def _adopt(self, newer: Held) -> None:
        _log.warning(
            "toggles are version %d of the store, by %s: %s", newer.version, newer.actor, newer.reason
        )
        self.numbers.beyond(newer.version)
        self.lost = ""
        self.kill.let_go()
        self.keeper.waiting.clear()
        self.keeper.stale()
        self.keeper.sure = newer.version
        self.put(newer)


def _of_settings(policy: Policy, environment: str) -> Document:
    frozen = policy.experiment if policy.toggles.experiment_freeze else None
    return Document(toggles=policy.toggles, environment=environment, experiment=frozen)
