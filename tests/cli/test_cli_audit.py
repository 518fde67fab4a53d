"""`fusebox audit`: verified and exported from a real store, listed from an API."""

import csv
import io
import os
import subprocess
import sys

import orjson
import pytest
from keeping import EVIL, entry

from proxy.control.audit import ERASED, append
from proxy.control.audit_ingest import Ingester
from proxy.core.audit import Outcome
from proxy.core.checkpoint import Signer
from proxy.storage.spool import SpoolReader
from proxy.storage.sqlite import SqliteStore


def lines(text):
    return [orjson.loads(line) for line in text.splitlines()]


# -- verify -----------------------------------------------------------------------------------------------


def test_a_sound_log_is_ok(audit):
    """Said with what was looked at, and what is not signed yet."""
    done = audit("verify")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("ok: 20 entries read")
    assert "1 checkpoints hold" in done.stdout
    assert "last 5 entries are under no checkpoint" in done.stderr
    assert "--checkpoint" in done.stderr


def test_a_changed_log_is_told_line_by_line(audit, kept):
    """Exit 1; what and where; as JSON for a program."""
    kept.sql("UPDATE audit_entries SET actor = 'mallory' WHERE seq = 3")
    kept.sql("DELETE FROM audit_entries WHERE seq = 17")
    done = audit("verify")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[:2] == [
        "edit: entry 3: actor: not what the entry says",
        "deletion: entry 17: not there any more",
    ]
    told = orjson.loads(audit("verify", "--json").stdout)
    assert told["ok"] is False
    assert [it["kind"] for it in told["findings"]] == ["edit", "deletion"]


def test_a_checkpoint_kept_elsewhere_shows_a_cut_tail(audit, kept, tmp_path):
    """Which nothing in the store shows."""
    outside = tmp_path / "outside"
    outside.write_text(kept.note)
    assert audit("verify", "--checkpoint", str(outside)).exit_code == 0
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    kept.path.unlink()
    for companion in ("-wal", "-shm"):
        kept.path.with_name(kept.path.name + companion).unlink(missing_ok=True)
    kept.write(lambda it: append(it, [entry(number) for number in range(9)], kept.sealer))
    assert audit("verify").exit_code == 0
    done = audit("verify", "--checkpoint", str(outside))
    assert done.exit_code == 1
    assert done.stdout.startswith("cut_tail: entries 9 to 14: ")
    assert "outside" in done.stdout
    (kept.state / "audit.last").write_text(kept.note)  # as the sidecar remembers it
    done = audit("verify")
    assert done.exit_code == 1
    assert "audit.last was signed over 15" in done.stdout


def test_a_public_key_is_enough(audit, kept, tmp_path):
    """From the command, as a line or a file of lines; a wrong one is found out."""
    vkey = audit("key").stdout.strip()
    assert orjson.loads(audit("key", "--json").stdout) == {"key": vkey}
    (tmp_path / "keys").write_text(f"{vkey}\n\n")
    (kept.state / "audit.key").unlink()
    assert "--key" in audit("verify").output
    assert audit("verify").exit_code == 1
    assert audit("verify", "--key", vkey).exit_code == 0
    assert audit("verify", "--key", str(tmp_path / "keys")).exit_code == 0
    stranger = Signer("fusebox", b"x" * 32).verifier.vkey
    done = audit("verify", "--key", stranger)
    assert done.exit_code == 1
    assert done.stdout.startswith("forged_checkpoint: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--key", "nonsense"], "neither a key nor a file"), (["--key", "a+b+c"], "fusebox audit key prints it"),
     (["--key", "EMPTY"], "no key in it"), (["--checkpoint", "EMPTY"], "no checkpoint in it")],
)  # fmt: skip
def test_what_cannot_be_used_is_named(audit, tmp_path, words, said):
    """Never a traceback."""
    (tmp_path / "empty").write_text("")
    done = audit("verify", *(str(tmp_path / "empty") if it == "EMPTY" else it for it in words))
    assert done.exit_code == 1
    assert said in done.output


