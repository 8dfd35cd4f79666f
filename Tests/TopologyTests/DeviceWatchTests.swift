// SPDX-License-Identifier: Apache-2.0
import Testing

@testable import Topology

/// A kernel and its udev, made of numbers: devices come and go, and each event has a number of its own.
private struct Host {
  var there: [String: UdevDevice] = [:]
  var sequence: UInt64 = 0
  /// Whether udev keeps anything of them. Where not, each event has a time of its own.
  var keeps = true
  private var made = 0

  static let path = "/sys/devices/pci0000:00/0000:3b:00.2/vfio-dev/vfio"

  mutating func add(_ slot: Int) -> UdevEvent {
    made += 1
    let device = UdevDevice(
      path: "\(Self.path)\(slot)", subsystem: "vfio-dev",
      properties: ["USEC_INITIALIZED": "\(made)", "DEVNAME": "/dev/vfio/devices/vfio\(slot)"])
    there[device.path] = device
    return event("add", device)
  }

  mutating func remove(_ slot: Int) -> UdevEvent? {
    there.removeValue(forKey: "\(Self.path)\(slot)").map { event("remove", $0) }
  }

  mutating func event(_ action: String, _ device: UdevDevice) -> UdevEvent {
    sequence += 1
    var device = device
    if !keeps { device.properties["USEC_INITIALIZED"] = "\(1_000_000 + sequence)" }
    return UdevEvent(action: action, sequence: sequence, device: device)
  }

  var all: [(device: UdevDevice, isPhysical: Bool)] {
    there.values.map { device in
      var device = device
      if !keeps { device.properties["USEC_INITIALIZED"] = nil }
      return (device, false)
    }
  }
}

struct DeviceWatchTests {
  private func function(_ driver: String?) -> UdevDevice {
    UdevDevice(
      path: "/sys/devices/pci0000:00/0000:3b:00.0", subsystem: "pci", properties: driver.map { ["DRIVER": $0] } ?? [:])
  }

  private func told(_ watch: inout DeviceWatch, _ action: String, _ device: UdevDevice, _ sequence: UInt64) -> String? {
    let change = watch.take(UdevEvent(action: action, sequence: sequence, device: device), isPhysical: false) { true }
    return change.map { "\($0.action) \($0.sighting.kind.rawValue) \($0.sighting.name) \($0.sighting.driver ?? "-")" }
  }

  @Test("a PCI function is told of from a VFIO driver's coming to its going, and not otherwise")
  func function() {
    var watch = DeviceWatch()
    #expect(told(&watch, "add", function(nil), 1) == nil)
    #expect(told(&watch, "bind", function("nvme"), 2) == nil)
    #expect(told(&watch, "unbind", function(nil), 3) == nil)
    #expect(told(&watch, "bind", function("vfio-pci"), 4) == "bind function 0000:3b:00.0 vfio-pci")
    #expect(told(&watch, "unbind", function(nil), 5) == "unbind function 0000:3b:00.0 vfio-pci")
    #expect(told(&watch, "remove", function(nil), 6) == nil)
    #expect(watch.sightings.isEmpty)
  }

  @Test("a function that can have virtual ones is one to its end, when nobody can ask it any more")
  func physical() {
    var watch = DeviceWatch()
    let added = watch.take(UdevEvent(action: "add", sequence: 1, device: function(nil)), isPhysical: true) { true }
    #expect(added?.sighting.kind == .physical)
    #expect(told(&watch, "bind", function("mlx5_core"), 2) == "bind pf 0000:3b:00.0 mlx5_core")
    #expect(told(&watch, "remove", function(nil), 3) == "remove pf 0000:3b:00.0 mlx5_core")
  }

