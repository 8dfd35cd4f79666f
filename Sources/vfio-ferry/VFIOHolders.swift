// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Topology
internal import VFIO

/// Which processes have a VFIO device open. Nothing is duplicated, and they notice nothing.
struct VFIOHolders {
  let root: SystemRoot

  /// A line for each process. One that has a device from the same group is among them where the kernel does not tell which of
  /// the group's devices it has.
  func lines(for record: DeviceRecord) -> [String] {
    guard record.isOnVFIO else { return [] }
    return Files.names(in: root.proc).compactMap { Int32($0) }.sorted().compactMap { pid in
      // A process that has ended meanwhile holds nothing.
      guard let held = try? Holder(pid: pid, proc: root.proc).descriptors(),
        let place = held.lazy.compactMap({ Self.place(of: $0, record) }).first
      else { return nil }
      return "\(root.process(pid)) has \(place) open"
    }
  }

  /// What the descriptor is of the device; nil where it is another one's.
  private static func place(of held: Holder.Held, _ record: DeviceRecord) -> String? {
    switch held.kind {
    case .characterDevice(let number): number == record.nodeNumber ? record.node ?? "its node" : nil
    case .group(let number): number == record.group ? "group /dev/vfio/\(number)" : nil
    case .groupDevice(let sysfs): sysfs.map(Files.lastComponent) == Files.lastComponent(record.sysfs) ? "it" : nil
    }
  }
}
