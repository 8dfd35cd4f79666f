// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// Dirty memory for a program, and for a person whose output is no terminal: a line for each reading.
struct DirtyReport {
  /// A device, and how many dirty pages it has had since the reading before.
  struct Device: Hashable {
    let name: String
    let tracker: TrackerKind
    /// Why this one.
    let reason: String
    var pages = 0
  }

  let figures: DirtyFigures
  let devices: [Device]
  /// Bytes a second that the link carries.
  let link: UInt64?

  private static let hotRanges = 8

  /// One line of text.
  var line: String {
    guard let last = figures.last else { return "" }
    let hottest = figures.hottest(atMost: 1).first.map { "  hottest \(DirtySentences.hot($0))" } ?? ""
    return "\(Self.seconds(figures.microseconds)) s  \(last.pages) pages  "
      + "\(DirtySentences.rate(last.bytesPerSecond))\(devices.count > 1 ? "  (\(Self.shares(devices)))" : "")\(hottest)"
  }

  /// What each device has had since the reading before.
  static func shares(_ devices: [Device]) -> String {
    devices.map { "\($0.name) \($0.pages) pages" }.joined(separator: ", ")
  }

  /// Microseconds as seconds, to the millisecond.
  static func seconds(_ microseconds: UInt64) -> String {
    let milliseconds = microseconds / 1000
    let rest = String(milliseconds % 1000)
    return "\(milliseconds / 1000)." + String(repeating: "0", count: 3 - rest.count) + rest
  }

  /// One object.
  var json: JSON {
    let pageSize = figures.buckets.layout.pageSize
    let sentences = DirtySentences(figures: figures, link: link)
    return .object([
      "reading": .integer(Int64(figures.readings)),
      "time_us": .unsigned(figures.microseconds),
      "interval_us": JSON(figures.last?.microseconds),
      "tracker": .string(Self.tracker(devices)),
      "dirty_pages": JSON(figures.last?.pages),
      "dirty_bytes": JSON(figures.last.map { UInt64($0.pages) * pageSize }),
      "dirty_bytes_per_second": JSON(figures.last?.bytesPerSecond),
      "mean_bytes_per_second": .unsigned(figures.meanBytesPerSecond),
      "peak_bytes_per_second": .unsigned(figures.peakBytesPerSecond),
      "written_bytes_so_far": .unsigned(UInt64(figures.workingSetPages) * pageSize),
      "watched_bytes": .unsigned(figures.watchedBytes),
      "page_bytes": .unsigned(pageSize),
      "link_bytes_per_second": JSON(link),
      "link_verdict": JSON(sentences.verdict?.rawValue),
      "devices": .array(
        devices.map {
          .object([
            "name": .string($0.name), "tracker": .string($0.tracker.rawValue), "tracker_reason": .string($0.reason),
            "dirty_pages": .integer(Int64($0.pages)),
          ])
        }),
      "hottest": .array(
        figures.hottest(atMost: Self.hotRanges).map {
          .object([
            "start": .string("0x" + String($0.addresses.lowerBound, radix: 16)),
            "length_bytes": .unsigned($0.addresses.upperBound - $0.addresses.lowerBound),
            "pages_per_second": .unsigned($0.pagesPerSecond), "percent": .integer(Int64($0.percent)),
          ])
        }),
    ])
  }

  /// What tracks, once each.
  static func tracker(_ devices: [Device]) -> String {
    TrackerKind.allCases.filter { kind in devices.contains { $0.tracker == kind } }.map(\.rawValue)
      .joined(separator: ",")
  }
}
