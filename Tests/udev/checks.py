# SPDX-License-Identifier: Apache-2.0
"""What the scripts of this folder have in common: a line for each check on standard output, and udev as it is seen from files."""
import contextlib, os, subprocess, sys, time

PATIENCE = 120
LINKS = "/dev/vfio/by-path"
failures = 0


def check(what, right, detail=""):
    global failures
    failures += not right
    print(f"ok {what}" if right else f"FAILED {what}: {detail}", flush=True)


def same(what, value, expected):
    check(what, value == expected, f"{value!r:.600}, not {expected!r:.600}")


def until(what, holds):
    """Waits for what there is no event to wait for."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about")
        time.sleep(0.05)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def settle():
    run("udevadm", "settle", f"--timeout={PATIENCE}")


def read(path):
    with open(path) as file:
        return file.read().strip()


def put(path, text):
    with open(path, "w") as file:
        file.write(text + "\n")


def names(folder):
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


def entry(node):
    """What udev keeps of a node, as its properties; None where it keeps nothing."""
    number = os.stat(node).st_rdev
    try:
        with open(f"/run/udev/data/c{os.major(number)}:{os.minor(number)}") as file:
            return dict(line[2:].rstrip("\n").split("=", 1) for line in file if line.startswith("E:"))
    except FileNotFoundError:
        return None


def journal_of_udevd():
    run("journalctl", "--sync")
    return run("journalctl", "--no-pager", "-q", "-o", "cat", "-p", "warning", "-u", "systemd-udevd")


@contextlib.contextmanager
def part(name):
    """A part that goes wrong fails, and the next one begins."""
    try:
        yield
    except Exception as error:
        check(name, False, f"{type(error).__name__}: {error}")


def end():
    if failures:
        print(run("journalctl", "--no-pager", "-o", "short-precise"))
    sys.exit(1 if failures else 0)
