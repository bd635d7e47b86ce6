"""A child that takes its parent's memory over, and the pages that children copy ahead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import sysconfig
from typing import Any

import pytest

from tests.support.paths import CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.vm]

PREFACE = """
import json, os, signal, socket, sys
from corten_shim.linux import takeover, process
process.become_subreaper()
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
def told():
    return json.loads(ours.recv(65536))
def tell(**what):
    theirs.send(json.dumps(what).encode())
"""


def run(program: str) -> Any:
    """What `program` prints, as JSON; it runs as the zygote does."""
    paths = [str(CHECKOUT / "shim"), sysconfig.get_path("stdlib"), str(sysconfig.get_config_var("DESTSHARED"))]
    code = f"import sys; sys.path[:] = {paths!r}\n{PREFACE}\n{program}"
    done = subprocess.run(
        [os.path.realpath(sys.executable), "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_child_is_the_callers_sibling_and_the_caller_is_killed() -> None:
    said = run("""
caller = os.fork()
if caller == 0:
    value = {"kept": list(range(1000))}
    def go_on(pid):
        tell(pid=pid, seen=os.getpid(), parent=os.getppid(), kept=sum(value["kept"]))
        os._exit(7)
    takeover.take_over(go_on)
words = told()
status = os.waitpid(caller, 0)[1]
ended = os.waitpid(words["pid"], 0)[1]
print(json.dumps(words | {"me": os.getpid(), "signal": os.WTERMSIG(status), "code": os.waitstatus_to_exitcode(ended)}))
""")
    assert (said["parent"], said["seen"]) == (said["me"], said["pid"])
    assert said["signal"] == signal.SIGKILL
    assert (said["kept"], said["code"]) == (499500, 7)


def test_its_pid_is_told_as_the_caller_sees_it_where_it_is_the_first_of_a_pid_namespace() -> None:
    said = run("""
from corten_shim.linux import const, namespace
caller = os.fork()
if caller == 0:
    namespace.unshare(const.CLONE_NEWPID)
    def go_on(pid):
        tell(pid=pid, seen=os.getpid())
        os.execv("/bin/sh", ["sh", "-c", "exit 5"])
    takeover.take_over(go_on)
words = told()
os.waitpid(caller, 0)
print(json.dumps(words | {"code": os.waitstatus_to_exitcode(os.waitpid(words["pid"], 0)[1])}))
""")
    assert said["seen"] == 1
    assert said["pid"] > 1
    assert said["code"] == 5


def test_the_child_forks_without_sharing_its_stack_with_its_own_children() -> None:
    said = run("""
caller = os.fork()
if caller == 0:
    def deep(number):
        return 0 if number == 0 else 1 + sorted([number], key=lambda each: deep(each - 1))[0] * 0 + deep(number - 1)
    def go_on(pid):
        codes = []
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(deep(10) % 200)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        tell(pid=pid, codes=codes)
        os._exit(0)
    takeover.take_over(go_on)
words = told()
os.waitpid(caller, 0)
print(json.dumps(words | {"code": os.waitstatus_to_exitcode(os.waitpid(words["pid"], 0)[1])}))
""")
    assert said["code"] == 0
    assert said["codes"] == [10] * 20


def test_an_exception_in_the_child_ends_it_and_nobody_goes_on_in_that_memory() -> None:
    said = run("""
caller = os.fork()
if caller == 0:
    def go_on(pid):
        tell(pid=pid)
        raise ValueError("on purpose")
    try:
        takeover.take_over(go_on)
    finally:
        tell(alive=os.getpid())
words = told()
status = os.waitpid(caller, 0)[1]
code = os.waitstatus_to_exitcode(os.waitpid(words["pid"], 0)[1])
ours.setblocking(False)
try:
    more = told()
except BlockingIOError:
    more = None
print(json.dumps({"code": code, "signal": os.WTERMSIG(status), "more": more}))
""")
    assert said == {"code": 127, "signal": signal.SIGKILL, "more": None}


def test_a_later_child_finds_the_pages_copied_that_the_first_one_wrote_to() -> None:
    said = run("""
import resource
from corten_shim.linux.pages import PageNote
things = [[number] for number in range(200_000)]
note = PageNote()
def child(ahead):
    pid = os.fork()
    if pid == 0:
        if ahead:
            note.copy_ahead()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for number in range(100_000):
            things[number][0] = None
        after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        note.take()
        tell(faults=after - before)
        os._exit(0)
    os.waitpid(pid, 0)
    return told()["faults"]
print(json.dumps([child(False), child(True), child(False)]))
""")
    first, ahead, without = said
    assert first > 1000
    assert ahead < first / 4
    assert without > first / 2
