#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Moves devices and guest memory by `vfio-ferry helper`, as a VMM would, and checks what it is told.

Runs as root on a kernel with mtty and synthetic devices, iommufd and VFIO cdevs (tools/lab/run). One line a check on standard
output, "ok ..." or "FAILED ..."; exit status 0 if none failed, else 1.
"""
import argparse, fcntl, os, signal, socket, struct, sys, tempfile, time, traceback
import vmm
from vmm import *

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE  # of what can't change any more
failures = 0


def check(what, right, detail=""):
    global failures
    failures += not right
    print(f"ok {what}" if right else f"FAILED {what}: {detail}", flush=True)


def same(what, value, expected):
    check(what, value == expected, f"{value!r:.300}, not {expected!r:.300}")


def refused(what, code, host, request, descriptors=(), **fields):
    try:
        host.call(request, descriptors, **fields)
        check(what, False, "it was not refused")
    except Refused as error:
        check(what, error.code == code and error.text != "" and error.packet.request == P.numbers[request], f"{error}; not {code}")


def until(what, condition, expected):
    deadline = time.monotonic() + PATIENCE
    while (value := condition()) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    same(what, value, expected)


def conversation(host, _):
    host.start(hello=False)
    refused("before HELLO a request is refused", "WRONG_PHASE", host, "STATUS")
    hello = host.call("HELLO", major=1, minor=7, features=0xFF00 | P.FEATURE_PAGES, version="client.py")
    same("HELLO: the lower minor", (hello.major, hello.minor), (P.VERSION_MAJOR, P.VERSION_MINOR))
    same("HELLO: features that both have", hello.features, P.FEATURE_PAGES)
    check("HELLO: limits", 0 < hello.max_devices <= P.MAX_DEVICES and 0 < hello.max_memory <= P.MAX_MEMORY
          and 0 < hello.max_mappings <= P.MAX_MAPPINGS and 0 < hello.max_blob <= P.MAX_BLOB and hello.version, vars(hello))
    refused("a second HELLO", "WRONG_PHASE", host, "HELLO", major=1, version="again")
    for number in (1, 2):
        info = host.add(number)
        check(f"device {number} is described", info.device == number and info.state == P.STATE_RUNNING and info.features == 7 and info.driver and info.reason
              and info.can == P.DEVICE_CAN_SAVE | P.DEVICE_CAN_LOAD | P.DEVICE_CAN_RESUME and info.tracker == P.TRACKER_DEVICE, vars(info))
    refused("a device twice", "EXISTS", host, "DEVICE_ADD", [host.devices[0].fd, host.iommufd], device=1, space=host.space,
            flags=P.DEVICE_HAS_IOMMUFD, tracker=P.TRACKER_AUTO, name=host.devices[0].uuid)
    refused("a device that there is not", "NO_SUCH", host, "DEVICE_DESCRIBE", device=3)
    for request in ("STEP", "QUIESCE", "COMPLETE", "COMMIT"):
        refused(f"{request} in SETUP", "WRONG_PHASE", host, request)
    refused("BLOB_READ in SETUP", "WRONG_PHASE", host, "BLOB_READ", device=1)
    file = memory_file(b"x" * 100)
    refused("a blob that is too large", "LIMIT", host, "DEVICE_BLOB", [file], device=1, size=P.MAX_BLOB + 1)
    refused("a blob beyond its file", "BAD_ARGUMENT", host, "DEVICE_BLOB", [file], device=1, size=101)
    os.close(file)
    host.call("DEVICE_REMOVE", device=2)
    refused("a device that was removed", "NO_SUCH", host, "DEVICE_DESCRIBE", device=2)
    same("added again", host.add(2).device, 2)
    same("its state by an arc", host.call("DEVICE_ARC", device=1, state=P.STATE_STOP).state, P.STATE_STOP)
    same("the kernel says so", host.states(), "STOP RUNNING")
    host.call("RESUME")
    same("RESUME in SETUP", host.states() + " " + host.phase(), "RUNNING RUNNING SETUP")
    same("STATUS", (host.call("STATUS").devices, host.call("STATUS").hung, host.call("STATUS").vcpus_stopped), (2, 0, 0))
    same("a farewell in SETUP", host.end(), 0)


def packets(host, _):
    def hello(text, **fields):
        fields = dict(header_type=P.HELLO, header_size=P.size("hello"), header_number=1, major=1) | fields
        return text, "VERSION" if fields["major"] != 1 else "BAD_PACKET", P.pack("hello", **fields)

    for what, code, packet in (
            hello("another major version", major=2), hello("a size that is wrong", header_size=64), hello("a number of 0", header_number=0),
            hello("a descriptor that is not there", header_descriptors=1), hello("bytes after a NUL", version="a\0b")):
        host.start(hello=False)
        host.link.waiting = {1: "HELLO"}
        host.link.sock.send(packet)
        while host.link.receive(time.monotonic() + PATIENCE):
            pass
        got = list(host.link.replies.values()) + host.link.events
        same(f"{what}: refused, and hung up", [P.name("CODE", packet.code) for packet in got], ["CODE_" + code])
        print(f"   number {[packet.header_number for packet in got]}, exit status {host.end()}")


def broken(host, what):
    """What a host says when its stream breaks off: LINK_LOST, then FAILED with CODE_LINK, and it is as before."""
    failed = host.event("FAILED", 30)
    same(f"{what}: LINK_LOST, and its code", ("EVENT_LINK_LOST" in [e.what for e in host.link.events], P.name("CODE", failed.code)), (True, "CODE_LINK"))
    print(f"   {failed.text}")
    same(f"{what}: back", host.phase() + " " + host.states(), "SETUP RUNNING RUNNING")


def move(source, target):
    source.start(), target.start()
    for number in (1, 2):
        source.devices[number - 1].mark(0x15 * number), target.devices[number - 1].mark(0)
    config = os.urandom(4096)
    blob(source, 1, config, offset=123)
    begin(source, target)
    refused("QUIESCE before VCPUS_STOPPED", "WRONG_PHASE", source, "QUIESCE")
    refused("COMPLETE in PRE_COPY", "WRONG_PHASE", source, "COMPLETE")
    refused("DEVICE_RESET in PRE_COPY", "WRONG_PHASE", source, "DEVICE_RESET", device=1)
    refused("BLOB_READ in LOADING", "WRONG_PHASE", target, "BLOB_READ", device=1)
    until("in pre-copy until the stop", source.states, "PRE_COPY PRE_COPY")
    advance(source, "STOPPED")
    refused("COMMIT before COMPLETE", "WRONG_PHASE", source, "COMMIT")
    same("source stopped", source.phase() + " " + source.states(), "STOPPED STOP_COPY STOP_COPY")
    blob(source, 1, config)
    source.call("COMPLETE")
    same("source complete", source.phase(), "COMPLETE")
    target.event("LOADED")
    same("target loaded", target.phase() + " " + target.states(), "LOADED STOP STOP")
    size, content, seals = blob_read(target, 1)
    same("the blob", (size, content), (4096, config))
    same("it can't change any more: its seals", seals & SEALS, SEALS)
    same("no blob", blob_read(target, 2), (0, None))
    same("the blob a second time", blob_read(target, 1)[1], config)
    source.call("COMMIT")
    same("source committed", source.phase() + " " + source.states(), "COMMITTED STOP STOP")
    refused("RESUME after COMMIT", "WRONG_PHASE", source, "RESUME")
    refused("ABORT after COMMIT", "WRONG_PHASE", source, "ABORT")
    same("still stopped", source.states(), "STOP STOP")
    target.call("RESUME")
    same("target runs", target.phase() + " " + target.states(), "SETUP RUNNING RUNNING")
    for number, device in enumerate(target.devices, 1):
        same(f"marks of device {number}", device.marks(), MTTY.marks_of(0x15 * number))
    same("told to end in COMMITTED and in SETUP they do", (source.end(signal.SIGTERM), target.end(signal.SIGINT)), (0, 0))
    same("and have nothing to say", source.said() + target.said(), "")
    same("what was moved runs on", target.states(), "RUNNING RUNNING")
    source.start()
    same("found stopped", [(info.state, info.can & 7) for info in source.info], [(P.STATE_STOP, 7)] * 2)
    source.call("RESUME")
    same("and resumed", source.states(), "RUNNING RUNNING")


def scraped(path, request=b""):
    """What a helper says to somebody at its metrics socket."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(PATIENCE)
        link.connect(path)
        link.sendall(request)
        link.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: link.recv(65536), b"")).decode()


