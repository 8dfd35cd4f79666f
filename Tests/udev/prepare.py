#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A physical function gets its driver: systemd starts the unit that prepares it, once each time, and nothing for other functions.
Runs by under-udevd, in a machine that has an nvme drive which can have virtual functions. What the unit would start writes to a
file instead."""
import glob, json, os, signal, subprocess
from checks import *

RECORD = "/run/prepared"
FUNCTION = next(path for path in glob.glob("/sys/bus/pci/devices/*") if os.path.exists(f"{path}/sriov_totalvfs") and read(f"{path}/sriov_totalvfs") != "0")
ADDRESS = os.path.basename(FUNCTION)


def recorded():
    return read(RECORD).splitlines() if os.path.exists(RECORD) else []


def quiet():
    """Waits until udev and systemd have nothing to do any more."""
    settle()
    until("systemd is idle", lambda: run("systemctl", "list-jobs", "--no-legend").strip() == "")


def main():
    with part("prepare"):
        check("what the unit would start", "ExecStart=/usr/bin/vfio-ferry prepare --configured %i\n" in open("/run/units/vfio-ferry-prepare@.service").read())
        os.makedirs("/run/units/vfio-ferry-prepare@.service.d")
        put("/run/units/vfio-ferry-prepare@.service.d/record.conf", f"[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo %i >>{RECORD}'")
        run("systemctl", "daemon-reload")
        run("udevadm", "trigger", "--action=add", "--subsystem-match=pci")
        quiet()
        same("without a configuration nothing is started", recorded(), [])
        put("/etc/vfio-ferry/prepare.d/lab.toml", "")
        file = open("/run/monitor", "w")
        monitor = subprocess.Popen(["vfio-ferry", "monitor", "--json"], stdout=file, stderr=subprocess.PIPE, text=True)
        monitor.stderr.readline()
        driver = os.path.basename(os.path.realpath(f"{FUNCTION}/driver"))
        for turn in range(1, 4):
            put(f"{FUNCTION}/driver/unbind", ADDRESS)
            put(f"/sys/bus/pci/drivers/{driver}/bind", ADDRESS)
            until("it is prepared", lambda: len(recorded()) >= turn)
        quiet()
        same("each time that it gets its driver it is prepared, and no other function is", recorded(), [ADDRESS] * 3)
        put(f"{FUNCTION}/sriov_drivers_autoprobe", "0")
        put(f"{FUNCTION}/sriov_numvfs", "2")
        run("udevadm", "trigger", "--settle", FUNCTION)
        quiet()
        same("that it has changed, or has virtual functions, starts nothing", recorded(), [ADDRESS] * 3)
        put(f"{FUNCTION}/sriov_numvfs", "0")
        settle()
        monitor.send_signal(signal.SIGTERM)
        same("the monitor ends", monitor.wait(), 0)
        lines = [json.loads(line) for line in read("/run/monitor").splitlines()]
        told = [(line["action"], line["driver"]) for line in lines if line["kind"] == "pf" and line["action"] != "change"]
        same("the monitor has told of it", told, [("unbind", None), ("bind", driver)] * 3)
        same("and of no virtual function without a VFIO driver", [line for line in lines if line["kind"] == "function"], [])
        same("no unit has failed", run("systemctl", "list-units", "--failed", "--plain", "--no-legend").strip(), "")
        same("udevd has nothing to complain of", journal_of_udevd(), "")
    end()


if __name__ == "__main__":
    main()