def test_a_store_that_is_not_there(audit, kept):
    """Said, and not made."""
    kept.path.unlink()
    done = audit("verify")
    assert done.exit_code == 1
    assert "there is no store" in done.output
    assert not kept.path.exists()


def test_a_store_in_memory_cannot_be_read_from_outside(audit, kept):
    """The way out is the API."""
    kept.config.write_text('[storage]\nurl = "memory://"\n' + kept.config.read_text())
    done = audit("verify")
    assert done.exit_code == 1
    assert "/v1/audit" in done.output


# -- export -----------------------------------------------------------------------------------------------


def test_an_export_is_every_entry_in_order(audit, kept):
    """JSON lines; sealed fields stay sealed."""
    found = lines(audit("export").stdout)
    assert [it["seq"] for it in found] == list(range(20))
    assert found[1]["sealed"] is True
    assert "my secret" not in audit("export").output


def test_an_export_is_recorded_before(audit, kept):
    """Who, what, why; without the name that was looked for."""
    audit("export", "--reason", "audit of the year", "--subject", "user-1", "--open", "--actor", "alice")
    (said,) = kept.spooled()
    assert (said.action, said.outcome, said.actor) == ("audit.export", Outcome.ACCEPTED, "cli")
    assert said.reason == "audit of the year"
    assert said.after == {"actor": "alice", "format": "jsonl", "open": True, "subject": True}


def test_an_export_that_cannot_be_recorded_does_not_happen(audit, kept, tmp_path):
    """Not a line of it."""
    (kept.state / "spool").write_text("in the way")
    done = audit("export", "-o", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert not (tmp_path / "out").exists()


def test_an_export_that_fails_says_so_in_the_log(audit, kept, tmp_path):
    """It was announced, and came to nothing."""
    (tmp_path / "out").write_text("mine")
    done = audit("export", "-o", str(tmp_path / "out"))
    assert done.exit_code == 1
    assert "nothing is overwritten" in done.output
    assert (tmp_path / "out").read_text() == "mine"
    assert [it.outcome for it in kept.spooled()] == [Outcome.ACCEPTED, Outcome.FAILED]


def test_open_opens_and_subject_finds(audit, kept):
    """With audit.key; without it, or for whom nobody knows, it says so."""
    found = lines(audit("export", "--open", "--subject", "user-1").stdout)
    assert [it["seq"] for it in found] == list(range(1, 20, 2))
    assert found[0]["reason"] == "my secret"
    assert "nothing in the log" in audit("export", "--open", "--subject", "user-9").output
    assert audit("export", "--subject", "user-1").exit_code == 2
    (kept.state / "audit.key").unlink()
    assert "audit.key" in audit("export", "--open").output


def test_erased_fields_stay_erased(audit, kept):
    """Nothing opens them."""
    tag = kept.sealer.tag("user-1")

    def erase(records):
        said = entry(30, action=ERASED, target=records.audit.key_by_tag(tag).key_id)
        append(records, [said], kept.sealer)
        records.audit.erase_key(tag)

    kept.write(erase)
    found = lines(audit("export", "--open").stdout)
    assert found[1]["erased"] is True
    assert "my secret" not in audit("export", "--open").output
    done = audit("verify")
    assert done.exit_code == 0
    assert "10 entries erased" in done.stdout


def test_csv_is_harmless_in_a_spreadsheet(audit, kept, tmp_path):
    """Nothing begins like a formula; quotes and line ends are the csv module's."""
    kept.write(
        lambda it: append(
            it,
            [entry(40 + number, reason=text) for number, text in enumerate(("@a", "-1", "+1", "\tx", "\rx",
             'a"b,c\nd', "＝1", "fine"))], kept.sealer)  # noqa: RUF001
    )  # fmt: skip
    done = audit("export", "--format", "csv", "-o", str(tmp_path / "out.csv"), "--json")
    assert done.exit_code == 0, done.output
    assert orjson.loads(done.stderr) == {"entries": 28, "format": "csv", "output": str(tmp_path / "out.csv")}
    assert (tmp_path / "out.csv").stat().st_mode & 0o777 == 0o600
    text = (tmp_path / "out.csv").read_bytes().decode()
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert len(rows) == 28
    assert rows[0]["target"] == f"'{EVIL}"
    assert [row["reason"] for row in rows[20:]] == [
        "'@a", "'-1", "'+1", "'\tx", "'\rx", 'a"b,c\nd', "'＝1", "fine",  # noqa: RUF001
    ]  # fmt: skip
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row.values())