def tags(source, target):
    """What the helpers can't find out is compared where both VMMs hand it over; no VMM can talk what they do find out away."""

    def refused_tag(what, code, data, words, number=1):
        try:
            tag(source, number, data)
            check(what, False, "it was not refused")
        except Refused as error:
            check(what, error.code == code and words in error.text and error.packet.device in (0, number), f"{error}; not {code}, with {words}")

    source.start(), target.start()
    whole = tag_of(source, 1)
    refused_tag("no tag", "BAD_ARGUMENT", b"", "no compatibility tag")
    refused_tag("a tag of another version", "BAD_ARGUMENT", b"vfio-ferry-tag 9\n", "version 9")
    refused_tag("a tag with a line that is none", "BAD_ARGUMENT", whole + b"zz\n", f"line {whole.count(10) + 1}")
    refused_tag("a tag that is too long", "LIMIT", whole + b"z" * P.MAX_TAG, "32768")
    refused_tag("a tag of another type of device", "REFUSED", tag_of(source, 1, mdev_type="mtty-1"), "mdev_type mtty-1, and here that is mtty-2")
    refused_tag("a tag of a device of another driver", "REFUSED", tag_of(source, 1, driver="mlx5_vfio_pci"), "driver mlx5_vfio_pci")
    refused_tag("a tag of another kind of device", "REFUSED", tag_of(source, 1, vendor="15b3"), "vendor 15b3, and here there is none")
    refused_tag("a tag of another host", "REFUSED", tag_of(source, 1, kernel="1.0"), "kernel 1.0")
    refused_tag("a tag of a device that there is not", "NO_SUCH", whole, "", 3)
    tag(source, 1, tag_of(source, 1, mac="02:00:00:00:00:01", trust="on"), offset=77)
    refused_tag("a second tag", "EXISTS", whole, "remove it")
    tag(target, 1, tag_of(target, 1, mac="02:00:00:00:00:02"))
    begin(source, target)
    failed = target.event("FAILED", 30)
    check("another MAC is refused", P.name("CODE", failed.code) == "CODE_STREAM"
          and "mac is different: 02:00:00:00:00:01 on the source, 02:00:00:00:00:02 on" in failed.text, failed.text)
    same("before anything is asked of a device", [e.what for e in target.link.events if e.what in ("EVENT_ARC", "EVENT_RESET")], [])
    same("the target is as it was", target.phase() + " " + target.states(), "SETUP RUNNING RUNNING")
    broken(source, "its source")
    refused_tag("a tag stays after an abort", "EXISTS", whole, "")
    target.end()
    target.start()
    tag(target, 1, tag_of(target, 1, mac="02:00:00:00:00:01", trust="off"))
    begin(source, target)
    refused_tag("a tag in PRE_COPY", "WRONG_PHASE", tag_of(source, 2), "", 2)
    event = target.event("TAG")
    same("what is let pass is told", (event.device, P.name("PHASE", event.phase), event.text),
         (1, "PHASE_LOADING", "trust is different: on on the source, off on the destination"))
    advance(source, "COMMITTED")
    target.event("LOADED")
    same("once", [e.text for e in target.link.events if e.what == "EVENT_TAG"], [])
    target.call("RESUME")
    same("moved", source.states() + " " + target.states(), "STOP STOP RUNNING RUNNING")
    same("farewells", (source.end(), target.end()), (0, 0))
    check("the log has it, too", "trust is different" in target.said(), target.said())
    source.start(hello=False)
    source.call("HELLO", major=1, minor=0, version="old")
    source.add(1), source.add(2)
    refused_tag("a tag from a VMM that speaks 1.0", "UNKNOWN_REQUEST", whole, "1.1")
    source.call("RESUME")
    same("a farewell", source.end(), 0)


