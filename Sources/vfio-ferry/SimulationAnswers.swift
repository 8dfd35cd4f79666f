// SPDX-License-Identifier: Apache-2.0
internal import Glibc

/// The lower part of a drawn move: each answer that a peer had as a dot, as high as it had waited.
struct SimulationAnswers {
  let picture: SimulationPicture
  let scale: SimulationTimeScale

  static let height = 190
  private static let faint = SVGDrawing.TextStyle(size: 10, fill: "#52606d")

  /// - Parameters:
  ///   - top: where the highest dot may lie.
  ///   - labels: where the words to the left begin.
  func paint(on drawing: inout SVGDrawing, top: Int, labels: Int) {
    let waits = picture.answers.map { max(1, $0.waited) }
    // Whole decades: a stop is a hundred times as long as an answer usually takes.
    let lowest = Self.decade(waits.min() ?? 1)
    var highest = lowest
    while Self.power(highest) < (waits.max() ?? 1) || highest == lowest { highest += 1 }
    func y(_ wait: UInt64) -> Int {
      let share = (log10(Double(max(1, wait))) - Double(lowest)) / Double(highest - lowest)
      return top + Self.height - Int(share * Double(Self.height))
    }
    drawing.text(
      "waits of peer \(picture.peer)", x: labels, y: top + 12, style: SVGDrawing.TextStyle(size: 11, fill: "#1f2933"))
    for (index, line) in ["each dot is an answer,", "as high as the peer", "had waited for it"].enumerated() {
      drawing.text(line, x: labels, y: top + 30 + index * 14, style: Self.faint)
    }
    for decade in lowest...highest {
      let line = y(Self.power(decade))
      drawing.path("M \(scale.left) \(line) L \(scale.right) \(line)", stroke: "#d9dee4", width: 1)
      let label = Self.label(decade)
      drawing.text(
        label, x: scale.left - 6 - SVGDrawing.width(of: label, size: 10), y: line + 3, style: Self.faint)
    }
    // Dots that would cover each other are one.
    var seen: Set<Int> = []
    var data = ""
    for answer in picture.answers {
      let (x, y) = (scale.x(answer.time), y(answer.waited))
      if seen.insert(x << 16 | y).inserted { data += "M \(x) \(y) h 0 " }
    }
    drawing.path(data, stroke: "#1769aa", width: 3, attributes: "stroke-linecap=\"round\"")
    guard let longest = picture.answers.max(by: { $0.waited < $1.waited }) else { return }
    let (x, mark) = (scale.x(longest.time), y(longest.waited))
    drawing.path(
      "M \(x - 5) \(mark) a 5 5 0 1 0 10 0 a 5 5 0 1 0 -10 0", stroke: "#a61b1b", width: 2, title: "the longest wait")
    let words = "the longest: \(Figures.time(longest.waited))"
    let room = SVGDrawing.width(of: words, size: 11)
    drawing.text(
      words, x: x + 10 + room <= scale.right ? x + 10 : x - 10 - room, y: max(mark, top + 6) + 4,
      style: SVGDrawing.TextStyle(size: 11, fill: "#a61b1b", isBold: true))
  }

  /// Ten to that power.
  private static func power(_ exponent: Int) -> UInt64 { (0..<exponent).reduce(1) { power, _ in power * 10 } }

  /// The greatest power of ten that is not greater.
  private static func decade(_ value: UInt64) -> Int { "\(value)".count - 1 }

  private static func label(_ decade: Int) -> String {
    switch decade {
    case 0...2: "\(power(decade)) us"
    case 3...5: "\(power(decade - 3)) ms"
    default: "\(power(decade - 6)) s"
    }
  }
}
