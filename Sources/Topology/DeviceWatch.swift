// SPDX-License-Identifier: Apache-2.0

/// What there is of VFIO on a host, followed event by event. What was missed is found by looking at all of it again.
///
/// Pure: it is told what udev says and what was found in sysfs, and answers what has changed.
public struct DeviceWatch: Sendable {
  /// Something to tell.
  public struct Change: Hashable, Sendable {
    /// The kernel's word for what has happened.
    public var action: String
    /// What it has happened to; of what is gone, as it was.
    public var sighting: DeviceSighting
    /// The event's number; nil for what no event told of: it was found by looking again.
    public var sequence: UInt64?

    /// A change.
    public init(action: String, sighting: DeviceSighting, sequence: UInt64?) {
      self.action = action
      self.sighting = sighting
      self.sequence = sequence
    }
  }

  /// Whose events are wanted.
  public static let subsystems = ["vfio-dev", "vfio", "mdev", "pci"]

  private var known: [String: DeviceSighting] = [:]
  /// Events up to this one may have been seen by looking.
  private var seen: UInt64 = 0
  /// When udev had first dealt with what stood in a folder as somebody looked, where udev keeps that.
  private var beginnings: [String: UInt64] = [:]

  /// One that knows of nothing.
  public init() {}

  /// What there is, by kind and name.
  public var sightings: [DeviceSighting] {
    let order = DeviceSighting.Kind.allCases
    return known.values.sorted { left, right in
      let kinds = (order.firstIndex(of: left.kind) ?? 0, order.firstIndex(of: right.kind) ?? 0)
      return (kinds.0, left.name, left.path) < (kinds.1, right.name, right.path)
    }
  }

  /// Takes in an event.
  /// - Parameters:
  ///   - isPhysical: whether the device is a PCI function that can have virtual ones; of one that is gone, what was known counts.
  ///   - isThere: whether this very device, and no later one in its folder, is there now.
  /// - Returns: what to tell; nil where it is nothing that is watched, or known already.
  public mutating func take(_ event: UdevEvent, isPhysical: Bool, isThere: () -> Bool) -> Change? {
    let path = event.device.path
    let before = known[path]
    let isGone = event.action == "remove"
    let now = DeviceSighting(event.device, isPhysical: isPhysical || before?.kind == .physical)
    // Who has not heard that something came does not hear that it went.
    if isGone, before == nil { return nil }
    // A later device in the same folder was seen already, when somebody looked.
    if let beginning = beginnings[path], let time = event.device.time, time < beginning { return nil }
    // This very device was, while it or its driver came. That is told again only where somebody has played it again.
    if !event.isPlayedAgain, let before, before.isSame(as: event.device),
      event.action == "add" || event.action == "bind" && before.driver == now?.driver
    {
      // Udev's rules may have dealt with it only after that; and its driver may have come before.
      if var now, now.driver != nil || before.driver == nil {
        // Where udev keeps no time, the event's tells nothing.
        now.initialized = before.initialized
        known[path] = now
      }
      return nil
    }
    if event.sequence <= seen, isOld(event, before, isThere) {
      // Udev's rules may have dealt with it only after somebody looked.
      if !isGone, let now, before?.initialized == now.initialized { known[path] = now }
      return nil
    }
    known[path] = isGone ? nil : now
    // What is gone, or no VFIO driver has any more, was something.
    guard let sighting = isGone || now == nil ? before ?? now : now else { return nil }
    return Change(action: event.action, sighting: sighting, sequence: event.sequence)
  }

  /// Whether an event that happened before somebody looked says nothing that was not seen then.
  private func isOld(_ event: UdevEvent, _ before: DeviceSighting?, _ isThere: () -> Bool) -> Bool {
    if event.action == "remove" {
      // The end of the device that was seen, or of an earlier one in the same folder.
      return event.device.initialized.map { $0 != before?.initialized } ?? false
    }
    // What was not seen came so late that udev had not dealt with it, or was gone before, and then its end may be among what
    // was lost.
    return before != nil || !isThere()
  }

  /// Compares what is known with all that there is.
  /// - Parameters:
  ///   - all: what was found, each with whether it can have virtual functions.
  ///   - sequence: the number of the kernel's last event before anybody looked.
  /// - Returns: what has changed meanwhile.
  public mutating func compare(_ all: [(device: UdevDevice, isPhysical: Bool)], asOf sequence: UInt64) -> [Change] {
    var found: [String: DeviceSighting] = [:]
    beginnings = [:]
    for (device, isPhysical) in all {
      found[device.path] = DeviceSighting(device, isPhysical: isPhysical)
      beginnings[device.path] = device.time
    }
    var changes: [Change] = []
    for old in sightings where found[old.path].map({ Self.isOther($0, old) }) ?? true {
      changes.append(Change(action: "remove", sighting: old, sequence: nil))
      known[old.path] = nil
    }
    let before = known
    known = found
    seen = max(seen, sequence)
    for now in sightings {
      guard var old = before[now.path] else {
        changes.append(Change(action: "add", sighting: now, sequence: nil))
        continue
      }
      // Whether it is another device has been asked.
      old.initialized = now.initialized
      if old == now { continue }
      let action = old.driver == now.driver ? "change" : now.driver == nil ? "unbind" : "bind"
      changes.append(Change(action: action, sighting: now, sequence: nil))
    }
    return changes
  }

  /// Whether two that have stood in one folder are two devices, as far as can be told.
  private static func isOther(_ one: DeviceSighting, _ other: DeviceSighting) -> Bool {
    if one.kind != other.kind || one.name != other.name { return true }
    guard let first = one.initialized, let second = other.initialized else { return false }
    return first != second
  }
}

extension DeviceSighting {
  /// Whether it is the device that an event is about, as far as can be told.
  fileprivate func isSame(as device: UdevDevice) -> Bool { initialized.map { $0 == device.initialized } ?? true }
}

extension UdevDevice {
  /// ``initialized`` in microseconds, to tell what came first.
  fileprivate var time: UInt64? { initialized.flatMap { UInt64($0) } }
}