def test_filters_narrow_an_export(audit):
    """By time, action and who."""
    assert [it["seq"] for it in lines(audit("export", "--since", "2026-01-02T03:20:05Z").stdout)] == [
        16,
        17,
        18,
        19,
    ]
    assert lines(audit("export", "--until", "2026-01-02").stdout) == []
    assert len(lines(audit("export", "--action", "test.").stdout)) == 20
    assert lines(audit("export", "--actor", "bob").stdout) == []
    assert audit("export", "--since", "yesterday").exit_code == 2
    assert lines(audit("export", "--outcome", "refused").stdout) == []
    assert "'accepted', 'refused'" in audit("export", "--outcome", "nonsense").stderr


def test_an_export_is_read_page_by_page(audit, kept, monkeypatch):
    """Nothing is lost or doubled where pages meet."""
    monkeypatch.setattr("proxy.cli.audit_export.PAGE", 7)
    assert [it["seq"] for it in lines(audit("export").stdout)] == list(range(20))
    monkeypatch.setattr("proxy.cli.audit_export.PAGE", 5)
    assert [it["seq"] for it in lines(audit("export").stdout)] == list(range(20))


def test_a_reader_that_leaves_is_no_traceback(kept):
    """`fusebox audit export | head -1`."""
    kept.write(lambda it: append(it, [entry(number, reason="x" * 900) for number in range(600)], kept.sealer))
    process = subprocess.Popen(
        [sys.executable, "-m", "proxy", "audit", "export", "--config", str(kept.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 1
    assert b"Traceback" not in said


# -- list -------------------------------------------------------------------------------------------------


def shown(seq, **fields):
    return {"seq": seq, "at": "2026-01-02T03:04:05.000000Z", "action": "kill.on", "outcome": "done"} | fields


def test_listing_asks_the_sidecar(run, admin):
    """With the filters that were given; one line each, nothing that moves the cursor."""
    admin.answer = {
        "entries": [shown(2, actor="al\x1b[2Jice", reason="two\nlines"), shown(1, sealed=True)],
        "next": "1",
    }
    words = ["audit", "list", "--admin", admin.url, "--token", "t", "--action", "kill.", "--limit", "2"]
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert admin.asked[0][1] == "/v1/audit?action=kill.&limit=2"
    table = done.stdout.splitlines()
    assert "al?[2Jice" in table[1]
    assert "two lines" in table[1]
    assert " 2026-01-02T03:04:05Z " in table[1]
    assert "(sealed)" in table[2]
    assert "--limit 4" in done.stderr
    told = orjson.loads(run(*words, "--json").stdout)
    assert told["next"] == "1"
    assert len(told["entries"]) == 2


async def test_what_the_command_line_spools_is_taken_in(audit, kept):
    """And verifies."""
    from asyncio import to_thread

    await to_thread(audit, "export")
    store = SqliteStore(kept.path)

    class Journal:
        async def write(self, work):
            return store.write(work)

        async def read(self, work):
            return store.read(work)

    ingester = Ingester(Journal(), SpoolReader(kept.state / "spool"), kept.sealer)
    assert await ingester.drain() == 1
    assert store.read(lambda it: [row.action for row in it.audit.walk(20, 99)]) == ["audit.export"]
    store.close()
    assert (await to_thread(audit, "verify")).exit_code == 0
