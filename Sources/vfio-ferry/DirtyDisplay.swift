// SPDX-License-Identifier: Apache-2.0
internal import Glibc
internal import LinuxIO
internal import Migration

/// Shows dirty memory as it becomes so: on a terminal a picture that is drawn anew, otherwise a line or an object for each
/// reading.
struct DirtyDisplay {
  let console: Console
  let devices: [DirtyReport.Device]
  /// The process that holds the devices.
  let holder: Int32?
  let link: UInt64?
  /// How objects are printed, where they are asked for.
  let json: FormatOptions?
  /// Whether there is a terminal to draw on.
  let isLive: Bool
  private var linesDrawn = 0

  init(
    console: Console, devices: [DirtyReport.Device], holder: Int32?, link: UInt64?, json: FormatOptions?, isLive: Bool
  ) {
    self.console = console
    self.devices = devices
    self.holder = holder
    self.link = link
    self.json = json
    self.isLive = isLive
  }

  /// What is watched, and by what.
  var heading: String {
    let names = devices.map(\.name).joined(separator: ", ")
    let kinds = DirtyReport.tracker(devices)
    let log = kinds == "device" ? "the device's own log" : kinds
    return "\(names)\(holder.map { " of process \($0)" } ?? ""), by \(log)"
  }

  /// Says what was turned on, and what must not happen meanwhile.
  func begin() {
    for device in devices { console.note("\(device.name): tracker \(device.reason)") }
    console.note(
      "the log is on until this ends; \(holder.map { "process \($0)" } ?? "whoever else has the device") must not migrate "
        + "meanwhile; what vCPUs write is not seen")
  }

  /// Shows what a reading has changed.
  mutating func show(_ figures: DirtyFigures, _ devices: [DirtyReport.Device]) {
    let report = DirtyReport(figures: figures, devices: devices, link: link)
    if let json {
      console.json(report.json, json)
    } else if isLive {
      draw(figures, devices)
    } else {
      console.line(report.line)
    }
  }

  private mutating func draw(_ figures: DirtyFigures, _ devices: [DirtyReport.Device]) {
    let terminal = Terminal(STDOUT_FILENO) ?? .usual
    let pane = DirtyPane(
      figures: figures, devices: devices, link: link, heading: heading, terminal: terminal,
      hasColours: Terminal.hasColours)
    let lines = pane.lines
    // Up, and each line to its end anew: nothing flickers.
    let up = linesDrawn > 0 ? "\u{1b}[\(linesDrawn)A" : ""
    console.out(up + lines.map { $0 + "\u{1b}[K\n" }.joined() + "\u{1b}[J")
    linesDrawn = lines.count
  }

  /// Says what it came to. A picture on a terminal stays, and says it already.
  func end(_ figures: DirtyFigures) {
    guard json == nil, !isLive, figures.readings > 0 else { return }
    let sentences = DirtySentences(figures: figures, link: link)
    console.line(
      "mean \(DirtySentences.rate(figures.meanBytesPerSecond)), peak "
        + "\(DirtySentences.rate(figures.peakBytesPerSecond)); \(sentences.workingSet)")
    console.line(sentences.meaning)
  }

  /// The picture over time.
  func svg(_ figures: DirtyFigures) -> String {
    DirtySVG(figures, heading: heading, link: link).document
  }
}
