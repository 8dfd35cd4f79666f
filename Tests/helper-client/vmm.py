# SPDX-License-Identifier: Apache-2.0
"""What a VMM needs to speak to `vfio-ferry helper`, from include/vfio_ferry.h and docs/helper-protocol.md alone."""
import ctypes, fcntl, mmap, os, re, select, socket, struct, subprocess, sys, tempfile, threading, time, types, uuid

HELPER, TRACE = "vfio-ferry", False  # the executable, and whether each packet is printed
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PATIENCE = 60  # seconds; the lab emulates its processor
PAGE = 4096


class Protocol:
    """include/vfio_ferry.h, read anew each time: its numbers, its structures, and which packet has which."""

    CODES = {"uint32_t": "I", "int32_t": "i", "uint64_t": "Q"}

    def __init__(self, path):
        text = open(path, encoding="utf-8").read()
        self.shape = {}  # name of a packet -> its structure's
        for name, own, rest in re.findall(r"VFIO_FERRY_(\w+) = \w+,\s*/\* struct vfio_ferry_(\w+)(.*)", text):
            answer = re.search(r"\[(?:struct vfio_ferry_(\w+)|the same)", rest)
            self.shape[name] = own
            self.shape[name + " reply"] = (answer[1] or own) if answer else "done"
        text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
        self.numbers = {"UNKNOWN": 2**64 - 1}
        for name, value in re.findall(r"VFIO_FERRY_(\w+)(?: =)? (\d[^,}\n]*)", text):
            left, _, shift = value.partition("<<")
            self.numbers[name] = int(left, 0) << int(shift or "0", 0)
        self.fields, self.layout = {}, {}  # of a structure: names, and codes of the module struct
        for name, body in re.findall(r"struct vfio_ferry_(\w+) \{(.*?)\};", text, flags=re.S):
            fields, codes = [], []
            for declaration in filter(None, map(str.strip, body.split(";"))):
                kind, field, count = re.fullmatch(r"(struct vfio_ferry_header|\w+)\s+(\w+)(?:\[VFIO_FERRY_(\w+)\])?", declaration).groups()
                if kind == "struct vfio_ferry_header":
                    fields, codes = list(self.fields["header"]), list(self.layout["header"])
                else:
                    fields.append("header_" + field if name == "header" else field)  # a device_add has a number of its own
                    codes.append(f"{self.numbers[count]}s" if kind == "char" else self.CODES[kind])
            self.fields[name], self.layout[name] = fields, codes
        for name, size in re.findall(r"VFIO_FERRY_ASSERT\(vfio_ferry_(\w+), (\d+)\)", text):
            assert self.size(name) == int(size), f"struct {name} has {self.size(name)} bytes here, {size} in the header"
        self.names = {self.numbers[name]: name for name in self.shape if " " not in name}

    def __getattr__(self, name):
        if name not in self.numbers:
            raise AttributeError(name)
        return self.numbers[name]

    def size(self, shape):
        return struct.calcsize("@" + "".join(self.layout[shape]))

    def name(self, prefix, number):
        return next((n for n, v in self.numbers.items() if n.startswith(prefix + "_") and v == number), f"{prefix} {number}")

    def pack(self, shape, **values):
        assert set(values) <= set(self.fields[shape]), f"struct {shape} has not all of {set(values)}"
        values = [values.get(f, "" if c.endswith("s") else 0) for f, c in zip(self.fields[shape], self.layout[shape])]
        return struct.pack("@" + "".join(self.layout[shape]), *(v.encode() if isinstance(v, str) else v for v in values))

    def unpack(self, data, waiting):
        """A packet as an object, with its name as `what`; `waiting` has the names of requests without a reply by number."""
        kind, size, number, descriptors = struct.unpack_from("@IIII", data)
        if kind == self.ERROR:
            what, shape = "ERROR", "error"
        elif kind in self.names:
            what = self.names[kind]
            shape = self.shape[what]
            assert what.startswith("EVENT_") and number == 0, f"{what} with number {number} from a helper"
        else:
            what = waiting.get(number, "") + " reply"
            assert kind - self.REPLY == self.numbers.get(what[:-6]), f"type {kind:#x} as reply to {what}"
            shape = self.shape[what]
        assert size == len(data) == self.size(shape), f"{what}: {len(data)} bytes, its size says {size}, struct {shape} has {self.size(shape)}: {data[:64].hex()}"
        packet = types.SimpleNamespace(what=what, **dict(zip(self.fields[shape], struct.unpack("@" + "".join(self.layout[shape]), data))))
        for field, code in zip(self.fields[shape], self.layout[shape]):
            if code.endswith("s"):
                text, _, rest = getattr(packet, field).partition(b"\0")
                assert len(text) < int(code[:-1]) and not rest.strip(b"\0"), f"{what}: {field} has no NUL, or something after it"
                setattr(packet, field, text.decode())
                assert getattr(packet, field).isprintable(), f"{what}: {field} has control characters: {text}"
        assert getattr(packet, "reserved", 0) == 0, f"{what}: reserved is not 0"
        return packet


