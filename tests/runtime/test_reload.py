"""SIGHUP: whole or not at all, and the outcome where an operator looks."""

import signal

from proxy.tasks import spawn


async def reload(box, token, said, nth=1):
    """The log line and the status after one reload."""
    box.signal(signal.SIGHUP)
    line = await box.logged(said, nth)
    _, status = await box.api("GET", "/v1/status", token)
    return line, status


async def test_a_new_route_is_served_after_the_reload_and_the_status_says_ok(box):
    token = box.token()
    await box.start()
    assert (await box.get("/email/1")).status == 404
    box.write(routes=("/payment/", "/email/"))
    _, status = await reload(box, token, "reloaded")
    assert (await box.get("/email/1")).status == 200
    assert (status["reload"]["ok"], status["reload"]["problems"]) == (True, [])
    assert "email" in [route["name"] for route in status["routes"]]


async def test_broken_settings_are_told_in_full_and_the_old_ones_stay(box):
    token = box.token()
    await box.start()
    box.write(routes=("/email/",), extra="[limits]\nhead_bites = 1\n", drain_s=-1)
    line, status = await reload(box, token, "reload refused")
    problems = " ".join(line["problems"])
    assert "limits.head_bites" in problems
    assert "deadlines.drain_s" in problems
    assert (status["reload"]["ok"], status["reload"]["problems"]) == (False, line["problems"])
    assert (await box.get("/payment/1")).status == 200
    assert (await box.get("/email/1")).status == 404


async def test_certificates_that_are_none_refuse_the_reload(box):
    token = box.token()
    await box.start()
    (box.directory / "ca.pem").write_text("no certificate")
    with box.settings.open("a") as file:
        file.write('[upstreams.tls]\nurl = "https://localhost:1"\nca_file = "ca.pem"\n')
    line, status = await reload(box, token, "reload refused")
    assert "ca.pem" in line["problems"][0]
    assert "tls" not in status["upstreams"]


async def test_what_needs_a_restart_refuses_the_whole_reload_and_is_named(box):
    token = box.token()
    await box.start()
    box.write(listen="127.0.0.1:1", admin="127.0.0.1:2", routes=("/email/",))
    line, status = await reload(box, token, "reload refused")
    assert [problem.split(": ")[1] for problem in line["problems"]] == ["listen.address", "admin.address"]
    assert status["reload"]["ok"] is False
    assert (await box.get("/payment/1")).status == 200
    assert (await box.get("/email/1")).status == 404


async def test_a_mended_file_is_taken_after_a_refused_one(box):
    token = box.token()
    await box.start()
    box.write(listen="127.0.0.1:1")
    await reload(box, token, "reload refused")
    box.write(routes=("/email/",))
    _, status = await reload(box, token, "reloaded")
    assert status["reload"]["ok"] is True
    assert (await box.get("/payment/1")).status == 404


async def test_the_log_level_follows_the_reload(box):
    token = box.token()
    await box.start()
    box.write(extra='[log]\nlevel = "error"\n')
    box.signal(signal.SIGHUP)
    status = {"reload": None}
    while status["reload"] is None:  # each turn is a request answered
        _, status = await box.api("GET", "/v1/status", token)
    await box.api("PUT", "/v1/kill", token, json={"reason": "drill"})
    assert await box.terminate() == 0
    assert "kill switch ON" not in " ".join(line["message"] for line in box.lines)


async def test_a_hangup_while_draining_loses_no_request(box, upstream):
    await box.start()
    upstream.go.clear()
    under_way = spawn(box.get("/payment/slow"), "request under way")
    await upstream.asked.wait()
    box.signal(signal.SIGTERM)
    await box.logged("draining")
    box.signal(signal.SIGHUP)
    await box.logged("reloaded")
    upstream.go.set()
    assert (await under_way).status == 200
    assert await box.ended() == 0
