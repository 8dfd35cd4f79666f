// SPDX-License-Identifier: Apache-2.0

/// A device as udev describes it, in its database or with an event.
public struct UdevDevice: Hashable, Sendable {
  /// Its folder in sysfs. No two devices have one at the same time, but a device and a later one may.
  public var path: String
  /// Its subsystem.
  public var subsystem: String
  /// What the kernel and udev's rules say of it.
  public var properties: [String: String]

  /// A device.
  public init(path: String, subsystem: String, properties: [String: String] = [:]) {
    self.path = path
    self.subsystem = subsystem
    self.properties = properties
  }

  /// Tells it from an earlier device in the same folder: when udev first dealt with it. Udev keeps that of what has a node, a tag
  /// or a property from its rules. Of anything else, such as a mediated device, each event has a time of its own, not even in
  /// their order, and udev's database has none.
  var initialized: String? { properties["USEC_INITIALIZED"] }
}

/// Something that happened to a device, and that udev has dealt with.
public struct UdevEvent: Hashable, Sendable {
  /// The kernel's word for it: `add`, `remove`, `bind`, `unbind`, `change` and others.
  public var action: String
  /// The kernel's number for it, in ascending order.
  public var sequence: UInt64
  /// What it happened to.
  public var device: UdevDevice

  /// Whether somebody has asked for it, as `udevadm trigger` does, and nothing has happened.
  var isPlayedAgain: Bool { device.properties["SYNTH_UUID"] != nil }

  /// An event.
  public init(action: String, sequence: UInt64, device: UdevDevice) {
    self.action = action
    self.sequence = sequence
    self.device = device
  }
}
