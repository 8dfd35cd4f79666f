// SPDX-License-Identifier: Apache-2.0
import Foundation
import LinuxIO
import Migration
import MockIOMMU
import Testing

@testable import VFIO

/// An iommufd with an address space, a mock device, and a page table that it is attached to.
final class MockDevice {
  static let page: UInt64 = 4096

  let descriptor: Descriptor
  let iommufd: IOMMUFD
  let space: AddressSpace
  let device: mock_device
  let table: PageTable
  let tracker: PageTableTracker

  init() throws {
    descriptor = try Descriptor.open("/dev/iommu", O_RDWR)
    iommufd = IOMMUFD(adopting: try descriptor.duplicate())
    space = try AddressSpace(in: iommufd)
    device = try MockDevice.device(descriptor.rawValue, space)
    table = try PageTable(for: device.device, of: space)
    try MockDevice.done(mock_device_attach(descriptor.rawValue, device.standard_device, table.number))
    tracker = PageTableTracker(table)
  }

  static func device(_ descriptor: Int32, _ space: AddressSpace, canTrack: Bool = true) throws -> mock_device {
    var device = mock_device()
    try done(unsafe mock_device_make(descriptor, space.number, canTrack ? 1 : 0, &device))
    return device
  }

  static func done(_ result: Int32) throws {
    let error = errno
    if result != 0 { throw SystemError("using", "the mock IOMMU", errno: error) }
  }

  func map(_ addresses: Range<UInt64>) throws {
    try Self.done(mock_map(descriptor.rawValue, space.number, addresses.lowerBound, UInt64(addresses.count)))
  }

  func unmap(_ addresses: Range<UInt64>) throws {
    try Self.done(mock_unmap(descriptor.rawValue, space.number, addresses.lowerBound, UInt64(addresses.count)))
  }

  /// A device writes to some bytes of these pages of 4 KiB, by I/O address.
  func write(_ run: MappedRun, _ pages: Set<UInt64>) throws {
    var bits = [UInt64](repeating: 0, count: Int(run.length / 2048 / 64) + 1)
    for address in pages {
      // The first or the second half of it: the mock IOMMU's pages are that small.
      let bit = Int((address - run.addresses.lowerBound) / 2048) + Int(address / Self.page % 2)
      bits[bit / 64] |= 1 << UInt64(bit % 64)
    }
    try Self.done(
      unsafe mock_set_dirty(descriptor.rawValue, table.number, run.addresses.lowerBound, run.length, bits))
  }
}
