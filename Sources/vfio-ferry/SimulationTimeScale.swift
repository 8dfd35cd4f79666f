// SPDX-License-Identifier: Apache-2.0

/// Where a moment lies on the page. The stop is short, and what people look for: it gets half of the width at least.
struct SimulationTimeScale {
  private struct Part {
    let begin: UInt64
    let end: UInt64
    let left: Int
    let right: Int
  }

  /// A mark on the axis.
  struct Tick: Hashable {
    let x: Int
    let label: String
  }

  private let parts: [Part]
  let left: Int
  let right: Int
  /// How many times as wide the stop is drawn as the rest; 1 where it is not.
  let magnification: Int

  /// - Parameters:
  ///   - end: the run's end, in microseconds.
  ///   - standstill: the time that gets more room.
  init(end: UInt64, standstill: Range<UInt64>?, left: Int, right: Int) {
    self.left = left
    self.right = right
    let end = max(end, standstill?.upperBound ?? 0, 1)
    let width = right - left
    // With a little of what is around it.
    let margin = UInt64(standstill?.count ?? 0) / 10
    let near = standstill.map { max($0.lowerBound, margin) - margin..<min($0.upperBound + margin, end) }
    guard let near, UInt64(near.count) * 100 < end * 55 else {
      parts = [Part(begin: 0, end: end, left: left, right: right)]
      magnification = 1
      return
    }
    let stretched = width * 55 / 100
    let rest = max(1, end - UInt64(near.count))
    let first = left + Int(UInt64(width - stretched) * near.lowerBound / rest)
    parts = [
      Part(begin: 0, end: near.lowerBound, left: left, right: first),
      Part(begin: near.lowerBound, end: near.upperBound, left: first, right: first + stretched),
      Part(begin: near.upperBound, end: end, left: first + stretched, right: right),
    ].filter { $0.end > $0.begin }
    let scale = Double(stretched) / Double(near.count) / (Double(width - stretched) / Double(rest))
    magnification = Int(scale.rounded())
  }

  /// The pixel of a moment.
  func x(_ time: UInt64) -> Int {
    guard let part = parts.first(where: { time <= $0.end }) else { return right }
    return part.left + Int(UInt64(part.right - part.left) * (time - min(time, part.begin)) / (part.end - part.begin))
  }

  /// Marks at round times, far enough apart for their labels.
  func ticks(letterWidth: Int) -> [Tick] {
    var ticks: [Tick] = []
    var free = left
    for part in parts {
      let room = part.right - part.left
      guard room >= 60 else { continue }
      let most = max(1, UInt64(room / 80))
      let step = Self.roundStep((part.end - part.begin) / most + 1)
      var time = (part.begin + step - 1) / step * step
      while time <= part.end {
        let place = x(time)
        let label = Self.label(time, step: step)
        let width = label.count * letterWidth
        if place >= free, place + 3 + width <= right {
          ticks.append(Tick(x: place, label: label))
          free = place + width + 12
        }
        time += step
      }
    }
    return ticks
  }

  /// 1, 2 or 5 times a power of ten: the first that is not less.
  static func roundStep(_ least: UInt64) -> UInt64 {
    var power: UInt64 = 1
    while true {
      for factor in [1, 2, 5] as [UInt64] where power * factor >= least { return power * factor }
      power *= 10
    }
  }

  private static func label(_ time: UInt64, step: UInt64) -> String {
    if step.isMultiple(of: 1000) { return "\(time / 1000) ms" }
    var digits = String(1000 + time % 1000).dropFirst()
    while digits.last == "0", digits.count > 1 { digits.removeLast() }
    return "\(time / 1000).\(digits) ms"
  }
}
