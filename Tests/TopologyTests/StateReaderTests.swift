// SPDX-License-Identifier: Apache-2.0
import LinuxIO
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
    // On a busy machine the answer may be late, and then it is "busy".
    var states = reader.states(of: devices)
    while states.values.contains(StateReader.busy) { states = reader.states(of: devices) }
    #expect(states == [devices[0].path: "pre-copy-p2p", devices[1].path: "unknown"])
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
    while states.values.count(where: { $0 == StateReader.busy }) > 1, monotonicMicroseconds() < limit {
      states = reader.states(of: devices)
    }
    #expect(states.values.sorted() == [StateReader.busy, "running", "running"])
    #expect(states[devices[0].path] == StateReader.busy)
  }
}
