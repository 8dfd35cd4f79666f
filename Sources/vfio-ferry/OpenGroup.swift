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
  /// against it. What is not against it and should be known is said.
  func mismatch(
    _ sources: [StreamManifest.Device], with texts: [String], _ policy: TagPolicy, _ console: Console
  ) throws(CommandFailure) -> String? {
    var targets: [SessionDevice] = []
    for (index, text) in texts.enumerated() {
      let record = try record(Self.name(text))
      // What the device supports is compared once it says so itself; until then it counts as a match.
      let features = sources.indices.contains(index) ? sources[index].features : []
      var tag = TagScanner(root: inventory.root).tag(of: record)
      if sources.indices.contains(index) {
        tag[.features] = (try? CompatibilityTag(decoding: sources[index].tag))?[.features]
      }
      targets.append(
        SessionDevice(
          name: "\(record.name)", driver: record.driver ?? "none", features: features, state: .running,
          tag: tag.encoded))
    }
    let manifest = StreamManifest(devices: sources)
    if let mismatch = LoadSession.mismatch(manifest: manifest, devices: targets, policy: policy) { return mismatch }
    for warning in LoadSession.warnings(manifest: manifest, devices: targets, policy: policy) {
      console.note("vfio-ferry: warning: \(warning)")
    }
    return nil
  }
}
