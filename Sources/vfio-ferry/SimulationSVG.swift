// SPDX-License-Identifier: Apache-2.0
internal import Migration
internal import Simulation

/// A drawn move: who ran when on which host, and below, over the same time, how long a peer waited for its answers.
struct SimulationSVG {
  private let picture: SimulationPicture
  private let scale: SimulationTimeScale
  private(set) var drawing = SVGDrawing()
  let width = 1200
  private(set) var height = 0

  private static let margin = 24
  private static let plotLeft = 232
  private static let laneHeight = 11
  private static let faint = SVGDrawing.TextStyle(size: 10, fill: "#52606d")
  private static let plain = SVGDrawing.TextStyle(size: 11, fill: "#1f2933")

  init(_ picture: SimulationPicture) {
    self.picture = picture
    scale = SimulationTimeScale(
      end: picture.end, standstill: picture.standstill, left: Self.plotLeft, right: width - Self.margin)
    paint()
  }

  /// The picture as a file.
  var document: String {
    drawing.document(width: width, height: height, title: "A simulated move: \(picture.scenario)", definitions: "")
  }

  private mutating func paint() {
    let top = paintHeading() + 34
    // What lies in front of the shade and the ticks is known only once it was laid out: so they are drawn to the length
    // that rows have.
    let rows = rowsHeight
    let answersTop = top + rows + 34
    let bottom = picture.answers.isEmpty ? top + rows : answersTop + SimulationAnswers.height
    paintBackground(top: top, bottom: bottom)
    paintRows(from: top)
    if !picture.answers.isEmpty {
      SimulationAnswers(picture: picture, scale: scale).paint(on: &drawing, top: answersTop, labels: Self.margin)
    }
    height = paintLegend(from: paintPhases(from: bottom + 30)) + Self.margin
  }

  // MARK: Heading

  private mutating func paintHeading() -> Int {
    drawing.text(
      "A virtual machine moves to another host, and its peers are not told", x: Self.margin, y: 34,
      style: SVGDrawing.TextStyle(size: 18, isBold: true))
    var y = 56
    let stop = picture.standstill.map { "It stood still for \(Figures.time(UInt64($0.count))). " } ?? ""
    var sentences = [
      ["Scenario \(picture.scenario). \(stop)\(picture.ending)", picture.experience].compactMap { $0 }
        .joined(separator: " ")
    ]
    if !picture.faults.isEmpty {
      sentences.append("What was to go wrong: \(picture.faults.joined(separator: "; "))".clipped(to: 480))
    }
    sentences.append(
      "Time goes from left to right. Everything has two rows: the host that the machine leaves (source), and the host that "
        + "it goes to (destination).")
    if picture.standstill != nil {
      sentences.append(
        "The time in which the machine stood still is shaded"
          + (scale.magnification > 1
            ? "; there a millisecond is \(scale.magnification) times as wide as elsewhere." : "."))
    }
    for sentence in sentences {
      for line in Self.wrapped(sentence, to: SVGDrawing.letters(in: width - 2 * Self.margin, size: 11)) {
        drawing.text(line, x: Self.margin, y: y, style: Self.plain)
        y += 16
      }
    }
    return y
  }

  /// A text in lines of at most so many letters.
  static func wrapped(_ text: String, to letters: Int) -> [String] {
    var lines: [String] = []
    for word in text.split(separator: " ") {
      if let last = lines.last, last.count + 1 + word.count <= letters {
        lines[lines.count - 1] = "\(last) \(word)"
      } else {
        lines.append(String(word).clipped(to: letters))
      }
    }
    return lines
  }

  private mutating func paintBackground(top: Int, bottom: Int) {
    if let standstill = picture.standstill {
      let x = scale.x(standstill.lowerBound)
      let shade = SVGDrawing.Area(
        x: x, y: top - 16, width: max(2, scale.x(standstill.upperBound) - x), height: bottom - top + 16)
      drawing.rectangle(shade, fill: "#fdebe4", title: "the machine stands still")
      let words = "stands still for \(Figures.time(UInt64(standstill.count)))"
      let room = SVGDrawing.width(of: words, size: 12)
      drawing.text(
        words, x: min(max(scale.left, shade.x + (shade.width - room) / 2), scale.right - room), y: top - 20,
        style: SVGDrawing.TextStyle(size: 12, fill: "#a61b1b", isBold: true))
    }
    for tick in scale.ticks(letterWidth: 7) {
      drawing.path("M \(tick.x) \(top - 14) L \(tick.x) \(bottom)", stroke: "#d9dee4", width: 1)
      drawing.text(tick.label, x: tick.x + 3, y: top - 6, style: Self.faint)
    }
  }

  // MARK: Rows

  private var rowsHeight: Int {
    (picture.phases.isEmpty ? 0 : 24) + 34 + picture.devices.count * (2 * Self.laneHeight + 8)
      + (picture.rounds.isEmpty ? 0 : 26)
  }

