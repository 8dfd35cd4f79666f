// SPDX-License-Identifier: Apache-2.0
internal import Metrics
internal import Synchronization
internal import Topology

/// What `monitor` counts, and what there is: docs/metrics.md has the names.
final class MonitorMetrics: Sendable {
  /// An event by what happened to what.
  struct EventKind: Hashable {
    let action: String
    let kind: String
  }

  private struct State {
    var sightings: [DeviceSighting] = []
    var events: [EventKind: UInt64] = [:]
    var overruns: UInt64 = 0
  }

  /// Actions that are counted by their own names: the kernel's. Any other is `other`, so that there are only so many.
  private static let actions = ["add", "remove", "bind", "unbind", "change", "move", "online", "offline"]

  private let state: Mutex<State>

  init() {
    var state = State()
    // From the beginning, because a counter that appears with a one has not grown.
    for action in ["add", "remove"] { state.events[EventKind(action: action, kind: "device")] = 0 }
    self.state = Mutex(state)
  }

  /// Something has changed; what is there now, is this.
  func take(_ change: DeviceWatch.Change, _ sightings: [DeviceSighting]) {
    let action = Self.actions.contains(change.action) ? change.action : "other"
    state.withLock { state in
      state.sightings = sightings
      state.events[EventKind(action: action, kind: change.sighting.kind.rawValue), default: 0] += 1
    }
  }

  /// What is there at the start.
  func begin(_ sightings: [DeviceSighting]) { state.withLock { $0.sightings = sightings } }

  /// Events were lost.
  func countOverrun() { state.withLock { $0.overruns += 1 } }

  /// The page.
  /// - Parameter states: says which states devices are in, by the folder of their nodes in sysfs.
  func page(_ states: ([DeviceSighting]) -> [String: String]) -> String {
    let (sightings, events, overruns) = state.withLock { ($0.sightings, $0.events, $0.overruns) }
    let devices = sightings.filter { $0.kind == .device }
    let states = states(devices)
    var page = MetricsPage()
    page.add(
      "vfio_ferry_build_info", .gauge, "The version of vfio-ferry; always 1.",
      [([.init("version", VFIOFerry.version)], .count(1))])
    page.add(
      "vfio_ferry_devices", .gauge, "Devices that VFIO offers, by driver and migration state.",
      Self.counted(devices.map { [$0.driver ?? "unknown", states[$0.path] ?? "unknown"] }, ["driver", "state"]))
    page.add(
      "vfio_ferry_physical_functions", .gauge, "PCI functions that can have virtual functions, by driver.",
      Self.counted(sightings.filter { $0.kind == .physical }.map { [$0.driver ?? "none"] }, ["driver"]))
    page.add(
      "vfio_ferry_monitor_events_total", .counter, "Events of VFIO devices and physical functions, by action and kind.",
      events.sorted { ($0.key.kind, $0.key.action) < ($1.key.kind, $1.key.action) }.map {
        ([.init("action", $0.key.action), .init("kind", $0.key.kind)], .count($0.value))
      })
    page.add(
      "vfio_ferry_monitor_overruns_total", .counter, "How often events were lost and all devices were looked at again.",
      .count(overruns))
    return page.text
  }

  /// How many there are of each.
  private static func counted(
    _ all: [[String]], _ names: [String]
  ) -> [(labels: [MetricsPage.Label], value: MetricsPage.Value)] {
    var counts: [[String]: UInt64] = [:]
    for values in all { counts[values, default: 0] += 1 }
    return counts.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { values, count in
      (zip(names, values).map { MetricsPage.Label($0, $1) }, .count(count))
    }
  }
}