def metrics(source, target):
    """A confined helper goes on writing its own file and answering at its own socket, and takes both with it."""
    folder = tempfile.mkdtemp()
    path, file = folder + "/socket", folder + "/helper.prom"
    source.options = ["--metrics", file, "--metrics-socket", path, "--metrics-name", "vm 1"]

    def value(line):
        found = [text.rpartition(" ")[2] for text in scraped(path).splitlines() if text.rpartition(" ")[0] == f"vfio_ferry_helper_{line}"]
        return found[0] if found else None

    source.start(), target.start()
    until("its devices", lambda: value('devices{helper="vm 1"}'), "2")
    begin(source, target)
    until("its phase", lambda: value('phase{helper="vm 1",phase="pre-copy"}'), "1")
    advance(source, "COMMITTED")
    target.event("LOADED")
    until("committed", lambda: value('phase{helper="vm 1",phase="committed"}'), "1")
    same("a session", [value(f'sessions_total{{helper="vm 1",kind="{kind}"}}') for kind in ("save", "load")], ["1", "0"])
    same("arcs", value('arc_duration_seconds_count{helper="vm 1",to="stop-copy"}'), "2")
    check("how long the stop took", float(value('last_stop_seconds{helper="vm 1"}')) > 0)
    page = scraped(path, b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n")
    check("an HTTP answer", page.startswith("HTTP/1.0 200 OK\r\n") and "\r\n\r\n# HELP vfio_ferry_helper_info " in page, page[:300])
    check("and others", scraped(path, b"GET /etc/passwd HTTP/1.0\r\n\r\n").startswith("HTTP/1.0 404 "))
    until("the file says the same", lambda: 'phase{helper="vm 1",phase="committed"} 1' in open(file).read(), True)
    same("nothing else is in its folder", sorted(os.listdir(folder)), ["helper.prom", "socket"])
    target.call("RESUME")
    source.call("STATUS")
    same("farewells", (source.end(), target.end()), (0, 0))
    same("neither file is left", os.listdir(folder), [])
    same("it was refused nothing", [line for line in source.said().splitlines() if "refused" in line], [])
    os.rmdir(folder)
    source.options = []
    source.start().call("RESUME")


def abort(source, target, phase):
    source.start(), target.start()
    if phase != "SETUP":
        begin(source, target)
    if phase in ("STOPPED", "COMPLETE", "COMMITTED"):
        advance(source, phase)
    if phase == "QUIESCING":
        source.call("VCPUS_STOPPED")
        quiesce = source.link.post("QUIESCE")
    if phase == "COMMITTED":
        refused("abort in COMMITTED", "WRONG_PHASE", source, "ABORT")
        source.end(), target.end()
        source.start().call("RESUME")
        target.start().call("RESUME")
    else:
        source.call("ABORT")
        if phase == "QUIESCING":
            try:
                print("   QUIESCE came first:", source.link.reply(quiesce))
            except Refused as error:
                same("abort in QUIESCING ends QUIESCE", error.code, "ABORTED")
        same(f"abort in {phase}: source is back", source.phase() + " " + source.states(), "SETUP RUNNING RUNNING")
        if phase == "COMPLETE":  # the stream has come to its end: the target waits for its VMM's word
            target.event("LOADED")
            same("the target stays", target.phase(), "LOADED")
            target.call("ABORT")
        elif phase != "SETUP":
            broken(target, f"abort in {phase}: target")
        same(f"abort in {phase}: target is back", target.phase() + " " + target.states(), "SETUP RUNNING RUNNING")
        if phase == "STOPPED":  # and once more, by the same helpers
            begin(source, target)
            advance(source, "COMMITTED")
            target.event("LOADED")
            target.call("RESUME")
            same("moved after an abort", source.states() + " " + target.states(), "STOP STOP RUNNING RUNNING")
            source.end()
            source.start().call("RESUME")
    same(f"abort in {phase}: farewells", (source.end(), target.end()), (0, 0))


def abort_target(source, target, phase):
    source.start(), target.start()
    begin(source, target)
    if phase == "LOADED":
        advance(source, "COMPLETE")
        target.event("LOADED")
    target.call("ABORT")
    same(f"abort in {phase}: target is back", target.phase() + " " + target.states(), "SETUP RUNNING RUNNING")
    if phase == "LOADING":
        broken(source, "its source")
    else:
        same("its source stays", source.phase(), "COMPLETE")
        source.call("RESUME")
    same(f"abort in {phase}: source runs", source.phase() + " " + source.states(), "SETUP RUNNING RUNNING")
    same(f"abort in {phase}: farewells", (source.end(), target.end()), (0, 0))


def left(host, reason, word):
    """A helper that ends in the middle leaves its devices as they are, and one line that says so: why, where it was, and where they are."""
    line, where = host.said(), host.states()
    same(f"{host.name}: {word} is where the devices are", where, " ".join([word.upper().replace("-", "_")] * 2))
    named = [f"{device.name} {word}" for device in host.devices]
    check(f"{host.name}: one line on that: {reason}", line.count("\n") == 1 and f"{reason}: " in line and ", ".join(named) in line, line)


def ending(source, target, phase):
    """The source's VMM hangs up; and once more, but its helper is told to end. Either way nothing moves towards running."""
    told = {"PRE_COPY": signal.SIGTERM, "STOPPED": signal.SIGINT, "COMPLETE": signal.SIGHUP}[phase]
    word = {"PRE_COPY": "pre-copy", "STOPPED": "stop-copy", "COMPLETE": "stop"}[phase]
    named = phase.lower().replace("_", "-")
    source.start()
    for by in None, told:
        reason = "the VMM is gone" if by is None else f"ended by signal {by:d}"
        if target.process is None:
            target.start().call("RESUME")
        begin(source, target)
        if phase != "PRE_COPY":
            advance(source, phase)
        if phase == "COMPLETE":
            target.event("LOADED")
        else:
            until("the target takes it in", lambda: "RESUMING" in target.states(), True)
        if phase == "PRE_COPY":
            until("the source's helper knows where its devices are", lambda: {source.call("DEVICE_DESCRIBE", device=n).state for n in (1, 2)},
                  {P.STATE_PRE_COPY})
        same(f"{reason}: the source's helper ends with", source.end(by), 1)
        left(source, f"{reason} in {named}", word)
        if phase == "COMPLETE":
            same("the target stays", target.phase(), "LOADED")
            same(f"{reason}: the target's helper ends with", target.end(by), 1)
            left(target, f"{reason} in loaded", "stop")
        else:
            broken(target, "the target")
        source.start().call("RESUME")
    if target.process is None:
        target.start().call("RESUME")
    same("and brought back", source.states() + " " + target.states(), "RUNNING RUNNING RUNNING RUNNING")
    same("farewells", (source.end(), target.end()), (0, 0))


def crash(source, target, phase):
    """The target's VMM hangs up in the middle, and then its helper is told to end there; the next helper finds RESUMING."""
    source.start(), target.start()
    for by in None, signal.SIGTERM:
        reason = "the VMM is gone" if by is None else f"ended by signal {by:d}"
        begin(source, target)
        until("the target takes it in, and its helper knows", lambda: {target.call("DEVICE_DESCRIBE", device=n).state for n in (1, 2)},
              {P.STATE_RESUMING})
        same(f"{reason}: the target's helper ends with", target.end(by), 1)
        left(target, f"{reason} in loading", "resuming")
        broken(source, "the source")
        target.start()
        for number, info in enumerate(target.info, 1):
            same("what it finds", (P.name("STATE", info.state), info.can), ("STATE_RESUMING", P.DEVICE_NEEDS_RESET))
            same("after a reset", target.call("DEVICE_RESET", device=number).state, P.STATE_RUNNING)
    same("farewells", (source.end(), target.end()), (0, 0))


def killed(source, target, phase):
    """The source's helper dies; the VMM starts another."""
    source.start(), target.start()
    begin(source, target)
    advance(source, phase)
    source.process.kill()
    source.end()
    broken(target, "the target")
    source.start()
    same("what the next finds", [(P.name("STATE", i.state), i.can) for i in source.info], [("STATE_STOP_COPY", P.DEVICE_CAN_RESUME)] * 2)
    source.call("RESUME")
    same("and brings back", source.states(), "RUNNING RUNNING")
    same("farewells", (source.end(), target.end()), (0, 0))


def found(source, _):
    """A helper dies with a device in each state; the next says what the document's table has, and does it."""
    anything, back, reset = P.DEVICE_CAN_SAVE | P.DEVICE_CAN_LOAD | P.DEVICE_CAN_RESUME, P.DEVICE_CAN_RESUME, P.DEVICE_NEEDS_RESET
    table = [("RUNNING", anything), ("RUNNING_P2P", anything), ("STOP", anything), ("PRE_COPY", back), ("PRE_COPY_P2P", back),
             ("STOP_COPY", back), ("RESUMING", reset)]  # mtty has no way into ERROR: see found_in_error
    source.start()
    for state, can in table:
        if state != "RUNNING":
            source.call("DEVICE_ARC", device=1, state=getattr(P, "STATE_" + state))
        source.process.kill()
        source.end()
        source.start()
        same(f"found in {state}", (P.name("STATE", source.info[0].state), source.info[0].can), ("STATE_" + state, can))
        if can == reset:
            refused("RESUME of what only a reset brings back", "REFUSED", source, "RESUME")
            source.call("DEVICE_RESET", device=1)
        source.call("RESUME")
        same(f"brought back from {state}", source.states(), "RUNNING RUNNING")
    same("farewell", source.end(), 0)


def found_in_error(source, target):
    """A device fails its way into the stop, and its helper dies: the next says that only a reset brings it back, and that does."""
    source.start(), target.start()
    source.devices[0].set("arc_fail", "pre-copy-p2p:stop-copy 1 5 error")
    begin(source, target)
    source.event("READY")
    source.call("VCPUS_STOPPED")
    refused("QUIESCE of a device that fails", "DEVICE", source, "QUIESCE")
    same("the other is back", source.phase() + " " + source.states(), "SETUP ERROR RUNNING")
    source.process.kill()
    source.end()
    broken(target, "the target")
    source.start()
    same("found in ERROR", [(P.name("STATE", i.state), i.can) for i in source.info],
         [("STATE_ERROR", P.DEVICE_NEEDS_RESET), ("STATE_RUNNING", P.DEVICE_CAN_SAVE | P.DEVICE_CAN_LOAD | P.DEVICE_CAN_RESUME)])
    refused("RESUME of what only a reset brings back", "REFUSED", source, "RESUME")
    refused("an arc out of ERROR", "DEVICE", source, "DEVICE_ARC", device=1, state=P.STATE_RUNNING)
    same("it is there still", source.states(), "ERROR RUNNING")
    info = source.call("DEVICE_RESET", device=1)
    same("after a reset", (P.name("STATE", info.state), info.can), ("STATE_RUNNING", P.DEVICE_CAN_SAVE | P.DEVICE_CAN_LOAD | P.DEVICE_CAN_RESUME))
    begin(source, target)
    advance(source, "COMMITTED")
    target.event("LOADED")
    target.call("RESUME")
    same("and it can be moved", source.states() + " " + target.states(), "STOP STOP RUNNING RUNNING")
    same("farewells", (source.end(), target.end()), (0, 0))


def reset_by_guest(source, target):
    """The guest resets a device in pre-copy: its VMM is told which, its state is sent anew, and the move comes to its end."""
    source.start(), target.start()
    begin(source, target)
    source.event("READY")
    source.devices[1].reset()
    event = source.event("RESET")
    same("RESET: its device and phase", (event.device, P.name("PHASE", event.phase)), (2, "PHASE_PRE_COPY"))
    check("RESET: in words", "its guest has reset it" in event.text, event.text)
    until("in pre-copy again", source.states, "PRE_COPY PRE_COPY")
    advance(source, "COMMITTED")
    target.event("LOADED")
    target.call("RESUME")
    same("and moved", source.states() + " " + target.states(), "STOP STOP RUNNING RUNNING")
    same("farewells", (source.end(), target.end()), (0, 0))


def unbinding(source, target, way):
    """The kernel takes a device from its driver while the helper alone holds it: that goes on as soon as the helper lets go.

    From the end of its session the helper has 0.9 s, by its own clock, or its reply to DEVICE_REMOVE is an error. Once it has let go
    nobody does anything any more, and the kernel has a second: it needs some milliseconds of that, on a busy machine too.
    """
    how, phase = way.split(" in ")
    source.start(), target.start()
    host = target if phase == "LOADING" else source
    if phase != "SETUP":
        begin(source, target)
        until("the target takes it in", lambda: "RESUMING" in target.states(), True)
    device, helper = host.devices[0], host.process.pid
    node = os.fstat(device.fd).st_rdev
    device.close()
    check(f"{way}: the helper has the device", holds(helper, node) > 0)
    unbound = device.unbind()
    until(f"{way}: the kernel waits for the helper", lambda: sleeps(unbound), True)
    began = time.monotonic()
    if how == "DEVICE_REMOVE":
        host.call("DEVICE_REMOVE", device=1)
        free = time.monotonic()
        same(f"{way}: with its reply the helper has let go", holds(helper, node), 0)
    else:
        status = host.end()
        free = time.monotonic()
        same(f"{way}: the helper has ended", status, 0 if phase == "SETUP" else 1)
    unbound.join(PATIENCE)
    took = time.monotonic() - free
    check(f"{way}: the device is unbound", not unbound.is_alive() and not os.path.exists(device.path + "/driver"), f"after {took:.3f} s")
    check(f"{way}: within a second", took < 1, f"{took:.3f} s after the helper had let go")
    print(f"   let go after {(free - began) * 1000:.1f} ms, unbound {took * 1000:.1f} ms later")
    source.end(), target.end()


def holds(process, node):
    """How many descriptors of a device a process has."""
    count = 0
    for entry in os.scandir(f"/proc/{process}/fd"):
        try:
            count += entry.stat().st_rdev == node
        except FileNotFoundError:  # closed since
            pass
    return count


def sleeps(thread):
    """Whether a thread waits in write(2)."""
    folder = f"/proc/self/task/{thread.native_id}/"
    return open(folder + "stat").read().rpartition(")")[2].split()[0] in "SD" and open(folder + "syscall").read().split()[0] == "1"


def prepare(source, target, by_helper, huge=False):
    for host in source, target:
        host.start(add=False)
        host.add(1, tracker=P.TRACKER_EVERYTHING)
        host.add(2)
    size = sum(size for _, size in RANGES)
    memories = Memory(source, os.urandom(size), huge), Memory(target, bytes(size), huge)
    memories[0].add(by_helper)
    if by_helper:
        memories[1].add(True)
    return memories


def tracking_add(host, bitmap, guest):
    """Says that a page is dirty; False where the helper does not know this request."""
    [(word, bit)] = bitmap.pages([(guest, 1)])
    file = memory_file(bytes(8 * len(bitmap.words)))
    os.pwrite(file, struct.pack("Q", 1 << bit), 8 * word)
    try:
        host.call("TRACKING_ADD", [file])
    except Refused as error:
        same("TRACKING_ADD", error.code, "UNKNOWN_REQUEST")
        return False
    finally:
        os.close(file)
    return True


def by_helper(source, target, huge=False):
    here, there = prepare(source, target, True, huge)
    refused("guest memory that overlaps some", "EXISTS", source, "MEMORY_ADD", guest=0x9000, size=PAGE)
    refused("a mapping that overlaps one", "EXISTS", source, "MAP_ADD", space=source.space, address=0x98000, size=PAGE, guest=0x8000)
    refused("a mapping that there is not", "NO_SUCH", source, "MAP_REMOVE", space=source.space, address=0x98000, size=PAGE, guest=0x98000)
    refused("pages without TRACKING_START", "WRONG_PHASE", source, "SAVE_BEGIN", [0, 1], flags=P.SAVE_PAGES_BY_HELPER, last_resort=P.RESORT_FORCE,
            downtime_us=1, interval_us=1000, quiescing_us=P.UNKNOWN, loading_us=P.UNKNOWN)
    bitmap = Bitmap(source.call("TRACKING_START", page_size=PAGE))
    refused("tracking twice", "EXISTS", source, "TRACKING_START", page_size=PAGE)
    begin(source, target, P.SAVE_PAGES_BY_HELPER, P.LOAD_PAGES)
    refused("STEP where the helper sends", "WRONG_PHASE", source, "STEP")
    source.event("READY")
    source.call("VCPUS_STOPPED")
    here.bytes[here.offset(MAPPED[0][0] + 0x123456)] ^= 0xFF  # a device's last write
    here.bytes[here.offset(MAPPED[1][0])] ^= 0xFF
    known = len(bitmap.pages((guest, size) for guest, size, _ in MAPPED))
    if tracking_add(source, bitmap, RANGES[0][0]):  # a vCPU's, where no device can write
        here.bytes[here.offset(RANGES[0][0])] ^= 0xFF
        known += 1
    estimate = source.call("QUIESCE")
    same("QUIESCE gives the last reading", (estimate.is_last, estimate.dirty), (1, known))
    source.call("COMPLETE")
    try:
        target.event("LOADED")
    except AssertionError as error:
        check("everything is loaded", False, error)
    check("memory is the same, sent by the helper", here.bytes[:] == there.bytes[:])
    source.call("COMMIT")
    target.call("RESUME")
    same("farewells", (source.end(), target.end()), (0, 0))
    here.close(), there.close()


def huge_pages(source, target):
    """The same with memory of huge pages on both sides, which can be read like a file and not written like one."""
    with open("/proc/sys/vm/nr_hugepages", "r+") as file:
        file.write("8")
    with open("/proc/sys/vm/nr_hugepages") as file:
        same("huge pages are there", int(file.read()), 8)
    by_helper(source, target, huge=True)
    with open("/proc/sys/vm/nr_hugepages", "r+") as file:
        file.write("0")


def iommufds(host, other):
    """Numbers of address spaces and page tables mean something in one iommufd."""
    host.start(add=False)
    theirs = other.devices[0]
    host.add(1)
    refused("a device of another iommufd", "BAD_ARGUMENT", host, "DEVICE_ADD", [theirs.fd, other.iommufd], device=2, space=other.space,
            flags=P.DEVICE_HAS_IOMMUFD, tracker=P.TRACKER_AUTO, name=theirs.uuid)
    duplicate = os.dup(host.iommufd)
    same("another descriptor of the one", host.call("DEVICE_ADD", [host.devices[1].fd, duplicate], device=2, space=host.space,
                                                    flags=P.DEVICE_HAS_IOMMUFD, tracker=P.TRACKER_AUTO, name=host.devices[1].uuid).device, 2)
    os.close(duplicate)
    host.call("DEVICE_REMOVE", device=1), host.call("DEVICE_REMOVE", device=2)
    same("another one when the first is let go of", host.call("DEVICE_ADD", [theirs.fd, other.iommufd], device=3, space=other.space,
                                                              flags=P.DEVICE_HAS_IOMMUFD, tracker=P.TRACKER_AUTO, name=theirs.uuid).device, 3)
    same("a farewell", host.end(), 0)


def by_vmm(source, target):
    here, there = prepare(source, target, False)
    first = source.call("TRACKING_START", page_size=65536)
    bitmap = Bitmap(first)
    same("everything is dirty at first", (len(bitmap.dirty()), first.dirty), (len(bitmap.pages(RANGES)),) * 2)
    for bit in bitmap.dirty():
        bitmap.clear(bit)
    mapped = set(bitmap.pages((guest, size) for guest, size, _ in MAPPED))
    again = source.call("TRACKING_READ")
    same("then what devices can write", (set(bitmap.dirty()), again.dirty, again.words), (mapped, len(mapped), first.words))
    source.call("TRACKING_STOP")
    bitmap = Bitmap(source.call("TRACKING_START", page_size=65536))
    same("everything again", len(bitmap.dirty()), len(bitmap.pages(RANGES)))
    begin(source, target, P.SAVE_PAGES_BY_VMM)
    refused("TRACKING_READ in PRE_COPY", "WRONG_PHASE", source, "TRACKING_READ")
    own, sent, rounds = max(bitmap.pages(RANGES)), 0, 0  # a page of the third range, which no device can write

    def send(leave=()):
        total = 0
        for bit, (low, high) in bitmap.dirty().items():
            if bit not in leave:
                at = slice(here.offset(low), here.offset(low) + high - low)
                there.bytes[at] = here.bytes[at]
                bitmap.clear(bit)
                total += high - low
        return total

    while True:
        estimate = source.call("STEP", bytes=sent)
        rounds += 1
        expected = set(bitmap.pages(RANGES)) if rounds == 1 else mapped | {own}
        same(f"round {rounds}: its pages", (set(bitmap.dirty()), estimate.dirty, estimate.round), (expected, len(expected), rounds))
        sent = send()
        if estimate.verdict in (P.VERDICT_STOP, P.VERDICT_FORCE) or rounds == 10:
            break
        bitmap.set(own)  # a vCPU's write
    source.call("VCPUS_STOPPED")
    here.bytes[here.offset(MAPPED[0][0] + 0x123456)] ^= 0xFF  # a device's last write
    estimate = source.call("QUIESCE", bytes=sent)
    same("QUIESCE gives the last reading", (estimate.is_last, set(bitmap.dirty()), estimate.dirty), (1, mapped, len(mapped)))
    sent = send(leave=[min(mapped)])
    refused("COMPLETE with a page that was not sent", "REFUSED", source, "COMPLETE", bytes=sent)
    same("and it is STOPPED still", source.phase(), "STOPPED")
    source.call("COMPLETE", bytes=sent + send())
    target.event("LOADED")
    check("memory is the same, sent by the VMM", here.bytes[:] == there.bytes[:])
    source.call("COMMIT")
    target.call("RESUME")
    same("farewells", (source.end(), target.end()), (0, 0))
    here.close()


PARTS = [("mtty", conversation), ("mtty", packets), ("mtty", iommufds), ("mtty", move)]
PARTS += [("mtty", abort, phase) for phase in ("SETUP", "PRE_COPY", "QUIESCING", "STOPPED", "COMPLETE", "COMMITTED")]
PARTS += [("mtty", abort_target, phase) for phase in ("LOADING", "LOADED")]
PARTS += [("mtty", ending, phase) for phase in ("PRE_COPY", "STOPPED", "COMPLETE")]
PARTS += [("mtty", crash, "LOADING"), ("mtty", killed, "STOPPED"), ("mtty", found), ("mtty", tags), ("mtty", metrics), ("memory", by_helper), ("memory", by_vmm)]
PARTS += [("synthetic", found_in_error), ("synthetic", reset_by_guest)]
PARTS += [("synthetic", unbinding, f"{how} in {phase}") for how in ("DEVICE_REMOVE", "hanging up") for phase in ("SETUP", "PRE_COPY", "LOADING")]
PARTS += [("memory", huge_pages)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--once", metavar="SCENARIO", help="mtty, memory, synthetic, or one part of them; without it, all")
    parser.add_argument("--helper", default=os.environ.get("VFIO_FERRY", "vfio-ferry"), help="the executable")
    parser.add_argument("--trace", action="store_true", help="print each packet on standard error")
    options = parser.parse_args()
    vmm.HELPER, vmm.TRACE = options.helper, options.trace
    chosen = [part for part in PARTS if options.once in (None, part[0], part[1].__name__)]
    if not chosen:
        parser.error(f"no scenario {options.once}")
    for scenario, part, *arguments in chosen:
        print("   --", scenario, part.__name__, *arguments, flush=True)
        kind = Synthetic if scenario == "synthetic" else MTTY
        source, target = Host("source", kind), Host("target", kind)
        try:
            part(source, target, *arguments)
        except Exception as error:
            traceback.print_exc()
            check(f"{part.__name__} {arguments}", False, f"{type(error).__name__}: {error}; helpers: {source.said()}|{target.said()}")
        finally:
            source.remove(), target.remove()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
