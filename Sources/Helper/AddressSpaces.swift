// SPDX-License-Identifier: Apache-2.0
internal import LinuxIO
internal import Synchronization
internal import VFIO

/// The I/O address spaces of devices that are held, all in one iommufd: the VMM sends a descriptor of that with every
/// device, and one is enough. When the last device goes, so does it, because it keeps guest memory pinned.
final class AddressSpaces: Sendable {
  private struct Known {
    weak var space: AddressSpace?
  }
  private let spaces = Mutex<[UInt32: Known]>([:])

  /// A space by its number.
  /// - Parameters:
  ///   - descriptor: the iommufd that it is said to be in; closed where the space is known already, and where this throws.
  ///   - device: that it is for.
  /// - Throws: where that is another iommufd than the one of the devices that are held: the numbers of spaces would mean
  ///   two things. Where the kernel does not tell them apart the VMM's word is taken.
  func space(
    _ number: UInt32, in descriptor: consuming Descriptor, device: UInt32
  ) throws(HelperFailure) -> AddressSpace {
    let iommufd = IOMMUFD(adopting: descriptor)
    let found: AddressSpace? = spaces.withLock { spaces in
      spaces = spaces.filter { $0.value.space != nil }
      if let other = spaces.values.lazy.compactMap(\.space).first, (try? other.iommufd.isSame(as: iommufd)) == false {
        return nil
      }
      if let known = spaces[number]?.space { return known }
      let space = AddressSpace(adopting: number, in: iommufd)
      spaces[number] = Known(space: space)
      return space
    }
    if let found { return found }
    throw HelperFailure(
      .badArgument, device: device,
      "device \(device) comes with another iommufd than the devices that are here: one VM has one")
  }
}
