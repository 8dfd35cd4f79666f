#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mtty and synthetic devices come and go under udevd with this project's rules, while a program uses one of them, and
`vfio-ferry monitor` tells of it. Runs by under-udevd."""
import collections, grp, json, os, signal, socket, stat, subprocess, tempfile, threading
from checks import *

MTTY = "/sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2"
SYNTHETIC = "/sys/kernel/config/vfio_synthetic"
BATCH, TURNS = 5, 20
RULES = "/usr/lib/udev/rules.d/60-vfio-ferry.rules"
METRICS, SOCKET = "/run/monitor.prom", "/run/monitor-metrics"
HELD = os.environ["VFIO_FERRY_LAB_MTTY"].split()[5]
GONE = os.environ["VFIO_FERRY_LAB_MTTY"].split()[4]
ALL = "running stop stop-copy resuming running-p2p pre-copy pre-copy-p2p"
# What was there before, in the order of names.
THERE = sorted(os.environ["VFIO_FERRY_LAB_MTTY"].split() + [name for name in [os.environ.get("VFIO_FERRY_LAB_NVME")] if name])
# A group's node that is there all the time.
NODE = "/dev/vfio/" + os.path.basename(os.path.realpath(f"/sys/bus/mdev/devices/{HELD}/iommu_group"))
GROUP = grp.getgrnam("vfio-ferry").gr_gid


class Mtty:
    driver, states, dirty = "mtty", ALL, "none"

    def __init__(self, number):
        self.link = self.name = f"5f1ddc1e-0000-4000-8000-{number:012}"

    def make(self):
        put(f"{MTTY}/create", self.name)

    def remove(self):
        put(f"/sys/bus/mdev/devices/{self.name}/remove", "1")


class Synthetic:
    """It counts what is done to it."""
    # Its driver is in no table: that it can be migrated debugfs says, and what else it has nobody does.
    driver, states, dirty = "vfio_synthetic", "stop running stop-copy resuming", None

    def __init__(self, number):
        self.link = self.name = number if isinstance(number, str) else f"udev{number}"

    def make(self):
        os.mkdir(f"{SYNTHETIC}/{self.name}")
        put(f"{SYNTHETIC}/{self.name}/live", "1")

    def remove(self):
        os.rmdir(f"{SYNTHETIC}/{self.name}")

    def told(self):
        """What its referee has seen of those who use it. It is reset once as it is made, and each time that somebody binds it."""
        with open(f"/sys/kernel/debug/vfio_synthetic/{self.name}/referee.json") as file:
            told = json.load(file)
        return {name: told[name] for name in ("open", "state", "resets", "arcs", "arcs_refused", "arcs_failed", "bar_quiesced", "config_quiesced")}


UNTOUCHED = {"open": False, "state": "running", "resets": 1} | dict.fromkeys(("arcs", "arcs_refused", "arcs_failed", "bar_quiesced", "config_quiesced"), 0)


def states(text):
    return sorted((text or "").split())


def look(device):
    """Checks a device that udev is done with. Returns what is wrong."""
    link = f"{LINKS}/{device.link}"
    node, found, wrong = os.path.realpath(link), None, []
    status, found = os.stat(node), entry(node) or {}
    group = os.path.basename(os.path.realpath(f"/sys/dev/char/{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}/device/iommu_group"))
    for path in (node, f"/dev/vfio/{group}"):
        status = os.stat(path)
        if (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) != (0o660, 0, GROUP):
            wrong.append(f"{path} is {status.st_mode:o} {status.st_uid}:{status.st_gid}")
    if not os.path.samefile(f"/sys/dev/char/{os.major(os.stat(node).st_rdev)}:{os.minor(os.stat(node).st_rdev)}/device",
                            next(p for p in (f"/sys/bus/mdev/devices/{device.name}", f"/sys/bus/vfio-synthetic/devices/{device.name}") if os.path.exists(p))):
        wrong.append(f"{link} leads to another device")
    name = device.name if device.driver == "mtty" else node
    if (found.get("VFIO_FERRY_DEVICE"), found.get("VFIO_FERRY_DRIVER"), found.get("VFIO_FERRY_DIRTY")) != (name, device.driver, device.dirty) \
            or states(found.get("VFIO_FERRY_STATES")) != states(device.states) or len(found.get("VFIO_FERRY_TAG", "")) != 16:
        wrong.append(f"properties of {device.name}: {found}")
    if device.driver == "vfio_synthetic" and device.told() != UNTOUCHED:
        wrong.append(f"{device.name} was used: {device.told()}")
    return wrong


class Monitor:
    """`vfio-ferry monitor --json`, whose lines are kept."""

    def __init__(self, *options):
        self.file = tempfile.TemporaryFile("w+")
        # A shell in the background has it ignored, and then so does whoever it starts.
        heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        self.process = subprocess.Popen(["vfio-ferry", "monitor", "--json", *options], stdout=self.file, stderr=subprocess.PIPE, text=True,
                                        preexec_fn=heed)
        same("the monitor listens", self.process.stderr.readline(), "vfio-ferry monitor: listening\n")

    def lines(self):
        # Where it writes next is not moved by this.
        text = os.pread(self.file.fileno(), 1 << 26, 0).decode()
        return [json.loads(line) for line in text.splitlines(True) if line.endswith("\n")]

    def ends(self, number):
        self.process.send_signal(number)
        status = self.process.wait()
        same(f"the monitor ends with {number.name}", (status, self.process.stderr.read()), (0, ""))
        return self.lines()


class Holder:
    """A program that has a device open and uses it all the time."""

    def __init__(self, name, register=7):
        self.register = register
        self.process = subprocess.Popen(["device-holder", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        same("somebody holds a device", self.process.stdout.readline(), "ready\n")
        self.answers, self.used, self.goes_on = collections.Counter(), 0, True
        for command in (f"poke 0 {register} 0x5a", "set pre-copy"):
            same(command, self.ask(command), "ok")
        self.thread = threading.Thread(target=self.use)
        self.thread.start()

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def use(self):
        while self.goes_on:
            self.answers[self.ask(f"peek 0 {self.register}") + " " + self.ask("state").split()[-1]] += 1
            time.sleep(0.1)

    def ends(self):
        self.goes_on = False
        self.thread.join()
        same("whoever held a device was not disturbed", list(self.answers), ["0x5a pre-copy"])
        check("and used it all the time", self.answers.total() > 100, self.answers)
        same("it is let go of", (self.ask("set running"), self.ask("quit")), ("ok", "ok"))
        self.process.wait()


def coldplug():
    run("udevadm", "trigger", "--action=add", "--subsystem-match=vfio-dev", "--subsystem-match=vfio", "--subsystem-match=misc")
    settle()
    devices = [Mtty(0) for _ in range(6)]
    for device, name in zip(devices, os.environ["VFIO_FERRY_LAB_MTTY"].split()):
        device.name = device.link = name
    same("devices that were there before", [wrong for device in devices for wrong in look(device)], [])
    same("their links", names(LINKS), THERE)
    status = os.stat("/dev/iommu")
    same("/dev/iommu", (stat.S_IMODE(status.st_mode), status.st_gid), (0o660, GROUP))
    # The group's node has a mode, and nothing was started for it.
    same("where devices have nodes, a group's says nothing", "VFIO_FERRY_DEVICES" in (entry(NODE) or {}), False)


def without_nodes():
    """A kernel whose devices have no nodes: the rule for groups' nodes as it is, but for a program that says what vfio-ferry says
    there, and for the test whether there are nodes."""
    with open(RULES) as file:
        rule = next(line for line in file if line.startswith('SUBSYSTEM=="vfio"') and "IMPORT" in line)
    rule = rule.replace('TEST!="/sys/class/vfio-dev/*/dev", ', "").replace("/usr/bin/vfio-ferry udev $devpath", "/bin/cat /run/said")
    put("/run/said", "VFIO_FERRY_DEVICES=a b\n.VFIO_FERRY_LINKS=vfio/by-path/a vfio/by-path/b")
    os.makedirs("/run/udev/rules.d", exist_ok=True)
    put("/run/udev/rules.d/61-lab.rules", rule)
    run("udevadm", "control", "--reload")
    run("udevadm", "trigger", "--settle", NODE)
    same("a group's node has a link for each device", [os.path.realpath(f"{LINKS}/{name}") for name in "ab"], [NODE] * 2)
    same("and says whose it is", {name: value for name, value in entry(NODE).items() if "FERRY" in name}, {"VFIO_FERRY_DEVICES": "a b"})
    os.remove("/run/udev/rules.d/61-lab.rules")
    run("udevadm", "control", "--reload")
    run("udevadm", "trigger", "--settle", NODE)
    same("which goes with the rule", names(LINKS), THERE)


def come_and_go():
    """All of them appear as they should, and leave nothing."""
    wrong, began = [], time.monotonic()
    for turn in range(TURNS):
        devices = [kind(turn * BATCH + number) for number in range(BATCH) for kind in (Mtty, Synthetic)]
        for device in devices:
            device.make()
        for device in devices:
            link = f"{LINKS}/{device.link}"
            # udev writes its database before it makes links, or after; and programs that wait are told last.
            until(link, lambda: os.path.exists(link) and entry(os.path.realpath(link)))
            wrong += look(device)
        for device in devices:
            device.remove()
    print(f"   {time.monotonic() - began:.0f} s for {2 * BATCH * TURNS} devices", flush=True)
    same(f"{2 * BATCH * TURNS} devices appear with properties, modes and links", wrong, [])


def manager():
    """What somebody changes after a device has appeared stays, also when its event is played again."""
    node = os.path.realpath(f"{LINKS}/{HELD}")
    os.chown(node, 0, GROUP + 1)
    run("udevadm", "trigger", "--settle", node)
    same("a VMM's manager keeps a node that it has taken", os.stat(node).st_gid, GROUP + 1)
    same("and the node its link and its properties", (os.path.realpath(f"{LINKS}/{HELD}"), "VFIO_FERRY_TAG" in entry(node)), (node, True))
    os.chown(node, 0, GROUP)


def counted(lines):
    counts = collections.Counter()
    for line in lines:
        if line["kind"] == "mdev" and line["name"].startswith("5f1ddc1e"):
            counts["mdev", line["action"]] += 1
        elif line["kind"] == "device":
            counts["synthetic" if "/udev" in line["sysfs"] else "mtty" if "/5f1ddc1e" in line["sysfs"] else "other", line["action"]] += 1
        elif line["kind"] == "group":
            counts["group", line["action"]] += 1
    return counts


def claims():
    """Which links udev has given to whom. A list without anybody in it systemd 252 leaves, whosever it was."""
    lists = {name: [owner for owner in names(f"/run/udev/links/{name}") if owner != ".lock"] for name in names("/run/udev/links")}
    return {name: owners for name, owners in lists.items() if owners}


def leftovers(before):
    settle()
    same("links are those of before", names(LINKS), before[0])
    same("udev's database is as it was before", names("/run/udev/data"), before[1])
    same("and so are its lists of who wants which link", claims(), before[2])


def now():
    return names(LINKS), names("/run/udev/data"), claims()


def scraped():
    """The monitor's metrics say what has happened, by its socket and in its file."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(SOCKET)
        link.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        head, _, page = b"".join(iter(lambda: link.recv(65536), b"")).decode().partition("\r\n\r\n")
    check("somebody who asks in HTTP is answered so", head.startswith("HTTP/1.0 200 OK\r\n"), head)
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    count = 2 * BATCH * TURNS
    events = [values.get(f'vfio_ferry_monitor_events_total{{action="{action}",kind="device"}}') for action in ("add", "remove")]
    same("events are counted", events, [str(count + 2), str(count + 2)])
    same("none were lost", values.get("vfio_ferry_monitor_overruns_total"), "0")
    same("devices by driver and state", values.get('vfio_ferry_devices{driver="mtty",state="running"}'), "6")
    totals = [f'vfio_ferry_monitor_events_total{{action="{action}",kind="device"}} {count + 2}\n' for action in ("add", "remove")]
    until("the file says the same", lambda: all(total in read(METRICS) for total in totals))


