// SPDX-License-Identifier: Apache-2.0
import Foundation
import GuestPages
import LinuxIO
import Migration
import Testing

@testable import VFIO

/// A guest whose memory a synthetic device writes to, all in this process: its memory, what is mapped of it, and a copy that
/// has only what trackers have reported.
final class WatchedGuest {
  /// How the device reaches memory.
  enum Way: CaseIterable, Sendable {
    /// By a page table that tracks writes.
    case pageTable
    /// By an address space, as emulated devices do.
    case addressSpace
    /// By a container, as an emulated device.
    case container
    /// By a container, behind an IOMMU.
    case containerWithIOMMU

    var iommu: Synthetic.IOMMU { self == .pageTable || self == .containerWithIOMMU ? .own : .emulated }
  }

  private enum Memory {
    case space(AddressSpace)
    case container(Container)
  }

  static let page: UInt64 = 4096

  let synthetic: Synthetic
  let device: KernelDevice
  let layout: DirtyLayout
  private let memory: Memory
  /// Where the blocks of guest memory are in this process, and their copies, in the order of the layout's parts.
  private let blocks: [(guest: Range<UInt64>, memory: UInt64, copy: UInt64)]

  /// - Parameter guest: the guest's addresses; all of them have memory.
  init(
    _ synthetic: Synthetic, _ way: Way, guest: [Range<UInt64>], pageSize: UInt64 = page
  ) throws {
    self.synthetic = synthetic
    layout = try DirtyLayout(ranges: guest, pageSize: pageSize)
    let name = try #require(DeviceName(synthetic.node))
    switch way {
    case .pageTable, .addressSpace:
      let iommufd = try IOMMUFD()
      let space = try AddressSpace(in: iommufd)
      device = try iommufd.openDevice(node: synthetic.node, name: name)
      let number = try #require(device.iommufdNumber)
      try device.attach(to: way == .pageTable ? .pageTable(PageTable(for: number, of: space)) : .addressSpace(space))
      memory = .space(space)
    case .container, .containerWithIOMMU:
      let group = try LegacyGroup(number: synthetic.group)
      device = try group.openDevice(kernelName: synthetic.name, name: name)
      memory = .container(group.container)
    }
    blocks = try guest.map { range in
      let length = range.upperBound - range.lowerBound
      let (memory, copy) = (pages_make(length), pages_make(length))
      try #require(memory != 0 && copy != 0)
      return (range, memory, copy)
    }
  }

  deinit {
    for block in blocks {
      let length = block.guest.upperBound - block.guest.lowerBound
      pages_free(block.memory, length)
      pages_free(block.copy, length)
    }
  }

  /// Where the guest's address is in this process: of its memory, and of the copy.
  private func place(_ guest: UInt64) -> (memory: UInt64, copy: UInt64) {
    let block = blocks.first { $0.guest.contains(guest) }!
    let offset = guest - block.guest.lowerBound
    return (block.memory + offset, block.copy + offset)
  }

  private func done(_ result: Int32, _ operation: String, _ run: MappedRun) throws(SystemError) {
    let error = errno
    if result != 0 { throw SystemError(operation, "\(run)", errno: error) }
  }

  /// Maps a run for the device.
  func map(_ run: MappedRun) throws {
    let from = place(run.guest).memory
    switch memory {
    case .space(let space):
      try done(
        pages_map(space.iommufd.descriptor.rawValue, space.number, run.addresses.lowerBound, from, run.length),
        "mapping", run)
    case .container(let container):
      try done(
        pages_map_container(container.descriptor.rawValue, run.addresses.lowerBound, from, run.length), "mapping", run)
    }
  }

  func unmap(_ run: MappedRun) throws {
    switch memory {
    case .space(let space):
      try done(
        pages_unmap(space.iommufd.descriptor.rawValue, space.number, run.addresses.lowerBound, run.length),
        "unmapping", run)
    case .container(let container):
      try done(
        pages_unmap_container(container.descriptor.rawValue, run.addresses.lowerBound, run.length), "unmapping", run)
    }
  }

  /// Copies the pages that are dirty; they are clean then.
  /// - Returns: how many there were.
  @discardableResult
  func copy<Words: DirtyWords & ~Copyable>(_ bitmap: inout DirtyBitmap<Words>) throws -> Int {
    var bytes: UInt64 = 0
    for block in blocks {
      try bitmap.takeRuns(in: block.guest) { run in
        let from = place(run.lowerBound)
        pages_copy(from.copy, from.memory, run.upperBound - run.lowerBound)
        bytes += run.upperBound - run.lowerBound
        return true
      }
    }
    return Int(bytes / Self.page)
  }

  /// How many pages the copy has otherwise than memory.
  var differingPages: Int {
    blocks.reduce(0) { $0 + Int(pages_differing($1.memory, $1.copy, $1.guest.upperBound - $1.guest.lowerBound)) }
  }

  /// How many pages of memory are not as they were made.
  var writtenPages: Int {
    blocks.reduce(0) { total, block in
      let length = block.guest.upperBound - block.guest.lowerBound
      let zeros = pages_make(length)
      defer { pages_free(zeros, length) }
      return total + Int(pages_differing(block.memory, zeros, length))
    }
  }

  /// Has the device write to these I/O addresses, and to none other when this returns.
  func aim(_ ranges: [Range<UInt64>]) throws {
    let lines = ranges.map { "\($0.lowerBound)+\($0.upperBound - $0.lowerBound)" }
    try synthetic.set("dma_ranges", lines.joined(separator: "\n"))
    // The page that was on its way is there when the next but one is begun.
    if try device.migrationState() == .running, try synthetic.get("activity").contains("dma") { try wait(pages: 2) }
  }

  func wait(pages: Int) throws {
    let before = try synthetic.referee["dma_pages"]
    try Lab.wait(until: "\(pages) pages were written") { try synthetic.referee["dma_pages"] >= before + pages }
  }

  /// Stops the device as a VMM does; it writes to nothing when this returns.
  func stop() throws {
    _ = try device.setMigrationState(.runningP2P)
    _ = try device.setMigrationState(.stop)
  }

  func start() throws {
    _ = try device.setMigrationState(.runningP2P)
    _ = try device.setMigrationState(.running)
  }

  /// Lets the device write to all of these I/O addresses, each at least once, and stops it.
  func write(_ ranges: [Range<UInt64>]) throws {
    try aim(ranges)
    if try device.migrationState() != .running { try start() }
    try synthetic.set("activity", "dma")
    try wait(pages: Int(ranges.reduce(0) { $0 + ($1.upperBound - $1.lowerBound) } / Self.page) + 1)
    try stop()
  }
}

extension DirtyBitmap where Words: ~Copyable {
  /// The runs of dirty pages; the bitmap is clean then.
  mutating func takeRuns() -> [Range<UInt64>] {
    var runs: [Range<UInt64>] = []
    forEachRun {
      runs.append($0)
      return true
    }
    clearAll()
    return runs
  }

  /// The guest addresses of dirty pages; the bitmap is clean then.
  mutating func takePages() -> Set<UInt64> {
    var pages: Set<UInt64> = []
    let size = layout.pageSize
    forEachRun { run in
      pages.formUnion(stride(from: run.lowerBound & ~(size - 1), to: run.upperBound, by: Int(size)))
      return true
    }
    clearAll()
    return pages
  }
}
