// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Migration

/// What is to be watched, how often, and against what it is held.
struct DirtyOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Guest memory to watch, by I/O address; K, M, G and T are powers of 1024. May be repeated.",
      valueName: "START+LENGTH"))
  var range: [String] = []

  @Option(help: ArgumentHelp("What tracks: auto, device, iommu or container.", valueName: "tracker"))
  var tracker = "auto"

  @Option(help: ArgumentHelp("Seconds between readings, 0.01 to 3600.", valueName: "S"))
  var interval = 1.0

  @Option(help: ArgumentHelp("End after so many readings.", valueName: "N"))
  var count: Int?

  @Option(
    help: ArgumentHelp(
      "What the link between the hosts carries, in bit/s; K, M, G and T are powers of 1000.", valueName: "RATE"))
  var link: String?

  @Option(help: ArgumentHelp("At the end draw memory over time into this file.", valueName: "FILE"))
  var svg: String?

  func validate() throws {
    guard interval >= 0.01, interval <= 3600 else { throw ValidationError("--interval takes 0.01 to 3600 seconds") }
    if let count, count < 1 { throw ValidationError("--count takes a number from 1 on") }
    if let link, Quantity.linkRate(link) == nil {
      throw ValidationError("--link takes a rate in bit/s, such as 25G or 400Mbit/s: \"\(link)\" is none")
    }
    if tracker == "everything" {
      throw ValidationError(
        "--tracker everything would count all memory as written each time: there is nothing to watch in that")
    }
    if tracker != "auto", TrackerKind(rawValue: tracker) == nil {
      throw ValidationError("--tracker takes auto, device, iommu or container: \"\(tracker)\" is none")
    }
    for text in range where Quantity.range(text) == nil {
      throw ValidationError(
        "--range takes START+LENGTH in whole pages of 4K, such as 0+2G or 0x100000000+14G: \"\(text)\" is none")
    }
    let ranges = sortedRanges
    for (range, next) in zip(ranges, ranges.dropFirst()) where range.overlaps(next) {
      throw ValidationError("\(Figures.range(range)) and \(Figures.range(next)) overlap")
    }
  }

  private var sortedRanges: [Range<UInt64>] {
    range.compactMap(Quantity.range).sorted { $0.lowerBound < $1.lowerBound }
  }

  /// What is to be watched, in ascending order.
  /// - Throws: where nothing was named. The kernel tells nobody what is mapped for a device.
  func ranges() throws(CommandFailure) -> [Range<UInt64>] {
    if range.isEmpty {
      throw .misuse(
        "say with --range which guest memory to watch, because the kernel tells nobody what is mapped: QEMU's monitor "
          + "shows it (info mtree -f, the lines with \"ram\"); Cloud Hypervisor on x86 has up to 3G at 0 and the rest at "
          + "4G (--range 0+3G --range 4G+13G for 16G)")
    }
    return sortedRanges
  }

  /// Which tracker is wanted.
  var wish: TrackerWish { TrackerKind(rawValue: tracker).map { .only($0) } ?? .auto }

  /// Microseconds between readings.
  var microseconds: UInt64 { UInt64(interval * 1_000_000) }

  /// Bytes a second that the link carries.
  var linkBytesPerSecond: UInt64? { link.flatMap(Quantity.linkRate) }
}
