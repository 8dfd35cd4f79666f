// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Topology

/// Devices that a command has opened for a session, described as they are and with an order in which they stop.
struct OpenGroup {
  let opened: [OpenDevice]
  let described: [SessionDevice]
  let plan: QuiescePlan
  var names: [String] { described.map(\.name) }

  /// Opens them, all or none. Says on `console` what opening does to them.
  init(
    _ texts: [String], _ access: DeviceAccess, _ reachability: Reachability, console: Console
  ) throws(CommandFailure) {
    opened = try access.open(texts, console: console)
    described = try SessionSupport.describe(opened)
    // What can be saved can be loaded into.
    if let refusal = SaveSession.refusal(devices: described) { throw access.refusal(refusal, of: opened) }
    plan = try access.plan(described, reachability, of: opened)
  }
}

extension DeviceAccess {
  /// Why a stream's devices can't go into these, which are not open yet, as far as sysfs tells; nil where nothing is known
  /// against it.
  func mismatch(_ sources: [StreamManifest.Device], with texts: [String]) throws(CommandFailure) -> String? {
    var targets: [SessionDevice] = []
    for (index, text) in texts.enumerated() {
      let record = try record(Self.name(text))
      // What the device supports is compared once it says so itself; until then it counts as a match.
      let features = sources.indices.contains(index) ? sources[index].features : []
      targets.append(
        SessionDevice(name: "\(record.name)", driver: record.driver ?? "none", features: features, state: .running))
    }
    return LoadSession.mismatch(manifest: StreamManifest(devices: sources), devices: targets)
  }
}
