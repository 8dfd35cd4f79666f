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
  /// - Parameter compared: their tags, where they have been compared with a stream's.
  init(
    _ texts: [String], _ access: DeviceAccess, _ reachability: Reachability, compared: [CompatibilityTag]? = nil,
    console: Console
  ) throws(CommandFailure) {
    opened = try access.open(texts, console: console)
    described = try SessionSupport.describe(
      opened, rules: compared.map { .known($0.map { $0[.eswitchRules] }) } ?? .read)
    // What can be saved can be loaded into.
    if let refusal = SaveSession.refusal(devices: described) { throw access.refusal(refusal, of: opened) }
    plan = try access.plan(described, reachability, of: opened)
  }
}

extension DeviceAccess {
  /// Compares a stream's devices with these, which are not open yet, as far as sysfs and netlink tell. What is not against it
  /// and should be known is said on `console`.
  /// - Returns: their tags.
  /// - Throws: why the stream can't go into them.
  func compare(
    _ sources: [StreamManifest.Device], with texts: [String], _ policy: TagPolicy, _ console: Console
  ) throws(CommandFailure) -> [CompatibilityTag] {
    let sourceTags = sources.map { try? CompatibilityTag(decoding: $0.tag) }
    var records: [DeviceRecord] = []
    for text in texts { records.append(try record(Self.name(text))) }
    // They take a while to read, and are compared with nothing where no source has them.
    let readsRules = sourceTags.contains { $0?[.eswitchRules] != nil }
    var tags = TagScanner(root: inventory.root, readsRules: readsRules).tags(of: records.map { ($0, nil) })
    let targets = records.indices.map { index in
      // What the device supports is compared once it says so itself; until then it counts as a match.
      if sources.indices.contains(index) { tags[index][.features] = sourceTags[index]?[.features] }
      return SessionDevice(
        name: "\(records[index].name)", driver: records[index].driver ?? "none",
        features: sources.indices.contains(index) ? sources[index].features : [], state: .running,
        tag: tags[index].encoded)
    }
    let manifest = StreamManifest(devices: sources)
    if let mismatch = LoadSession.mismatch(manifest: manifest, devices: targets, policy: policy) {
      throw .refused(mismatch)
    }
    for warning in LoadSession.warnings(manifest: manifest, devices: targets, policy: policy) {
      console.note("vfio-ferry: warning: \(targets[warning.device].name): \(warning.finding)")
    }
    return tags
  }
}