P = Protocol(os.path.join(ROOT, "include/vfio_ferry.h"))


class Refused(Exception):
    def __init__(self, packet):
        self.packet, self.code, self.text = packet, P.name("CODE", packet.code).removeprefix("CODE_"), packet.text
        super().__init__(f"{P.names.get(packet.request, packet.request)} -> {self.code} (errno {packet.error}, device {packet.device}): {packet.text}")


class Connection:
    """One session with one helper: requests out, replies and events in."""

    def __init__(self, sock, name):
        self.sock, self.name, self.last = sock, name, 0
        self.waiting, self.replies, self.events, self.phase = {}, {}, [], P.PHASE_SETUP

    def trace(self, arrow, what, values):
        if TRACE:
            print(f"{time.monotonic():.3f} {self.name} {arrow} {what} {values}", file=sys.stderr, flush=True)

    def post(self, request, descriptors=(), **fields):
        self.last += 1
        shape = P.shape[request]
        self.trace("->", f"{request} #{self.last}", fields)
        packet = P.pack(shape, header_type=P.numbers[request], header_size=P.size(shape), header_number=self.last,
                        header_descriptors=len(descriptors), **fields)
        self.waiting[self.last] = request
        socket.send_fds(self.sock, [packet], descriptors)
        return self.last

    def receive(self, deadline):
        """Takes in one packet; False at the end of the connection."""
        if not select.select([self.sock], [], [], max(0, deadline - time.monotonic()))[0]:
            raise TimeoutError(f"{self.name}: nothing came; waiting for {list(self.waiting.values())}")
        data, descriptors, flags, _ = socket.recv_fds(self.sock, P.MAX_PACKET, P.MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return False
        assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC), "a packet or its descriptors were cut"
        packet = P.unpack(data, self.waiting)
        self.trace("<-", f"{packet.what} #{packet.header_number}", {k: v for k, v in vars(packet).items() if k != "what" and not k.startswith("header_")})
        assert packet.header_descriptors == len(descriptors), f"{packet.what} has {len(descriptors)} descriptors and says {packet.header_descriptors}"
        packet.files = descriptors
        if packet.header_number:
            assert packet.header_number in self.waiting, f"{packet.what} for number {packet.header_number}, which waits for none"
            del self.waiting[packet.header_number]
            self.replies[packet.header_number] = packet
        else:
            self.events.append(packet)
            if packet.what == "EVENT_PHASE":
                self.phase = packet.phase
        return True

    def reply(self, number, patience=PATIENCE):
        deadline = time.monotonic() + patience
        while number not in self.replies:
            if not self.receive(deadline):
                raise ConnectionError("the helper hung up")
        packet = self.replies.pop(number)
        if packet.what == "ERROR":
            raise Refused(packet)
        return packet

    def call(self, request, descriptors=(), **fields):
        return self.reply(self.post(request, descriptors, **fields))

    def event(self, what, patience=PATIENCE):
        """The next event of this name; those of others stay."""
        deadline = time.monotonic() + patience
        while True:
            for packet in self.events:
                if packet.what == "EVENT_" + what:
                    self.events.remove(packet)
                    return packet
                assert packet.what != "EVENT_FAILED", f"while waiting for {what}: FAILED: {packet.text}"
            if not self.receive(deadline):
                raise ConnectionError("the helper hung up")


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


