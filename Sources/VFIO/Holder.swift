// SPDX-License-Identifier: Apache-2.0
internal import Glibc
public import LinuxIO
public import Migration

/// A process that holds VFIO devices, a VMM for example, looked at from outside.
///
/// The process does not cooperate and notices nothing: its descriptors are found in its /proc entry and duplicated with
/// pidfd_getfd(2). Nothing is bound, so nothing is reset. A duplicate keeps its device from being unbound or unplugged:
/// hold it briefly.
public struct Holder: ~Copyable {
  /// A VFIO descriptor that the process has.
  public struct Held: Hashable, Sendable {
    /// What the descriptor is.
    public enum Kind: Hashable, Sendable {
      /// A device's character device, with its device number as `major:minor`.
      case characterDevice(number: String)
      /// A device that came from a group. Newer kernels name its sysfs folder, older ones (6.12 among them) do not.
      case groupDevice(sysfs: String?)
      /// A group's node, with the group's number.
      case group(Int)
    }
    /// The descriptor's number in the process.
    public let number: Int32
    /// What it is.
    public let kind: Kind
  }

  /// Which device is looked for, as sysfs describes it.
  public struct Wanted: Hashable, Sendable {
    /// What messages call it.
    public var name: DeviceName
    /// The device number of its character device as `major:minor`, where it has one.
    public var characterDevice: String?
    /// Its folder in sysfs.
    public var sysfs: String
    /// Its IOMMU group.
    public var group: Int?
    /// Whether it is the only device of its group.
    public var isAloneInGroup: Bool

    /// What sysfs says of the device.
    public init(
      name: DeviceName, characterDevice: String?, sysfs: String, group: Int?, isAloneInGroup: Bool
    ) {
      self.name = name
      self.characterDevice = characterDevice
      self.sysfs = sysfs
      self.group = group
      self.isAloneInGroup = isAloneInGroup
    }
  }

  /// Why a device of a process could not be had.
  public enum Problem: Error, Hashable, Sendable {
    /// A call failed; EPERM means that the caller may not trace the process.
    case system(SystemError)
    /// The process has no descriptor of the device.
    case notHeld(device: String, pid: Int32)
    /// The process has several devices from groups, and this kernel does not tell which is which.
    case ambiguous(device: String, pid: Int32, numbers: [Int32])
    /// The descriptor of that number is something else.
    case otherDescriptor(device: String, pid: Int32, number: Int32)
    /// The process has descriptors of the device, and none of them is open for use (bound).
    case notBound(device: String, pid: Int32, ErrorNumber?)
  }

  private let process: ProcessHandle
  private let folder: String

  /// - Parameter proc: where procfs is.
  public init(pid: Int32, proc: String = "/proc") throws(Problem) {
    do throws(SystemError) {
      process = try ProcessHandle(pid: pid)
    } catch {
      throw .system(error)
    }
    folder = "\(proc)/\(pid)"
  }

  /// The VFIO descriptors that the process has, by number.
  public func descriptors() throws(Problem) -> [Held] {
    let names = Files.names(in: "\(folder)/fd")
    if names.isEmpty, getuid() != 0 {
      throw .system(SystemError("listing", "\(folder)/fd", errno: EACCES))
    }
    return names.compactMap { Int32($0) }.sorted().compactMap { number in
      guard let target = Files.link("\(folder)/fd/\(number)") else { return nil }
      if target.hasPrefix("anon_inode:[vfio-device]") {
        return Held(number: number, kind: .groupDevice(sysfs: deviceFolder(of: number)))
      }
      guard target.contains("/vfio/") else { return nil }
      if target.contains("/vfio/devices/") {
        return deviceNumber(of: number).map { Held(number: number, kind: .characterDevice(number: $0)) }
      }
      return Int(Files.lastComponent(target)).map { Held(number: number, kind: .group($0)) }
    }
  }

