"""Overrides on recommend routes: verified, and laid over the toggles for one request."""

from proxy.clock import wall
from proxy.core.decide import Laid
from proxy.core.identity import IdentityReader
from proxy.core.override import ASIDE, HEADER, Overrides, refused, verify
from proxy.core.toggles_document import contradictions
from proxy.dataplane.binding import Bound
from proxy.dataplane.deciding import Choices
from proxy.dataplane.request_head import RequestHead


class Overriding:
    """The overrides that one policy lets pass."""

    def __init__(self, settings: Overrides, key: bytes) -> None:
        self._settings = settings
        self._key = key

    def bound(self, head: RequestHead, choices: Choices, identity: IdentityReader) -> Bound:
        """The route as it serves a request with the header. Raises `Refusal` (400): it is not valid."""
        override, _clamped = verify(self._key, head.fields[HEADER], self._settings, wall())
        laid = Laid(override.toggles, ASIDE)
        who = identity.who(head.user, head.fields, head.query)
        toggles = choices.decider.effective(*choices.decider.place(who), laid)
        if found := [f"{name} {why}" for name, why in contradictions(toggles)]:
            raise refused("with the toggles in force " + "; ".join(found))
        return choices.under(head, who, laid)