class Device:
    """A device as a VMM holds it: its cdev, bound to an iommufd and attached to an address space."""

    def __init__(self, iommufd, space, path, name=None):
        self.path, node = path, "/dev/vfio/devices/" + os.listdir(path + "/vfio-dev")[0]
        self.name = name or node
        self.fd = os.open(node, os.O_RDWR | os.O_CLOEXEC)
        self.number = struct.unpack("IIiI", fcntl.ioctl(self.fd, 0x3B76, struct.pack("IIiI", 16, 0, iommufd, 0)))[3]  # VFIO_DEVICE_BIND_IOMMUFD
        fcntl.ioctl(self.fd, 0x3B77, struct.pack("III", 12, 0, space))  # VFIO_DEVICE_ATTACH_IOMMUFD_PT

    def state(self):
        """As the kernel says it, in this protocol's numbers."""
        answer = fcntl.ioctl(self.fd, 0x3B75, struct.pack("IIIi", 16, 1 << 16 | 2, 0, -1))  # VFIO_DEVICE_FEATURE, get
        return P.name("STATE", struct.unpack("IIIi", answer)[2] + 1).removeprefix("STATE_")

    def reset(self):
        """As its guest does, without the helper."""
        fcntl.ioctl(self.fd, 0x3B6F)  # VFIO_DEVICE_RESET

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


class Synthetic(Device):
    """A device of tools/lab/synthetic: on a bus, with a driver that it can be unbound from, like a PCI function."""

    FOLDER, BUS, made = "/sys/kernel/config/vfio_synthetic/", "/sys/bus/vfio-synthetic/", 0

    def __init__(self, iommufd, space):
        Synthetic.made += 1
        self.item = f"{Synthetic.FOLDER}client{Synthetic.made}"
        os.mkdir(self.item)
        write(self.item + "/live", "1")
        super().__init__(iommufd, space, f"{Synthetic.BUS}devices/client{Synthetic.made}")

    def set(self, setting, value):
        write(f"{self.item}/{setting}", value)

    def unbind(self):
        """Has the kernel take the device from its driver, on a thread: that waits until nobody holds the device."""
        driver = os.path.realpath(self.path + "/driver")
        thread = threading.Thread(target=write, args=(driver + "/unbind", os.path.basename(self.path)), daemon=True)
        thread.start()
        return thread

    def remove(self):
        self.close()
        write(self.item + "/live", "0")
        os.rmdir(self.item)


class MTTY(Device):
    """An mtty device of two ports."""

    def __init__(self, iommufd, space):
        self.uuid = str(uuid.uuid4())
        write("/sys/devices/virtual/mtty/mtty/mdev_supported_types/mtty-2/create", self.uuid)
        super().__init__(iommufd, space, f"/sys/bus/mdev/devices/{self.uuid}", self.uuid)
        self.bars = [struct.unpack("IIIIQQ", fcntl.ioctl(self.fd, 0x3B6C, struct.pack("IIIIQQ", 32, 0, bar, 0, 0, 0)))[5] for bar in (0, 1)]

    def mark(self, seed):
        for place, value in zip(self.places(), self.marks_of(seed)):
            os.pwrite(self.fd, bytes([value]), place)

    def marks(self):
        return [os.pread(self.fd, 1, place)[0] for place in self.places()]

    def places(self):  # LCR, MCR, scratch
        return [bar + register for bar in self.bars for register in (3, 4, 7)]

    @staticmethod
    def marks_of(seed):  # neither the divisor latch's bit nor those of MCR that raise interrupts
        return [0x10 | seed & 7, seed & 3, 0x40 ^ seed, 0x18 | seed & 3, seed >> 1 & 3, 0x80 ^ seed]

    def remove(self):
        self.close()
        write(self.path + "/remove", "1")