  private func deviceFolder(of number: Int32) -> String? {
    guard let info = Files.text("\(folder)/fdinfo/\(number)") else { return nil }
    for line in info.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      if parts.count == 2, parts[0] == "vfio-device-syspath" {
        return parts[1].split(whereSeparator: { $0 == " " || $0 == "\t" }).first.map(String.init)
      }
    }
    return nil
  }

  private func deviceNumber(of number: Int32) -> String? {
    Files.deviceNumber("\(folder)/fd/\(number)")
  }

  /// The numbers of the process's descriptors that may be the wanted device, the likeliest first.
  public func candidates(for wanted: Wanted) throws(Problem) -> [Int32] {
    let all = try descriptors()
    let exact = all.filter { held in
      switch held.kind {
      case .characterDevice(let number): number == wanted.characterDevice
      case .groupDevice(let sysfs): sysfs.map { Files.lastComponent($0) == Files.lastComponent(wanted.sysfs) } ?? false
      case .group: false
      }
    }
    if !exact.isEmpty { return exact.map(\.number) }
    let unnamed = all.filter { $0.kind == .groupDevice(sysfs: nil) }
    let groups = all.compactMap { (held) -> Int? in
      if case .group(let number) = held.kind { number } else { nil }
    }
    guard !unnamed.isEmpty, let group = wanted.group, groups.contains(group) else {
      throw .notHeld(device: "\(wanted.name)", pid: process.pid)
    }
    // One descriptor, one group, and one device in the group: it can be no other.
    guard unnamed.count == 1, Set(groups).count == 1, wanted.isAloneInGroup else {
      throw .ambiguous(device: "\(wanted.name)", pid: process.pid, numbers: unnamed.map(\.number))
    }
    return unnamed.map(\.number)
  }

  /// Whether the process's descriptor of that number may be the wanted device: it is not known to be another. Where the
  /// kernel does not name a group's device, whoever gave the number is believed.
  public func mayBe(_ wanted: Wanted, number: Int32) throws(Problem) -> Bool {
    guard let held = try descriptors().first(where: { $0.number == number }) else { return false }
    switch held.kind {
    case .characterDevice(let node): return node == wanted.characterDevice
    case .groupDevice(let sysfs):
      return sysfs.map { Files.lastComponent($0) == Files.lastComponent(wanted.sysfs) } ?? true
    case .group: return false
    }
  }

  /// Duplicates the process's descriptor of the wanted device.
  ///
  /// A process may have opened the character device more than once and bound it once only; the first descriptor that
  /// answers is taken.
  /// - Parameter number: the descriptor's number in the process, where the caller knows it.
  public func device(_ wanted: Wanted, number: Int32? = nil) throws(Problem) -> KernelDevice {
    var lastError: ErrorNumber?
    if let number, try !mayBe(wanted, number: number) {
      throw .otherDescriptor(device: "\(wanted.name)", pid: process.pid, number: number)
    }
    let numbers = if let number { [number] } else { try candidates(for: wanted) }
    for number in numbers {
      let descriptor: Descriptor
      do throws(SystemError) {
        descriptor = try process.duplicate(descriptor: number, subject: "\(wanted.name)")
      } catch {
        // Closed meanwhile: there may be another.
        if error.errno == EBADF {
          lastError = ErrorNumber(rawValue: error.errno)
          continue
        }
        throw .system(error)
      }
      let device = KernelDevice(adopting: descriptor, name: wanted.name)
      do throws(DeviceError) {
        _ = try device.migrationState()
        return device
      } catch {
        // ENOTTY is an answer: the descriptor works, the device has no migration.
        if error.errno == .notTypewriter { return device }
        lastError = error.errno
      }
    }
    throw .notBound(device: "\(wanted.name)", pid: process.pid, lastError)
  }
}

extension Holder.Problem: CustomStringConvertible {
  public var description: String {
    switch self {
    case .system(let error):
      "\(error)"
        + ([EPERM, EACCES].contains(error.errno) ? "; run as root, or with permission to trace that process" : "")
    case .notHeld(let device, let pid): "process \(pid) holds no descriptor of \(device)"
    case .ambiguous(let device, let pid, let numbers):
      "process \(pid) holds devices from groups (descriptors \(numbers.map(String.init).joined(separator: ", "))), and "
        + "this kernel does not tell whether one is \(device): say which with --fd"
    case .otherDescriptor(let device, let pid, let number):
      "descriptor \(number) of process \(pid) is not \(device)"
    case .notBound(let device, let pid, let errno):
      "process \(pid) has \(device) open but not in use" + (errno.map { " (\($0))" } ?? "")
    }
  }
}
