// SPDX-License-Identifier: Apache-2.0
import LinuxIO
import Synchronization
import Testing

@testable import Topology

struct StateReaderTests {
  @Test("states are read by the devices' names in debugfs; of what it does not show nothing is said")
  func states() throws {
    let system = try FakeSystem()
    try system.write("sys/kernel/debug/vfio/0000:3b:00.2/migration/state", "PRE_COPY_P2P")
    try system.write("sys/kernel/debug/vfio/0000:3b:00.3/migration/state", "SOMETHING_NEW")
    let devices = try ["0000:3b:00.2", "0000:3b:00.3", "0000:3b:00.4"].enumerated().map { index, address in
      try #require(
        DeviceSighting(
          UdevDevice(path: "/sys/devices/pci0000:00/\(address)/vfio-dev/vfio\(index)", subsystem: "vfio-dev"),
          isPhysical: false))
    }
    let reader = StateReader(root: system.root)
    // On a busy machine the answer may be late.
    let expected = [devices[0].path: "pre-copy-p2p", devices[1].path: "unknown"]
    let limit = monotonicMicroseconds() + 60_000_000
    var states = reader.states(of: devices)
    while states != expected, monotonicMicroseconds() < limit { states = reader.states(of: devices) }
    #expect(states == expected)
    // Of what has gone nothing is kept.
    var none = reader.states(of: [])
    while none.values.contains(StateReader.busy) { none = reader.states(of: []) }
    #expect(none.isEmpty)
  }

  @Test("a device that does not answer is busy, and those that were asked with it are not")
  func hung() throws {
    let devices = try ["hung", "second", "third"].map { name in
      try #require(
        DeviceSighting(
          UdevDevice(path: "/sys/devices/\(name)/vfio-dev/vfio0", subsystem: "vfio-dev"), isPhysical: false))
    }
    let gate = BlockingQueue<Void>()
    defer { gate.close() }
    let reader = StateReader { path in
      if path.contains("hung") { _ = gate.take() }
      return "running"
    }
    // On a busy machine the others may be late, too.
    var states = reader.states(of: devices)
    let limit = monotonicMicroseconds() + 60_000_000
    while states.values.count(where: { $0 == "running" }) < 2, monotonicMicroseconds() < limit {
      states = reader.states(of: devices)
    }
    #expect(states.values.sorted() == [StateReader.busy, "running", "running"])
    #expect(states[devices[0].path] == StateReader.busy)
  }

  @Test(
    "where no thread is to be had for a device nothing is said of it, not even what was known, and no more are started")
  func noThread() throws {
    let devices = try ["first", "second", "third"].map { name in
      try #require(
        DeviceSighting(
          UdevDevice(path: "/sys/devices/\(name)/vfio-dev/vfio0", subsystem: "vfio-dev"), isPhysical: false))
    }
    let gate = BlockingQueue<Void>()
    defer { gate.close() }
    let hangs = Mutex(false)
    let inside = Mutex(0)
    let together = Mutex(0)
    let reader = StateReader(most: 1) { path in
      let count = inside.withLock { inside in
        inside += 1
        return inside
      }
      together.withLock { $0 = max($0, count) }
      if path.contains("first"), hangs.withLock({ $0 }) { _ = gate.take() }
      inside.withLock { $0 -= 1 }
      return "running"
    }
    // One thread asks all of them.
    let limit = monotonicMicroseconds() + 60_000_000
    var states = reader.states(of: devices)
    while states.count < 3 || states.values.contains(StateReader.busy), monotonicMicroseconds() < limit {
      states = reader.states(of: devices)
    }
    #expect(states.values.map { $0 } == ["running", "running", "running"] && together.withLock { $0 } == 1)
    hangs.withLock { $0 = true }
    while states != [devices[0].path: StateReader.busy], monotonicMicroseconds() < limit {
      states = reader.states(of: devices)
    }
    #expect(states == [devices[0].path: StateReader.busy])
    #expect(reader.states(of: devices) == states && together.withLock { $0 } == 1)
  }
}
