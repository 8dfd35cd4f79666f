// SPDX-License-Identifier: Apache-2.0
// What a save needs to know before it begins.

extension SaveSession {
  /// What the caller chooses.
  public struct Configuration: Hashable, Sendable {
    /// Leave the devices in STOP once the stream is finished.
    public var keepStopped = false
    /// A device that nothing else brings back may be reset, which empties it.
    public var resetAllowed = false
    /// Read device state before the stop.
    public var preCopy = true
    /// The pace of pre-copy.
    public var pace = PreCopyPace.Limits()
    /// Guest memory moves with the devices, in rounds that this paces; nil where somebody else sees to it, or there is none.
    public var memory: PreCopyConfiguration?
    /// The channel brings answers: the group is stopped only when the destination has every device's initial data.
    public var awaitsAnswers = false
    /// The source lets go of its devices once the destination has loaded them, and stays stopped; until then it can take
    /// everything back. For a channel that brings answers; `keepStopped` has no meaning then.
    public var commits = false
    /// The group is stopped when the caller orders that, and not before. Until then state and pages are read ahead, and what
    /// is decided is told (``SessionNote/ready``).
    public var stopsOnOrder = false
    /// The stream is finished when the caller orders that: what it keeps of the devices itself comes with the order.
    public var finishesOnOrder = false
    /// Transfer buffers, each of ``StreamFormat/maximumDataSize`` bytes.
    public var buffers = 8
    /// How the group is brought to its stop.
    public var quiescing = QuiesceConfiguration()

    /// The defaults.
    public init() {}
  }

  /// Why these devices can't be saved together, in words; nil where they can. Ask before ``begin(at:)``.
  public static func refusal(devices: [SessionDevice]) -> String? {
    for device in devices {
      guard device.features.contains(.stopCopy) else { return "\(device.name) can't be migrated" }
      switch device.state {
      case .running, .runningP2P, .stop: continue
      case .error: return "\(device.name) is in error: only a reset brings it back, and then it is empty"
      case .stopCopy, .resuming, .preCopy, .preCopyP2P:
        return "\(device.name) is in \(device.state): somebody is migrating it"
      }
    }
    let manifest = StreamManifest(devices: devices.map(\.manifestRecord))
    if let problem = manifest.problem { return "no manifest can be written: \(problem)" }
    for device in devices where (device.vmmState?.count ?? 0) > StreamFormat.maximumDataSize {
      return "the VMM's state of \(device.name) is longer than \(StreamFormat.maximumDataSize) bytes"
    }
    return nil
  }
}

extension SessionDevice {
  var manifestRecord: StreamManifest.Device {
    StreamManifest.Device(name: name, driver: driver, features: features, tag: tag)
  }
}