def main():
    with part("rules"):
        run("udevadm", "control", "--ping")
        # udevadm verify came with systemd 254; what an older one has to say of rules it says in the journal, below.
        if "verify" in subprocess.run(["udevadm", "--help"], capture_output=True, text=True).stdout:
            run("udevadm", "verify", RULES)
            check("udevadm verify has nothing to say", True)
        coldplug()
        without_nodes()
    before = now()
    with part("devices"):
        holder, monitor = Holder(HELD), Monitor("--metrics", METRICS, "--metrics-socket", SOCKET)
        deaf = Monitor("--buffer", "1", "--existing")
        deaf.process.send_signal(signal.SIGSTOP)
        until("it stands still", lambda: read(f"/proc/{deaf.process.pid}/stat").rsplit(")", 1)[1].split()[0] == "T")
        counting = Synthetic("held")
        counting.make()
        until(counting.link, lambda: os.path.exists(f"{LINKS}/{counting.link}"))
        settle()
        same("nobody has used a device that has just appeared", counting.told(), UNTOUCHED)
        # Its scratch registers begin there.
        second = Holder(counting.name, 0x10)
        used = counting.told()
        same("its holder has", (used["open"], used["state"], used["resets"] > 1), (True, "pre-copy", True))
        come_and_go()
        manager()
        # Its event once more.
        node = os.path.realpath(f"{LINKS}/{counting.link}")
        run("udevadm", "trigger", "--settle", node)
        same("a device that is held keeps its properties", entry(node).get("VFIO_FERRY_DRIVER"), "vfio_synthetic")
        same("and nobody but its holder has used it", counting.told(), used)
        second.ends()
        counting.remove()
        leftovers(before)
        holder.ends()
        # One goes that was there and one comes, of which the one that could not listen hears nothing in time.
        stays = Mtty(999)
        put(f"/sys/bus/mdev/devices/{GONE}/remove", "1")
        stays.make()
        settle()
        count = BATCH * TURNS
        scraped()
        told = counted(monitor.ends(signal.SIGTERM))
        same("its metrics went with it", [path for path in (METRICS, SOCKET) if os.path.exists(path)], [])
        for kind in ("mtty", "synthetic", "mdev"):
            extra = (kind != "synthetic" and 1) or 0
            same(f"the monitor tells of each {kind} that comes", told[kind, "add"], count + extra)
            same(f"and of each {kind} that goes", told[kind, "remove"], count)
        same("the monitor tells of each group", (told["group", "add"], told["group", "remove"]), (2 * count + 2, 2 * count + 2))
        same("and of what else there was", [told["other", action] for action in ("add", "remove", "change")], [1, 2, 2])
    with part("overrun"):
        deaf.process.send_signal(signal.SIGCONT)
        until("it has looked again", lambda: any(line.get("name") == stays.name and line["kind"] == "device" for line in deaf.lines()))
        lines = deaf.ends(signal.SIGINT)
        same("it began with what there was", [line["name"] for line in lines if line["action"] == "exists" and line["kind"] == "device"],
             THERE)
        same("the monitor that stood still says that it has lost events", lines[[line["action"] for line in lines].index("overrun")]["error"], "ENOBUFS")
        there = {}
        for line in lines:
            if line["action"] == "overrun":
                continue
            if line["action"] == "remove":
                there.pop(line["sysfs"], None)
            else:
                there[line["sysfs"]] = line
        same("and knows all the same what there is", sorted(line["name"] for line in there.values() if line["kind"] == "device"),
             sorted(set(THERE) - {GONE} | {stays.name}))
        found = {(line["action"], line["name"]) for line in lines if line.get("found_by_looking") and line["kind"] == "device"}
        same("what it found so is marked", {("remove", GONE), ("add", stays.name)} <= found, True)
        check("with all that is known", there[[path for path in there if path.endswith("vfio-dev/" + os.path.basename(os.path.realpath(f"{LINKS}/{stays.link}")))][0]]["driver"] == "mtty")
    with part("pipe"):
        reading, writing = os.pipe()
        piped = subprocess.Popen(["vfio-ferry", "monitor"], stdout=writing, stderr=subprocess.PIPE, text=True)
        os.close(writing)
        piped.stderr.readline()
        os.close(reading)
        stays.remove()
        same("the monitor ends where nobody reads", (piped.wait(), piped.stderr.read()), (1, ""))
    with part("journal"):
        same("udevd has nothing to complain of", journal_of_udevd(), "")
    end()


if __name__ == "__main__":
    main()
