"""What a local command changes stands in the audit log before it is true.

It goes into a spool file of this process, fsynced; the sidecar takes it in, at once or when it is started.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from proxy.clock import rfc3339, wall
from proxy.core.audit import Entry, Outcome, Scalar, spooled
from proxy.errors import FuseboxError
from proxy.storage.spool import NO_LIMIT, SpoolFile
from proxy.storage.tokens import Recorder, TokenRecord


@contextmanager
def recorder(directory: Path, action: str, reason: str) -> Iterator[Recorder]:
    """Give a function that records a change of a token in the spool below `directory`.

    StoreError when it cannot be; when the change fails after it was recorded, that is added.
    """
    with spooling(directory, action, reason) as note:

        def record(token: TokenRecord) -> None:
            note(token.name, {"role": token.role.label, "expires": token.expires, "revoked": token.revoked})

        yield record


Note = Callable[[str, Mapping[str, Scalar]], None]


@contextmanager
def spooling(directory: Path, action: str, reason: str) -> Iterator[Note]:
    """The same for a change of anything: the function takes the target and what it is afterwards."""
    told: list[Entry] = []
    with closing(SpoolFile(directory / "spool", limit=NO_LIMIT)) as spool:

        def note(target: str, after: Mapping[str, Scalar]) -> None:
            entry = Entry(
                action=action,
                outcome=Outcome.ACCEPTED,
                at=rfc3339(wall()),
                actor="cli",
                target=target,
                after=after,
                reason=reason,
                address=f"local, uid {os.getuid()}",
            )
            spool.add(spooled(entry), sync=True)
            told.append(entry)

        try:
            yield note
        except BaseException as error:
            for entry in told:
                with suppress(FuseboxError):  # the first failure is the one to tell
                    spool.add(spooled(replace(entry, outcome=Outcome.FAILED, reason=str(error))), sync=True)
            raise
