"""Starting, failing to start, and ending, as a process."""

import asyncio
import signal
import socket
from pathlib import Path

import aiohttp
import pytest

from proxy.core.roles import Role
from proxy.tasks import spawn


async def test_it_says_where_it_listens_carries_traffic_and_ends_with_0(box):
    await box.start()
    status, ready = await box.api("GET", "/readyz")
    assert (status, ready["ready"]) == (200, True)
    answer = await box.get("/payment/1")
    assert (answer.status, await answer.text()) == (200, "/payment/1")
    assert await box.terminate() == 0
    told = box.told.decode()
    assert box.listen in told
    assert box.admin in told
    assert [line["message"] for line in box.lines[-4:]] == ["draining", "drained", "stopped", "(end of log)"]


async def test_without_a_token_it_says_how_to_make_the_first(box):
    await box.start()
    await box.terminate()
    assert f"fusebox token create --role admin --name NAME --config {box.settings}" in box.told.decode()


async def test_with_a_token_it_says_nothing_about_tokens_and_takes_those_made_beside_it(box):
    first = box.token()
    await box.start()
    assert (await box.api("GET", "/v1/status", first))[0] == 200
    assert (await box.api("GET", "/v1/status", box.token(Role.VIEWER)))[0] == 200
    await box.terminate()
    assert "token" not in box.told.decode()


async def test_every_problem_of_the_settings_is_told_and_nothing_listens(box):
    box.write(extra="[limits]\nhead_bites = 1\n", drain_s=-1)
    await box.launch()
    assert await box.ended() == 2
    told = box.told.decode()
    assert "limits.head_bites" in told
    assert "deadlines.drain_s" in told
    assert [line["message"] for line in box.lines] == ["(end of log)"]


async def test_certificates_that_are_none_are_told_with_2(box):
    (box.directory / "ca.pem").write_text("no certificate")
    box.write()
    with box.settings.open("a") as file:
        file.write('[upstreams.tls]\nurl = "https://localhost:1"\nca_file = "ca.pem"\n')
    await box.launch()
    assert await box.ended() == 2
    assert "ca.pem" in box.told.decode()
    assert "Traceback" not in box.told.decode()


async def test_a_missing_settings_file_is_told_with_2(box):
    box.settings.unlink()
    await box.launch()
    assert await box.ended() == 2
    assert str(box.settings) in box.told.decode()


@pytest.mark.parametrize(("setting", "name"), [("listen", "listen.address"), ("admin", "admin.address")])
async def test_an_address_in_use_is_named_with_its_setting(box, setting, name):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        box.write(**{setting: address})
        await box.launch()
        assert await box.ended() == 1
    told = box.told.decode()
    assert f"cannot listen on {address} ({name}): Address already in use" in told
    assert "Traceback" not in told


async def test_a_drain_fails_readiness_first_then_finishes_what_is_under_way(box, upstream):
    box.write(drain_notice_s=0.5)
    await box.start()
    upstream.go.clear()
    under_way = spawn(box.get("/payment/slow"), "request under way")
    await upstream.asked.wait()
    box.signal(signal.SIGTERM)
    await box.logged("draining")
    status, ready = await box.api("GET", "/readyz")
    assert (status, ready["reasons"]) == (503, ["draining"])
    upstream.go.set()
    answer = await under_way
    assert (answer.status, await answer.text()) == (200, "/payment/slow")
    late = await box.get("/payment/late")  # within the notice the listener is still open
    assert late.status == 200
    assert await box.ended() == 0


async def test_a_second_signal_aborts_the_drain(box, upstream):
    await box.start()
    upstream.go.clear()
    under_way = spawn(box.get("/payment/never"), "request under way")
    await upstream.asked.wait()
    box.signal(signal.SIGTERM)
    await box.logged("draining")
    box.signal(signal.SIGINT)
    assert await box.ended() == 1
    assert [line["message"] for line in box.lines if line["message"] in ("drained", "aborted")] == ["aborted"]
    with pytest.raises(aiohttp.ClientError):
        await under_way


