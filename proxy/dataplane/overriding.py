"""Overrides on recommend routes: verified, and laid over the toggles for one request."""

from typing import NamedTuple

from proxy.clock import monotonic, wall
from proxy.core.decision import Laid
from proxy.core.identity import IdentityReader, Who
from proxy.core.override import ASIDE, HEADER, Verified, refused, verify
from proxy.core.policy import Policy
from proxy.core.rollback.drills import ASIDE as DRILL
from proxy.core.toggles import Toggles
from proxy.core.toggles_document import contradictions
from proxy.dataplane.binding import Bound
from proxy.dataplane.deciding import Choices
from proxy.dataplane.request_head import RequestHead


class Overridden(NamedTuple):
    """A request with an override that counts."""

    verified: Verified
    who: Who
    inside: bool  # the scope of the toggles document
    toggles: Toggles  # that hold for it
    laid: Laid
    shown: int = 0  # items, on the pages before


class Overriding:
    """The overrides that one policy lets pass."""

    def __init__(self, policy: Policy) -> None:
        self._settings = policy.overrides
        self._key = policy.signing_key
        self._drill = policy.drill

    def bound(self, head: RequestHead, choices: Choices, identity: IdentityReader) -> Bound:
        """The route as it serves a request with the header. Raises `Refusal` (400): it is not valid."""
        verified = verify(self._key, head.fields[HEADER], self._settings, wall())
        override = verified.override
        laid = Laid(override.toggles, ASIDE)
        drill = self._drill
        if drill is not None and override.drill == drill.id and monotonic() < drill.ends_at:
            laid = Laid(override.toggles, DRILL)
            choices = choices.drilled or choices
        who = identity.who(head.user, head.fields, head.query)
        at = choices.decider.place(who, head.bucket)
        toggles = choices.decider.effective(at, laid)
        if found := [f"{name} {why}" for name, why in contradictions(toggles)]:
            raise refused("with the toggles in force " + "; ".join(found))
        head.overridden = Overridden(verified, who, at[1], toggles, laid)
        return choices.under(head, who, laid)
