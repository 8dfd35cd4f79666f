// SPDX-License-Identifier: Apache-2.0
internal import CUdev
internal import Glibc
public import LinuxIO

/// libudev: what udevd says once it has dealt with an event, and what it knows of devices. It is loaded when one of these is
/// made. Not to be used by two threads.
@safe public struct UdevLibrary: ~Copyable {
  private let handle: OpaquePointer
  /// The socket that can be read when there is an event: a duplicate, and so nothing is taken from libudev.
  public let descriptor: Descriptor

  /// Why nothing can be heard.
  public enum Problem: Error, Hashable, Sendable {
    /// This machine has no libudev.
    case noLibrary
    /// No udevd runs here, and so nobody says anything.
    case noDaemon
    /// A call failed.
    case system(SystemError)
  }

  /// What there is to hear.
  public enum Heard: Hashable, Sendable {
    /// Nothing now.
    case nothing
    /// An event.
    case event(UdevEvent)
    /// Events were lost: there was no room for them, or one could not be read.
    case lost(SystemError)
  }

  /// Begins to listen.
  /// - Parameters:
  ///   - subsystems: whose devices count; at most 16.
  ///   - room: for events that wait, in bytes; whoever has no `CAP_NET_ADMIN` gets what the kernel allows everybody.
  public init(subsystems: [String], room: Int32) throws(Problem) {
    // libudev would listen all the same, and hear nothing.
    guard Files.exists("/run/udev/control") else { throw .noDaemon }
    var made: OpaquePointer?
    let result = unsafe vf_udev_open(subsystems.joined(separator: " "), room, &made)
    let error = errno
    guard result == VF_UDEV_LISTENING, let made = unsafe made else {
      throw result == VF_UDEV_NO_LIBRARY
        ? .noLibrary : .system(SystemError("listening to", "udevd", errno: error))
    }
    do throws(SystemError) {
      descriptor = try Descriptor.inherited(unsafe vf_udev_descriptor(made), subject: "udevd's events")
      unsafe handle = made
    } catch {
      unsafe vf_udev_close(made)
      throw .system(error)
    }
  }

  deinit { unsafe vf_udev_close(handle) }

  /// Takes the next event, without waiting for one.
  public func next() -> Heard {
    let device = unsafe vf_udev_receive(handle)
    let error = errno
    guard let device = unsafe device else {
      return error == EAGAIN || error == EINTR ? .nothing : .lost(SystemError("hearing", "udevd", errno: error))
    }
    defer { unsafe vf_udev_release(device) }
    guard let action = unsafe vf_udev_action(device), let found = unsafe Self.described(device) else {
      return .lost(SystemError("understanding", "udevd", errno: EBADMSG))
    }
    return .event(
      UdevEvent(
        action: unsafe String(cString: action), sequence: UInt64(unsafe vf_udev_sequence(device)), device: found))
  }

  /// All devices of the subsystems that there are now. Those whose event udevd has not dealt with yet are left out, as far as
  /// they have nodes.
  public func devices() throws(SystemError) -> [UdevDevice] {
    let list = unsafe vf_udev_find(handle)
    let error = errno
    guard let list = unsafe list else { throw SystemError("finding", "devices in sysfs", errno: error) }
    defer { unsafe vf_udev_release_list(list) }
    var found: [UdevDevice] = []
    while let device = unsafe vf_udev_next(list) {
      if let description = unsafe Self.described(device) { found.append(description) }
      unsafe vf_udev_release(device)
    }
    return found
  }

  /// Whether this very device, and no later one in its folder, is there now.
  public func hasNow(_ device: UdevDevice) -> Bool {
    guard let found = unsafe vf_udev_at(handle, device.path) else { return false }
    defer { unsafe vf_udev_release(found) }
    return unsafe Self.described(found)?.initialized == device.initialized
  }

  private static func described(_ device: OpaquePointer) -> UdevDevice? {
    guard let path = unsafe vf_udev_path(device), let subsystem = unsafe vf_udev_subsystem(device) else { return nil }
    var found = UdevDevice(
      path: unsafe String(cString: path), subsystem: unsafe String(cString: subsystem))
    unsafe withUnsafeMutablePointer(to: &found.properties) { properties in
      unsafe vf_udev_properties(
        device,
        { context, name, value in
          let properties = unsafe context!.assumingMemoryBound(to: [String: String].self)
          unsafe properties.pointee[String(cString: name!)] = unsafe String(cString: value!)
        }, properties)
    }
    return found
  }
}

extension UdevLibrary.Problem: CustomStringConvertible {
  public var description: String {
    switch self {
    case .noLibrary: "libudev.so.1 can't be loaded (Debian has it in libudev1)"
    case .noDaemon: "no udevd runs here, so nobody tells of devices (there is no /run/udev/control)"
    case .system(let error): "\(error)"
    }
  }
}
