// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Topology
internal import VFIO

/// Which processes have a VFIO device open. Nothing is duplicated, and they notice nothing.
struct VFIOHolders {
  let root: SystemRoot

  /// A line for each process. One that has a device from the same group is among them where the kernel does not tell which of
  /// the group's devices it has, and one that can't be looked at.
  func lines(for record: DeviceRecord) -> [String] {
    guard record.isOnVFIO else { return [] }
    return Files.names(in: root.proc).compactMap { Int32($0) }.sorted().compactMap { pid in
      do throws(Holder.Problem) {
        let held = try Holder(pid: pid, proc: root.proc).descriptors()
        return Self.place(among: held.map(\.kind), record).map { "\(root.process(pid)) has \($0) open" }
      } catch {
        // A process that has ended meanwhile holds nothing.
        if case .system(let error) = error, error.errno == ESRCH { return nil }
        return "\(root.process(pid)) may have it open: \(error)"
      }
    }
  }

  /// What a process has of the device among what it has of VFIO's; nil where all is of others.
  static func place(among all: [Holder.Held.Kind], _ record: DeviceRecord) -> String? {
    if let place = all.lazy.compactMap({ place(of: $0, record) }).first { return place }
    // Its group's descriptor may be closed by now, or was another process's. One that has other groups has it from there.
    let hasGroups = all.contains { if case .group = $0 { true } else { false } }
    guard record.group != nil, !hasGroups, all.contains(.groupDevice(sysfs: nil)) else { return nil }
    return "a device of a group, which may be this one,"
  }

  private static func place(of kind: Holder.Held.Kind, _ record: DeviceRecord) -> String? {
    switch kind {
    case .characterDevice(let number): number == record.nodeNumber ? record.node ?? "its node" : nil
    case .group(let number): number == record.group ? "group /dev/vfio/\(number)" : nil
    case .groupDevice(let sysfs): sysfs.map(Files.lastComponent) == Files.lastComponent(record.sysfs) ? "it" : nil
    }
  }
}
