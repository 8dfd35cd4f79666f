#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The unit that prepares a physical function, with its own restrictions and its own program: what it may do is enough, for the
nvme drive of the machine and for the kernel's simulated NIC, to load a module, and to tell who has a device. Runs by under-udevd."""
import glob, os, shutil, subprocess
from checks import *

FUNCTION = next(path for path in glob.glob("/sys/bus/pci/devices/*") if os.path.exists(f"{path}/sriov_totalvfs") and read(f"{path}/sriov_totalvfs") != "0")
ADDRESS = os.path.basename(FUNCTION)
UNIT = f"vfio-ferry-prepare@{ADDRESS}.service"
OVER = "/run/units/vfio-ferry-prepare@.service.d"
NIC = "netdevsim79"


def journal():
    run("journalctl", "--sync")
    return run("journalctl", "--no-pager", "-q", "-o", "cat", "-u", UNIT).splitlines()


def say(*words):
    """Gives the unit other words for its program; without any, its own."""
    os.makedirs(OVER, exist_ok=True)
    put(f"{OVER}/words.conf", f"[Service]\nExecStart=\nExecStart=/usr/bin/vfio-ferry prepare {' '.join(words)}" if words else "")
    run("systemctl", "daemon-reload")


def start(*words):
    """Runs the unit; with other words for its program, below the same restrictions. Its exit status, and what it said."""
    say(*words)
    before = len(journal())
    started = subprocess.run(["systemctl", "start", UNIT], capture_output=True)
    # A unit that has failed is kept until then; what has not failed systemd may have forgotten.
    status = run("systemctl", "show", "-P", "ExecMainStatus", UNIT).strip() if started.returncode else 0
    subprocess.run(["systemctl", "reset-failed", UNIT], capture_output=True)
    said = journal()[before:]
    check("it is run", said != [])
    return int(status), "\n".join(said)


def drivers():
    links = sorted(glob.glob(f"{FUNCTION}/virtfn*"))
    return [os.path.basename(os.path.realpath(f"{link}/driver")) for link in links if os.path.exists(f"{link}/driver")]


def records():
    return names("/run/vfio-ferry/prepared")


def nvme():
    put("/etc/vfio-ferry/prepare.d/lab.toml", f'pf = "{ADDRESS}"\nvfs = 2\ndriver = "vfio-pci"')
    driver = os.path.basename(os.path.realpath(f"{FUNCTION}/driver"))
    put(f"{FUNCTION}/driver/unbind", ADDRESS)
    put(f"/sys/bus/pci/drivers/{driver}/bind", ADDRESS)
    until("it is prepared", lambda: drivers() == ["vfio-pci"] * 2)
    settle()
    until("the unit has ended", lambda: run("systemctl", "show", "-P", "SubState", UNIT).strip() != "start")
    same("as it gets its driver its functions are made and bound", run("systemctl", "show", "-P", "Result", UNIT).strip(), "success")
    same("what there was before is written down", len(records()), 1)
    status, said = start()
    check("what is so already is left alone", status == 0 and "nothing to do" in said, said)
    function = os.path.realpath(f"{FUNCTION}/virtfn0")
    node = names(f"{function}/vfio-dev")[0]
    held = os.open(f"/dev/vfio/devices/{node}", os.O_RDWR)
    status, said = start(ADDRESS, "--undo")
    check("what a process has is refused, with who has it", status == 3 and f"{os.getpid()}" in said and drivers() == ["vfio-pci"] * 2, said)
    os.close(held)
    status, said = start(ADDRESS, "--undo")
    check("all of it is undone", status == 0 and drivers() == [] and read(f"{FUNCTION}/sriov_numvfs") == "0" and records() == [], said)


def comes_back():
    """Its driver goes and comes back while it is prepared."""
    driver = os.path.basename(os.path.realpath(f"{FUNCTION}/driver"))

    def rebind():
        # What udev starts then.
        say()
        put(f"{FUNCTION}/driver/unbind", ADDRESS)
        settle()
        same("no driver, and still written down", (os.path.exists(f"{FUNCTION}/driver"), len(records())), (False, 1))
        left = drivers()
        put(f"/sys/bus/pci/drivers/{driver}/bind", ADDRESS)
        settle()
        until("systemd is idle", lambda: run("systemctl", "list-jobs", "--no-legend").strip() == "")
        return left

    def undone(what):
        status, said = start(ADDRESS, "--undo")
        check(what, status == 0 and drivers() == [] and read(f"{FUNCTION}/sriov_numvfs") == "0" and records() == [], said)

    start()
    left = rebind()
    print(f"   without a driver it has functions of {left}", flush=True)
    same("what is configured is so again", (drivers(), len(records())), (["vfio-pci"] * 2, 1))
    undone("one way back undoes both")
    put("/etc/vfio-ferry/prepare.d/lab.toml", 'pf = "0000:00:00.0"\nvfs = 1')
    start(ADDRESS, "--vfs", "2", "--driver", "vfio-pci")
    rebind()
    undone("what no file names is undone, though its driver was another meanwhile")
    start(ADDRESS, "--vfs", "2", "--driver", "vfio-pci")
    rebind()
    # As drivers do that take their functions along.
    put(f"{FUNCTION}/sriov_numvfs", "0")
    undone("where the functions have gone only the record goes")


def nic():
    put("/sys/bus/netdevsim/new_device", "79 1")
    # udevd gives its interface another name.
    settle()
    name = names(f"/sys/bus/netdevsim/devices/{NIC}/net")[0]
    address = "02:00:5e:00:00:11"
    status, said = start(f"netdevsim/{NIC}", "--vfs", "2", "--mac", address)
    shown = run("ip", "link", "show", name)
    check("functions of a NIC are made, and have their addresses", status == 0 and address in shown, said + shown)
    status, said = start(f"netdevsim/{NIC}", "--undo")
    check("and are removed", status == 0 and records() == [], said)
    status, said = start(f"netdevsim/{NIC}", "--vfs", "2", "--eswitch", "switchdev")
    mode = run("devlink", "dev", "eswitch", "show", f"netdevsim/{NIC}")
    check("the mode of its switch is set", status == 0 and "switchdev" in mode, said + mode)
    status, said = start(f"netdevsim/{NIC}", "--undo")
    mode = run("devlink", "dev", "eswitch", "show", f"netdevsim/{NIC}")
    check("and given back", status == 0 and "legacy" in mode and records() == [], said + mode)
    put("/sys/bus/netdevsim/del_device", "79")


def module():
    """The lab's own module plays the driver's. It has no driver for the drive, so that is where it ends."""
    run("rmmod", "vfio_synthetic")
    folder = f"/lib/modules/{os.uname().release}"
    os.makedirs(folder, exist_ok=True)
    shutil.copy(os.environ["VFIO_FERRY_LAB_SYNTHETIC"], f"{folder}/vfio_synthetic.ko")
    run("depmod")
    status, said = start(ADDRESS, "--vfs", "1", "--driver", "vfio_synthetic")
    check("a module is loaded", "modprobe vfio_synthetic" in said and os.path.exists("/sys/module/vfio_synthetic"), said)
    check("what can't be done then is undone", status == 1 and read(f"{FUNCTION}/sriov_numvfs") == "0" and records() == [], f"{status} {said}")


def main():
    with part("nvme"):
        nvme()
    with part("back"):
        comes_back()
    with part("nic"):
        nic()
    with part("module"):
        module()
    end()


if __name__ == "__main__":
    main()