class Host:
    """One side of a move: an iommufd with one address space, devices, and a helper at a time."""

    def __init__(self, name, kind=MTTY):
        self.name, self.process, self.log = name, None, tempfile.TemporaryFile("w+")
        self.options = []  # of the helper, besides its connection
        self.iommufd = os.open("/dev/iommu", os.O_RDWR | os.O_CLOEXEC)
        self.space = struct.unpack("III", fcntl.ioctl(self.iommufd, 0x3B81, struct.pack("III", 12, 0, 0)))[2]  # IOMMU_IOAS_ALLOC
        self.devices = [kind(self.iommufd, self.space) for _ in range(2)]

    def start(self, hello=True, add=True):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([HELPER, "helper", "--fd", str(theirs.fileno()), *self.options], pass_fds=[theirs.fileno()], stderr=self.log)
        theirs.close()
        self.link = Connection(ours, self.name)
        self.call, self.event = self.link.call, self.link.event
        if hello:
            self.hello = self.call("HELLO", major=P.VERSION_MAJOR, minor=P.VERSION_MINOR, features=P.FEATURE_PAGES, version="client.py")
            if add:
                self.info = [self.add(1), self.add(2)]
        return self

    def add(self, number, **fields):
        device = self.devices[number - 1]
        fields = dict(device=number, flags=P.DEVICE_HAS_IOMMUFD | P.DEVICE_HAS_NUMBER, space=self.space, tracker=P.TRACKER_AUTO,
                      number=device.number, name=device.name) | fields
        return self.call("DEVICE_ADD", [device.fd, self.iommufd], **fields)

    def states(self):
        return " ".join(device.state() for device in self.devices)

    def phase(self):
        return P.name("PHASE", self.call("STATUS").phase).removeprefix("PHASE_")

    def end(self, told=None):
        """Hangs up, or has a signal tell the helper to end, and gives its exit status."""
        if self.process is None:
            return None
        if told is None:
            self.link.sock.close()
        else:
            self.process.send_signal(told)
        process, self.process = self.process, None
        try:
            return process.wait(PATIENCE)
        finally:
            process.kill()  # where it hangs; nothing otherwise
            self.link.sock.close()

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def remove(self):
        try:
            self.end()
        finally:
            for device in self.devices:
                device.remove()
            os.close(self.iommufd)


def begin(source, target, save=0, load=0, **fields):
    """LOAD_BEGIN and SAVE_BEGIN over fresh socket pairs, of which the VMM keeps nothing."""
    for host in source, target:  # what an earlier move has said is past
        host.call("STATUS")
        host.link.events.clear()
    pairs = [socket.socketpair() for _ in range(2 if load else 1)]
    target.call("LOAD_BEGIN", [pair[1].fileno() for pair in pairs], flags=load)
    fields = dict(flags=P.SAVE_PRE_COPY | save, last_resort=P.RESORT_FORCE, downtime_us=5_000_000, interval_us=100_000,
                  quiescing_us=P.UNKNOWN, loading_us=P.UNKNOWN, step_us=60_000_000) | fields
    source.call("SAVE_BEGIN", [pair[0].fileno() for pair in pairs], **fields)
    for end in sum(pairs, ()):
        end.close()


def advance(source, to):
    """From PRE_COPY to the phase STOPPED, COMPLETE or COMMITTED."""
    source.event("READY")
    source.call("VCPUS_STOPPED")
    estimate = source.call("QUIESCE")
    if to in ("COMPLETE", "COMMITTED"):
        source.call("COMPLETE")
    if to == "COMMITTED":
        source.call("COMMIT")
    return estimate


def memory_file(data, offset=0):
    file = os.memfd_create("client")
    os.pwrite(file, data, offset)
    return file


def blob(host, device, data, offset=0):
    file = memory_file(data, offset)
    host.call("DEVICE_BLOB", [file], device=device, size=len(data), offset=offset)
    os.pwrite(file, b"\xee" * len(data), offset)  # it was read before the reply
    os.close(file)


def tag_of(host, number, **fields):
    """What `vfio-ferry tag` prints of a device, with these fields in it besides."""
    text = subprocess.run([HELPER, "tag", host.devices[number - 1].name], check=True, capture_output=True).stdout.decode()
    head, *lines = text.splitlines()
    lines = [line for line in lines if line.split(" ")[0] not in fields] + [f"{name} {value}" for name, value in fields.items()]
    return "".join(line + "\n" for line in [head] + sorted(lines)).encode()


def tag(host, number, data, offset=0):
    file = memory_file(data, offset)
    try:
        host.call("DEVICE_TAG", [file], device=number, size=len(data), offset=offset)
        os.pwrite(file, b"\xee" * len(data), offset)  # it was read before the reply
    finally:
        os.close(file)


