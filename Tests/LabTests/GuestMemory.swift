// SPDX-License-Identifier: Apache-2.0
import Testing

/// A program with memory that a synthetic device writes to, and a shadow of what was reported of it.
final class GuestMemory: Puppet {
  /// How the device is attached, and by that who knows what it has written.
  enum Way: CaseIterable {
    case emulatedWithLog, ownWithLog, ownWithDirtyBits, emulatedInContainer, ownInContainer

    var iommu: Synthetic.IOMMU {
      switch self {
      case .emulatedWithLog, .emulatedInContainer: .emulated
      case .ownWithLog, .ownWithDirtyBits, .ownInContainer: .own
      }
    }

    /// Those in which the device tracks, and not its IOMMU.
    static let withLog: [Way] = [.emulatedWithLog, .ownWithLog, .emulatedInContainer, .ownInContainer]
  }

  /// IOVAs that a device can be told to write to, and how much of them is mapped.
  struct Range: CustomStringConvertible {
    let iova: UInt64
    let length: UInt64

    init(_ iova: UInt64, _ length: UInt64) {
      self.iova = iova
      self.length = length
    }

    var description: String { "0x\(String(iova, radix: 16))+\(length)" }
  }

  /// Low memory, some above 4 GiB, and some above 1 TiB: a guest's memory is not in one piece.
  static let ranges = [
    Range(0x100_0000, 8 << 20), Range(0x1_8000_0000, 4 << 20), Range(0x180_0000_0000, 4 << 20),
  ]

  /// The ranges as `dma_ranges` takes them.
  static func setting(_ ranges: [Range]) -> String { ranges.map { "\($0)" }.joined(separator: "\n") }

  init(_ device: Synthetic, _ way: Way) throws {
    switch way {
    case .emulatedWithLog, .ownWithLog: try super.init("guest-memory", ["ioas", device.node])
    case .ownWithDirtyBits: try super.init("guest-memory", ["hwpt", device.node])
    case .emulatedInContainer, .ownInContainer:
      try super.init("guest-memory", ["group", "/dev/vfio/\(try device.group)", device.name])
    }
  }

  func map(_ ranges: [Range]) {
    for range in ranges { #expect(ask("map \(range.iova) \(range.length)") == "ok") }
  }

  /// Reads what the tracker has, once, and copies that. Any number of pages will do.
  func copy(sourceLocation: SourceLocation = #_sourceLocation) {
    let answer = ask("copy")
    #expect(Int(answer) != nil, "\(answer)", sourceLocation: sourceLocation)
  }

  /// Stops the device as a VMM does, with the P2P state first.
  func stop() {
    #expect(ask("set running-p2p") == "ok")
    #expect(ask("set stop") == "ok")
  }

  /// Expects memory to hold what the formulas say of this generator, in at least this many pages.
  func expectRecomputed(
    seed: Int, pattern: String, position: Int, _ ranges: [Range], atLeast pages: Int,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    let list = ranges.map { "\($0)" }.joined(separator: " ")
    let words = ask("recompute \(seed) \(pattern) \(position) \(list)").split(separator: " ")
    #expect(words.first == "same" && words.count == 2, "\(words)", sourceLocation: sourceLocation)
    #expect(words.last.flatMap { Int($0) }.map { $0 >= pages } == true, "\(words)", sourceLocation: sourceLocation)
  }
}