  private mutating func paintRows(from top: Int) {
    var y = top + 4
    if !picture.phases.isEmpty {
      drawing.text("what goes on", x: Self.margin, y: y + 12, style: Self.plain)
      drawing.text("see below", x: 152, y: y + 12, style: Self.faint)
      for (index, phase) in picture.phases.enumerated() { paint(phase, number: index + 1, y: y) }
      y += 24
    }
    label("vCPUs", nil, y: y)
    for stay in picture.stays {
      guard case .runs(let side) = stay.place else { continue }
      let lane = y + (side == .source ? 0 : Self.laneHeight)
      bar(stay.begin, stay.end, y: lane, fill: DeviceLane.Activity.runs.fill, title: "vCPUs run on the \(side)")
    }
    y += 34
    for device in picture.devices {
      label(device.name, device.kind, y: y)
      for (lane, offset) in [(device.lanes.source, 0), (device.lanes.destination, Self.laneHeight)] {
        for segment in lane.segments {
          bar(
            segment.begin, segment.end, y: y + offset, fill: segment.activity.fill,
            title: "\(device.name) \(segment.activity.words): from \(Figures.time(segment.begin)), for "
              + Figures.time(segment.length))
        }
      }
      y += 2 * Self.laneHeight + 8
    }
    paintRounds(y: y)
  }

  private mutating func label(_ name: String, _ kind: String?, y: Int) {
    let text = [kind, name].compactMap { $0 }.joined(separator: " ").clipped(to: 18)
    drawing.text(text, x: Self.margin, y: y + 14, style: Self.plain)
    drawing.text("source", x: 152, y: y + 9, style: SVGDrawing.TextStyle(size: 9, fill: "#52606d"))
    drawing.text(
      "destination", x: 152, y: y + 9 + Self.laneHeight, style: SVGDrawing.TextStyle(size: 9, fill: "#52606d"))
  }

  private mutating func bar(_ begin: UInt64, _ end: UInt64, y: Int, fill: String, title: String) {
    let x = scale.x(begin)
    let area = SVGDrawing.Area(x: x, y: y, width: max(1, scale.x(end) - x), height: Self.laneHeight - 1)
    drawing.rectangle(area, fill: fill, title: title)
  }

  private mutating func paint(_ phase: SimulationPicture.Phase, number: Int, y: Int) {
    let x = scale.x(phase.begin)
    let area = SVGDrawing.Area(x: x, y: y, width: max(1, scale.x(phase.end) - x), height: 16)
    drawing.rectangle(area, fill: number.isMultiple(of: 2) ? "#f4b8a0" : "#f9d3c4", title: phase.name)
    let text = "\(number)"
    let room = SVGDrawing.width(of: text, size: 10)
    if room + 2 <= area.width {
      drawing.text(
        text, x: x + (area.width - room) / 2, y: y + 12, style: SVGDrawing.TextStyle(size: 10, fill: "#7a2e12"))
    }
  }

  private mutating func paintRounds(y: Int) {
    if picture.rounds.isEmpty { return }
    drawing.text("guest memory", x: Self.margin, y: y + 12, style: Self.plain)
    drawing.text("pages sent", x: 152, y: y + 12, style: Self.faint)
    for (index, round) in picture.rounds.enumerated() where round.pages > 0 {
      let x = scale.x(round.begin)
      let area = SVGDrawing.Area(x: x, y: y, width: max(1, scale.x(round.end) - x), height: 16)
      drawing.rectangle(
        area, fill: index.isMultiple(of: 2) ? "#cdbdf5" : "#e3daf9", title: "round \(index + 1): \(round.pages) pages")
      let text = "\(round.pages)"
      if SVGDrawing.width(of: text, size: 10) + 6 <= area.width {
        drawing.text(text, x: x + 3, y: y + 12, style: SVGDrawing.TextStyle(size: 10, fill: "#43307a"))
      }
    }
  }

  // MARK: Below

  /// The parts of the stop in words, in two columns.
  private mutating func paintPhases(from top: Int) -> Int {
    if picture.phases.isEmpty { return top }
    let column = (width - 2 * Self.margin) / 2
    let rows = (picture.phases.count + 1) / 2
    for (index, phase) in picture.phases.enumerated() {
      let text = "\(index + 1)  \(phase.name), \(Figures.time(phase.end - phase.begin))"
      drawing.text(
        text.clipped(to: SVGDrawing.letters(in: column - 16, size: 11)), x: Self.margin + index / rows * column,
        y: top + index % rows * 16, style: Self.plain)
    }
    return top + rows * 16 + 14
  }

  private mutating func paintLegend(from top: Int) -> Int {
    let lanes = picture.devices.flatMap { [$0.lanes.source, $0.lanes.destination] }
    let used = Set(lanes.flatMap(\.segments).map(\.activity))
    var (x, y) = (Self.margin, top)
    for activity in DeviceLane.Activity.allCases where used.contains(activity) || activity == .runs {
      let room = 30 + SVGDrawing.width(of: activity.words, size: 11) + 22
      if x + room > width - Self.margin, x > Self.margin {
        x = Self.margin
        y += 20
      }
      let sample = SVGDrawing.Area(x: x, y: y - 9, width: 22, height: 11)
      drawing.rectangle(sample, fill: activity.fill, stroke: activity == .empty ? "#b5c0cc" : "none")
      drawing.text(activity.words, x: x + 30, y: y, style: Self.plain)
      x += room
    }
    return y
  }
}

extension DeviceLane.Activity {
  /// Its colour.
  var fill: String {
    switch self {
    case .empty: "#eef1f4"
    case .runs: "#2f9e63"
    case .preCopies: "#93d3a8"
    case .answers: "#f2b632"
    case .standsStill: "#97a3b0"
    case .isRead: "#3f74c9"
    case .isFilled: "#a3bfee"
    case .failed: "#c92a2a"
    }
  }
}