def blob_read(host, device):
    packet = host.call("BLOB_READ", device=device)
    if not packet.files:
        return packet.size, None
    size = os.fstat(packet.files[0]).st_size
    content, seals = os.pread(packet.files[0], size, packet.offset), fcntl.fcntl(packet.files[0], fcntl.F_GET_SEALS)
    os.close(packet.files[0])
    return packet.size, content, seals


RANGES = [(1 << 32, 0x1000), (0x98000, 0x500000), (0x8000, 0x90000)]  # guest address and size; the last two touch, in the middle of a page of 64 KiB
MAPPED = [(0x98000, 0x500000, 0x98000), (0x9000, 0x3000, 0x7000_0000)]  # guest address, size and I/O address: the second by MAP_ADD


HUGE = 2 << 20  # bytes of a huge page


class Memory:
    """Guest memory of RANGES one after another in a memfd, mapped for the devices as MAPPED says."""

    def __init__(self, host, data, huge=False):
        self.host, self.size = host, -(-len(data) // HUGE) * HUGE if huge else len(data)
        self.file = os.memfd_create("client", os.MFD_CLOEXEC | (os.MFD_HUGETLB | os.MFD_HUGE_2MB if huge else 0))
        os.ftruncate(self.file, self.size)
        self.bytes = mmap.mmap(self.file, self.size)
        if any(data):  # huge pages that nobody has written are not there yet
            self.bytes[:len(data)] = data

    def offset(self, guest):
        before = 0
        for start, size in RANGES:
            if start <= guest < start + size:
                return before + guest - start
            before += size

    def add(self, by_helper):
        self.view = (ctypes.c_char * self.size).from_buffer(self.bytes)
        for guest, size, address in MAPPED:  # IOMMU_IOAS_MAP at a fixed address, readable and writable
            fcntl.ioctl(self.host.iommufd, 0x3B85, struct.pack("IIIIQQQ", 40, 7, self.host.space, 0, ctypes.addressof(self.view) + self.offset(guest), size, address))
        for guest, size in RANGES:
            mapped = guest == MAPPED[0][0]
            flags = (P.MEMORY_HAS_FILE if by_helper else 0) | (P.MEMORY_IS_MAPPED if mapped else 0)
            self.host.call("MEMORY_ADD", [self.file] if by_helper else [], flags=flags, space=self.host.space if mapped else 0, guest=guest,
                           size=size, address=MAPPED[0][2] if mapped else 0, offset=self.offset(guest) if by_helper else 0)
        self.host.call("MAP_ADD", space=self.host.space, address=MAPPED[1][2], size=MAPPED[1][1], guest=MAPPED[1][0])

    def close(self):
        for guest, size, address in MAPPED:
            fcntl.ioctl(self.host.iommufd, 0x3B86, struct.pack("IIQQ", 24, self.host.space, address, size))  # IOMMU_IOAS_UNMAP
        os.close(self.file)


class Bitmap:
    """The file of TRACKING_START, by the document's rules."""

    def __init__(self, reply):
        self.page, words = reply.page_size, 0
        self.starts = []  # of each range: guest addresses, its first word
        for start, size in sorted(RANGES):
            self.starts.append((start, start + size, words))
            words += ((start + size - 1) // self.page - start // self.page + 1 + 63) // 64
        assert (reply.words, os.fstat(reply.files[0]).st_size) == (words, words * 8), f"{reply.words} words, not {words}"
        self.words = memoryview(mmap.mmap(reply.files[0], words * 8)).cast("Q")
        os.close(reply.files[0])

    def pages(self, ranges):
        """The bits of guest ranges, as pairs of a word's index and a bit, with the guest addresses in that page."""
        found = {}
        for start, size in ranges:
            for low, high, word in self.starts:
                first, last = max(start, low), min(start + size, high) - 1
                for number in range(first // self.page, last // self.page + 1) if first <= last else ():
                    index = number - low // self.page
                    found[word + index // 64, index % 64] = max(low, number * self.page), min(high, (number + 1) * self.page)
        return found

    def dirty(self):
        return {bit: span for bit, span in self.pages(RANGES).items() if self.words[bit[0]] >> bit[1] & 1}

    def clear(self, bit):
        self.words[bit[0]] &= ~(1 << bit[1])

    def set(self, bit):
        self.words[bit[0]] |= 1 << bit[1]