  @Test("what the rules have said is shown, of the device itself; without them its folder names it")
  func properties() throws {
    var device = UdevDevice(
      path: "/sys/devices/vfio-synthetic/nic/vfio-dev/vfio3", subsystem: "vfio-dev",
      properties: ["DEVNAME": "/dev/vfio/devices/vfio3"])
    let bare = try #require(DeviceSighting(device, isPhysical: false))
    #expect(bare.name == "nic" && bare.driver == nil && bare.told.isEmpty)
    device.properties["VFIO_FERRY_DEVICE"] = "0000:3b:00.2"
    device.properties["VFIO_FERRY_DRIVER"] = "mlx5_vfio_pci\u{1b}"
    device.properties["VFIO_FERRY_STATES"] = "running stop"
    let told = try #require(DeviceSighting(device, isPhysical: false))
    #expect(
      told.name == "0000:3b:00.2" && told.driver == "mlx5_vfio_pci\u{fffd}" && told.told == ["STATES": "running stop"])
  }

  @Test("looking again finds what came, what went, and what is another device in the same folder")
  func lookingAgain() {
    var host = Host()
    var watch = DeviceWatch()
    for slot in 0..<3 { _ = watch.take(host.add(slot), isPhysical: false) { true } }
    // All of this is lost.
    _ = host.remove(0)
    _ = host.remove(1)
    _ = host.add(1)
    _ = host.add(3)
    let changes = watch.compare(host.all, asOf: host.sequence)
    let words = changes.map { "\($0.action) \($0.sighting.node?.suffix(1) ?? "")" }
    #expect(words == ["remove 0", "remove 1", "add 1", "add 3"])
    #expect(changes.allSatisfy { $0.sequence == nil })
    #expect(watch.compare(host.all, asOf: host.sequence).isEmpty)
  }

  @Test("an event that was on its way when somebody looked is not told twice")
  func onTheirWay() {
    var host = Host()
    var watch = DeviceWatch()
    let late = [host.add(0), host.remove(0), host.add(0)].compactMap { $0 }
    #expect(watch.compare(host.all, asOf: host.sequence).count == 1)
    for event in late { #expect(watch.take(event, isPhysical: false) { true } == nil) }
    // A device that was still there when somebody looked, though its end was on its way.
    let all = host.all
    let end = host.remove(0)
    #expect(watch.compare(all, asOf: host.sequence).isEmpty)
    #expect(end.flatMap { watch.take($0, isPhysical: false) { false } }?.action == "remove")
    #expect(watch.sightings.isEmpty)
  }

  @Test("an event that was played again is told, though nothing is new", arguments: ["add", "change"])
  func playedAgain(action: String) {
    var host = Host()
    var watch = DeviceWatch()
    var device = host.add(0).device
    _ = watch.compare(host.all, asOf: host.sequence)
    device.properties["SYNTH_UUID"] = "0"
    let again = host.event(action, device)
    #expect(watch.take(again, isPhysical: false) { true }?.sequence == again.sequence)
  }

  @Test("what comes while somebody looks is told once, and with what udev's rules said after that")
  func whileLooking() {
    var host = Host()
    var watch = DeviceWatch()
    let sequence = host.sequence
    var late = [host.add(0), host.remove(0), host.add(0)].compactMap { $0 }
    late[2].device.properties["VFIO_FERRY_DEVICE"] = "nic"
    #expect(watch.compare(host.all, asOf: sequence).map(\.action) == ["add"])
    for event in late { #expect(watch.take(event, isPhysical: false) { true } == nil) }
    #expect(watch.sightings.map(\.name) == ["nic"])
  }

  @Test("a function whose driver came while somebody looked keeps it")
  func boundWhileLooking() {
    var watch = DeviceWatch()
    _ = watch.compare([(function("vfio-pci"), false)], asOf: 0)
    #expect(told(&watch, "add", function(nil), 1) == nil)
    #expect(watch.sightings.map(\.driver) == ["vfio-pci"])
    #expect(told(&watch, "bind", function("vfio-pci"), 2) == nil)
    #expect(told(&watch, "unbind", function(nil), 3) == "unbind function 0000:3b:00.0 vfio-pci")
    #expect(told(&watch, "bind", function("vfio-pci"), 4) == "bind function 0000:3b:00.0 vfio-pci")
  }

  /// A mediated device as an event has it; without a time, as udev's database does.
  private func mediated(_ driver: String?, _ time: Int?) -> UdevDevice {
    var device = UdevDevice(
      path: "/sys/devices/virtual/mtty/mtty/5f1ddc1e", subsystem: "mdev",
      properties: driver.map { ["DRIVER": $0] } ?? [:])
    device.properties["USEC_INITIALIZED"] = time.map { "\($0)" }
    return device
  }

  @Test("a mediated device is told of to its end, though each of its events has a time of its own, not in their order")
  func timesOfEvents() {
    var watch = DeviceWatch()
    for turn in 0..<2 {
      let (began, first) = (turn * 100, UInt64(turn * 10))
      #expect(told(&watch, "add", mediated(nil, began + 1), first + 1) == "add mdev 5f1ddc1e -")
      #expect(told(&watch, "bind", mediated("mtty", began + 3), first + 2) == "bind mdev 5f1ddc1e mtty")
      // Looking finds nothing new: udev keeps no time.
      #expect(watch.compare([(mediated("mtty", nil), false)], asOf: first + 2).isEmpty)
      #expect(told(&watch, "bind", mediated("mtty", began + 3), first + 2) == nil)
      #expect(told(&watch, "unbind", mediated(nil, began + 9), first + 4) == "unbind mdev 5f1ddc1e -")
      #expect(told(&watch, "remove", mediated(nil, began + 8), first + 5) == "remove mdev 5f1ddc1e -")
      #expect(watch.sightings.isEmpty)
    }
  }

  @Test(
    "whatever is lost and whenever somebody looks, each device is said to come once and to go once, and what is known is what there is",
    arguments: 0..<200, [true, false])
  func anyOrder(seed: UInt64, keeps: Bool) {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    func random(_ limit: Int) -> Int {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return Int(state % UInt64(limit))
    }
    var host = Host()
    host.keeps = keeps
    var watch = DeviceWatch()
    var queue: [UdevEvent] = []
    var said: [String: String] = [:]
    var came: Set<String> = []
    func take(_ event: UdevEvent) {
      let isThere = host.there[event.device.path] == event.device
      if let change = watch.take(event, isPhysical: false, isThere: { isThere }) { hear(change) }
    }
    func hear(_ change: DeviceWatch.Change) {
      let sighting = change.sighting
      switch change.action {
      case "add":
        #expect(said[sighting.path] == nil)
        said[sighting.path] = keeps ? sighting.initialized : ""
        #expect(!keeps || came.insert(sighting.initialized ?? "").inserted)
      case "remove":
        #expect(said.removeValue(forKey: sighting.path) == (keeps ? sighting.initialized : ""))
      default: Issue.record("\(change)")
      }
    }
    func happen() {
      let slot = random(3)
      if host.there["\(Host.path)\(slot)"] == nil {
        queue.append(host.add(slot))
      } else if let event = host.remove(slot) {
        queue.append(event)
      }
    }
    for turn in 0..<60 {
      happen()
      while !queue.isEmpty, random(3) > 0 { take(queue.removeFirst()) }
      if turn == 59 || random(8) == 0 {
        // The newest are lost first: those before them are in the queue already.
        queue.removeLast(random(queue.count + 1))
        // More happens before the devices are looked at, and is not lost.
        let sequence = host.sequence
        for _ in 0..<random(4) { happen() }
        for change in watch.compare(host.all, asOf: sequence) { hear(change) }
      }
    }
    for event in queue { take(event) }
    #expect(said == host.there.mapValues { keeps ? $0.initialized ?? "" : "" })
    #expect(Set(watch.sightings.map(\.path)) == Set(host.there.keys))
  }
}