async def test_ctrl_c_drains_like_sigterm(box):
    await box.start()
    box.signal(signal.SIGINT)
    assert await box.ended() == 0
    assert "Traceback" not in box.told.decode()


async def test_breakers_are_counted_and_logged_with_what_tripped_them(box, upstream):
    token = box.token()
    box.write(extra="")
    await box.start()
    status, _ = await box.api("POST", "/v1/breakers/payment/open", token, json={"reason": "drill"})
    assert status == 200
    line = await box.logged("breaker payment: closed to open")
    assert {
        "upstream": "payment",
        "to": "open",
        "rule": "manual",
        "n": 0,
        "dry_run": False,
    }.items() <= line.items()
    assert {"observed", "threshold"} <= line.keys()
    _, shown = await box.api("GET", "/v1/breakers", token)
    assert shown["payment"]["last"] == shown["payment"]["last_trip"]
    assert (shown["payment"]["last_trip"]["reason"], shown["cf"]["last_trip"]) == ("drill", None)
    _, page = await box.api("GET", "/metrics")
    assert 'fusebox_breaker_transitions_total{rule="manual",to="open",upstream="payment"} 1.0' in page
    assert 'fusebox_breaker_state{upstream="payment"} 2.0' in page
    assert (await box.get("/payment/1")).status == 503
    assert upstream.paths == []


async def test_a_hundred_requests_are_on_the_metrics_page(box):
    await box.start()
    answers = await asyncio.gather(*(box.get("/payment/x") for _ in range(100)))
    assert {answer.status for answer in answers} == {200}
    _, page = await box.api("GET", "/metrics")
    assert 'fusebox_upstream_requests_total{outcome="success",upstream="payment"} 100.0' in page
    assert 'route="payment",status_class="2xx"} 100.0' in page


async def test_a_log_that_nobody_reads_stalls_no_request_and_is_whole_when_read_again(box):
    box.write(extra="[log]\naccess_sample = 1.0\n")
    await box.start()
    box.reading.clear()
    for _ in range(15):  # far more than the pipe and its reader hold
        answers = await asyncio.gather(*(box.get("/" + "nowhere" * 40) for _ in range(100)))
        assert {answer.status for answer in answers} == {404}
    box.reading.set()
    assert await box.terminate() == 0
    assert len([line for line in box.lines if line["message"] == "request"]) == 1500


async def test_a_state_directory_that_is_a_file_is_told_with_2(box):
    (box.directory / "taken").write_text("")
    box.write(extra='[state]\ndirectory = "taken"\n')
    await box.launch()
    assert await box.ended() == 2
    told = box.told.decode()
    assert f"{box.settings}: state.directory: {box.directory / 'taken'} is not a directory (" in told
    assert "name a directory that can be written" in told
    assert [line["message"] for line in box.lines] == ["(end of log)"]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs procfs: no permission stops root")
async def test_a_state_directory_that_cannot_be_written_is_a_loud_warning(box):
    box.write(extra='[state]\ndirectory = "/proc/self"\n')
    await box.start()
    line = await box.logged("the state directory")
    assert line["level"] == "warning"
    assert (await box.get("/payment/1")).status == 200
    await box.terminate()
    assert f"fusebox: {line['message']}" in box.told.decode()


async def test_a_second_sidecar_on_the_same_state_is_refused_with_1(box, second):
    """Until the first has ended, however it did; tokens are made beside it all the while."""
    await box.start()
    await second.launch()
    assert await second.ended() == 1
    told = second.told.decode()
    assert told.startswith(f"fusebox: {box.directory / 'var'} is in use by another sidecar: ")
    assert told.count("\n") == 1
    assert "state.directory" in told
    assert (await box.api("GET", "/v1/status", box.token()))[0] == 200
    box.signal(signal.SIGKILL)
    await box.ended()
    await second.start()
    assert (await second.get("/payment/1")).status == 200
    assert await second.terminate() == 0
