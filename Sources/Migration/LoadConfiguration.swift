// SPDX-License-Identifier: Apache-2.0
// What a load needs to know before it begins.

extension LoadSession {
  /// What the caller chooses.
  public struct Configuration: Hashable, Sendable {
    /// Leave the devices in STOP once their state is in them.
    public var keepStopped = false
    /// A device that nothing else brings back may be reset although it still holds what it held before, or all that was
    /// loaded: it is empty then. A device that holds a part of a state is reset in any case.
    public var resetAllowed = false
    /// How much of the devices' compatibility tags has to match (DA7).
    public var tagPolicy = TagPolicy.loose
    /// Whether the channel takes answers to the source.
    public var answers = false
    /// Transfer buffers, each of ``StreamFormat/maximumDataSize`` bytes.
    public var buffers = 8
    /// The most bytes that the VMMs' own states of all devices may have together: they are kept in memory.
    public var maximumVMMStateBytes = StreamFormat.maximumDevices * StreamFormat.maximumDataSize
    /// How the group is brought to its stop before it is loaded.
    public var quiescing = QuiesceConfiguration()

    /// The defaults.
    public init() {}
  }

  /// Why nothing can be loaded into these devices, in words; nil where it can. Ask before ``begin(at:)``.
  public static func refusal(devices: [SessionDevice]) -> String? {
    SaveSession.refusal(devices: devices)
  }

  /// Why a stream does not fit these devices, in words; nil where it does.
  /// - Parameter policy: how much of the compatibility tags has to match, where both sides have one (DA7).
  public static func mismatch(
    manifest: StreamManifest, devices: [SessionDevice], policy: TagPolicy = .loose
  ) -> String? {
    guard manifest.devices.count == devices.count else {
      // A peer's words may not become a page.
      let names =
        manifest.devices.prefix(6).map { String($0.name.prefix(80)) } + (manifest.devices.count > 6 ? ["…"] : [])
      return
        "the stream holds \(manifest.devices.count) devices (\(names.joined(separator: ", "))),"
        + " and \(devices.count) were given: name one for each, in that order"
    }
    for (source, device) in zip(manifest.devices, devices) {
      if source.driver != device.driver {
        return "\(source.name) was saved by the driver \(source.driver), and \(device.name) has \(device.driver)"
      }
      if !device.features.isSuperset(of: source.features.intersection([.stopCopy, .preCopy])) {
        return "\(source.name) was saved with \(source.features.names.joined(separator: ", ")), and \(device.name)"
          + " has \(device.features.names.joined(separator: ", ")) only"
      }
      if let refusal = TagComparison.refusal(source: source.tag, destination: device.tag, policy: policy) {
        return "\(device.name) is no match for \(source.name) (\(policy.rawValue) policy): \(refusal)"
      }
    }
    return nil
  }

  /// What does not keep a stream from these devices and the guest's peers may notice; empty where nothing is known.
  public static func warnings(
    manifest: StreamManifest, devices: [SessionDevice], policy: TagPolicy = .loose
  ) -> [(device: Int, finding: TagComparison.Finding)] {
    var warnings: [(device: Int, finding: TagComparison.Finding)] = []
    for (index, (source, device)) in zip(manifest.devices, devices).enumerated() {
      guard let from = try? CompatibilityTag(decoding: source.tag), let to = try? CompatibilityTag(decoding: device.tag)
      else { continue }
      warnings += TagComparison(source: from, destination: to).warnings(under: policy).map { (index, $0) }
    }
    return warnings
  }
}
