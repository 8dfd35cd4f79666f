#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Moves mtty devices by helpers that systemd starts from tools/systemd's units, confined, and looks at what becomes of a process
in a helper's place that wants more than it was given.

Runs by tools/lab/with-systemd. One line a check on standard output, as in client.py.
"""
import glob, json, os, socket, subprocess, sys
import client
from client import check, same
from vmm import *

FOLDER = "/run/vfio-ferry/"


def connected(name):
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.connect(FOLDER + name)
    return link


def said(unit, expected=None):
    """What a unit's processes have written to the journal, as (priority, message); once that has a line with this in it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        text = subprocess.run(["journalctl", "-o", "json", "--no-pager", "-u", unit], capture_output=True, text=True).stdout
        lines = [json.loads(line) for line in text.splitlines()]
        lines = [(int(line.get("PRIORITY", 6)), line["MESSAGE"]) for line in lines if line.get("_TRANSPORT") == "stdout"]
        if expected is None or any(expected in message for _, message in lines) or time.monotonic() > deadline:
            return lines
        time.sleep(0.2)


def processes(unit):
    show = subprocess.run(["systemctl", "show", "-p", "MainPID", "--value", unit], capture_output=True, text=True).stdout
    return [pid for pid in show.split() if pid != "0"]


class Activated(Host):
    """A host whose helper systemd starts."""

    def start(self):
        self.link = Connection(connected("helper"), self.name)
        self.call, self.event = self.link.call, self.link.event
        self.call("HELLO", major=P.VERSION_MAJOR, minor=P.VERSION_MINOR, features=P.FEATURE_PAGES, version="under_systemd.py")
        self.info = [self.add(1), self.add(2)]
        return self

    def end(self):
        """Hangs up; what the helper exits with, systemd knows."""
        self.link.sock.close()


def status(pid):
    with open(f"/proc/{pid}/status") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def move():
    source, target = Activated("source"), Activated("target")
    source.start(), target.start()
    helpers = processes("vfio-ferry-helper@*.service")
    same("a helper for each connection", len(helpers), 2)
    for pid in helpers:
        facts = status(pid)
        same("no user that is root", "0" in facts["Uid"].split(), False)
        same("no capabilities", [facts[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")], [""] * 5)
        same("a filter, and no new privileges", (facts["Seccomp"], facts["NoNewPrivs"]), ("2", "1"))
        # systemd's own filter is one; the helper's comes on top.
        check("more than one filter", int(facts.get("Seccomp_filters", "2")) > 1, facts.get("Seccomp_filters"))
        links = sorted(os.readlink(path) for path in glob.glob(f"/proc/{pid}/fd/*"))
        kinds = ("/dev/null", "socket:", "anon_inode:[eventfd]", "anon_inode:[vfio-device]", "/dev/iommu", "/dev/vfio/devices/")
        check("it holds what it was given and its own bells", all(link.startswith(kinds) for link in links), links)
    for number in (1, 2):
        source.devices[number - 1].mark(0x15 * number), target.devices[number - 1].mark(0)
    config = os.urandom(4096)
    begin(source, target)
    source.event("READY")
    source.call("VCPUS_STOPPED")
    source.call("QUIESCE")
    blob(source, 1, config)
    source.call("COMPLETE")
    target.event("LOADED")
    same("the blob", blob_read(target, 1)[1], config)
    source.call("COMMIT")
    target.call("RESUME")
    same("target runs", target.phase() + " " + target.states(), "SETUP RUNNING RUNNING")
    for number, device in enumerate(target.devices, 1):
        same(f"marks of device {number}", device.marks(), MTTY.marks_of(0x15 * number))
    try:
        target.call("DEVICE_ADD", [target.devices[0].fd, target.iommufd], device=9, flags=P.DEVICE_HAS_IOMMUFD | P.DEVICE_HAS_NUMBER,
                    space=target.space, tracker=P.TRACKER_AUTO, number=1, name="/dev/vfio/devices/../../../etc/passwd")
        check("a name that leads elsewhere", False, "it was taken")
    except Refused as error:
        check("a name that leads elsewhere is refused", error.code in ("BAD_ARGUMENT", "NO_SUCH"), error)
    source.remove(), target.remove()
    client.until("both have ended", lambda: processes("vfio-ferry-helper@*.service"), [])
    failed = subprocess.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend", "vfio-ferry-helper@*"], capture_output=True, text=True)
    same("and neither failed", failed.stdout.strip(), "")
    subprocess.run(["journalctl", "--sync"], check=True)
    same("the helpers were refused nothing", [line for line in said("vfio-ferry-helper@*") if "refused" in line[1]], [])


def attempts():
    """The same unit with another program in it, which tries things."""
    link = connected("attempts")
    link.settimeout(PATIENCE)
    same("it ends, and hangs up", link.recv(100), b"")
    lines = said("vfio-ferry-attempts@*", "making memory a program: ")
    for text in (
        "reading a file: EACCES", "making a file: E", "opening a device: E", "a network socket: E", "a Unix socket: EPERM", "running a program: EPERM",
        "reading sysfs: allowed", "a thread: allowed", "an ioctl of VFIO's: ENOTTY",
    ):
        check(text, any(message.startswith(text) for _, message in lines), lines)
    for text in ("opening /etc/passwd (EACCES)", "socket (number ", "execve (number "):
        check(f"the journal has it as a warning: {text}", any(
            priority == 4 and message.startswith("confined-attempts: refused: " + text) for priority, message in lines), lines)
    for priority, message in lines:
        print(f"   <{priority}> {message}")


def main():
    for part in (attempts, move):
        try:
            part()
        except Exception as error:
            client.traceback.print_exc()
            check(part.__name__, False, f"{type(error).__name__}: {error}")
    if client.failures:
        print(subprocess.run(["journalctl", "--no-pager", "-o", "short-precise"], capture_output=True, text=True).stdout)
    return 1 if client.failures else 0


if __name__ == "__main__":
    sys.exit(main())
