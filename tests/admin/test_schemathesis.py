"""The whole API, asked by schemathesis what it documents and what it does not, over real services."""

import asyncio
import os
import threading
from urllib.parse import parse_qs, urlsplit

import pytest
import schemathesis
from face import Admin
from hypothesis import HealthCheck, settings
from schemathesis import GenerationMode
from schemathesis.config import ChecksConfig, SchemathesisConfig  # noqa: F401
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from proxy.admin import access, limits
from proxy.admin.endpoints import ENDPOINTS
from proxy.admin.openapi import document
from proxy.control.audit import AuditLog
from proxy.control.audit_ingest import Ingester
from proxy.control.audit_reading import AuditReading
from proxy.core.checkpoint import Signer
from proxy.core.roles import Role
from proxy.core.sealing import Sealer
from proxy.storage import audit_keys
from proxy.storage.journal import StoreJournal
from proxy.storage.memory import MemoryStore
from proxy.storage.spool import SpoolFile, SpoolReader

EXAMPLES = int(os.environ.get("FUSEBOX_SCHEMATHESIS_EXAMPLES", "25"))


async def real(directory):
    """An admin face with everything behind it, and what ends it."""
    keys = audit_keys.load_or_make(directory / "audit.key")
    sealer = Sealer(keys.master, os.urandom)
    journal = StoreJournal(MemoryStore, "memory")
    journal.start()
    spool = SpoolFile(directory / "spool")
    ingester = Ingester(journal, SpoolReader(directory / "spool"), sealer)
    log = AuditLog(journal, spool, sealer, hasty=spool, wake=ingester.wake, drain=ingester.drain)
    reading = AuditReading(journal, sealer, [Signer("fusebox", keys.signing).verifier])
    admin = Admin(directory, trail=log, audit=reading)
    await admin.start()

    async def end():
        await admin.stop()
        await journal.close()
        spool.close()

    return admin, end


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The face, served from a thread of its own; unlimited, since one caller asks a thousand times."""
    patch = pytest.MonkeyPatch()
    patch.setattr(limits, "BURST", 1e9)
    patch.setattr(access, "ATTEMPTS", 10**9)
    ready, over = threading.Event(), asyncio.Event()
    held = {}

    async def serve():
        held["loop"] = asyncio.get_running_loop()
        held["admin"], end = await real(tmp_path_factory.mktemp("admin"))
        ready.set()
        await over.wait()
        await end()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(30)
    yield held["admin"]
    held["loop"].call_soon_threadsafe(over.set)
    thread.join(30)
    patch.undo()
    assert not thread.is_alive()


schema = schemathesis.openapi.from_dict(dict(document(ENDPOINTS)))
schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
# Whether a version is the present one, and a key unused, no schema can say.
accepted = schema.config.checks.positive_data_acceptance.expected_statuses
schema.config.checks.positive_data_acceptance.expected_statuses = [*accepted, "412", "422"]


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_answer_is_as_documented(case, served):
    url = f"http://{served.host}:{served.port}"
    headers = {"Authorization": f"Bearer {served.tokens[Role.ADMIN]}"}
    # OpenAPI cannot say "a reason in the body or in the query, one of them".
    excluded = [positive_data_acceptance] if case.method == "DELETE" else []
    response = case.call(base_url=url, headers=headers)
    sent = parse_qs(urlsplit(response.request.url).query, keep_blank_values=True)
    if not set(case.query or ()) <= set(sent):  # what should be refused has no spelling in a URL, such as []
        excluded.append(negative_data_rejection)
    case.validate_response(response, excluded_checks=excluded)
