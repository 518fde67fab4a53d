"""Pages of recommend answers: a cursor read, and the route bound as its mode says."""

from copy import copy

from proxy.clock import wall
from proxy.core.asks import Ask
from proxy.core.decision import NOTHING_LAID
from proxy.core.identity import IdentityReader
from proxy.core.override import ASIDES
from proxy.core.paging import Asked, first, opened, paged
from proxy.dataplane.binding import Bound
from proxy.dataplane.request_head import RequestHead


class Paging:
    """The pages of one policy."""

    def __init__(self, key: bytes, identity: IdentityReader, target_bytes: int) -> None:
        self._key = key
        self._identity = identity
        self._target_bytes = target_bytes

    def turned(self, head: RequestHead, bound: Bound, ask: Ask) -> tuple[Bound, Ask]:
        """The route as it serves the page that is asked for, and what is asked there; `bound` serves the
        first one. While killed the cursor only says what was shown. Raises `Refusal` (400).
        """
        killed = bound.decision.killed
        overridden = bound.decision.aside in ASIDES
        laid = head.overridden.laid if overridden else NOTHING_LAID
        cursor = ask.cursor or b""
        asked = Asked(head.user, ask.filters, bound.name, None if killed and cursor else laid)
        room = self._target_bytes - len(head.target) + len(cursor)
        if not cursor:
            page = first(asked, bound.decision, self._key, room, wall())
        else:
            page = opened(cursor, asked, self._key, room, wall())
            if not killed:
                who = self._identity.who(head.user, head.fields, head.query)
                bound = bound.choices.under(head, who, laid._replace(mode=page.begun.mode))
        if overridden:
            head.overridden = head.overridden._replace(shown=len(page.shown))
        bound = copy(bound)
        bound.shadow = None  # a second plan has shown something else before
        if page.shown:  # what is left says how far users look
            bound.judged = False
            bound.account = bound.account.unjudged
        head.bound = bound
        return bound, paged(ask, page)
