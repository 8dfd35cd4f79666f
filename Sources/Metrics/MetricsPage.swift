// SPDX-License-Identifier: Apache-2.0

/// Metrics as Prometheus reads them: its text format, version 0.0.4.
public struct MetricsPage: Hashable, Sendable {
  /// What a metric's numbers mean.
  public enum Kind: String, Hashable, Sendable {
    /// What only grows, from the start of the process on.
    case counter
    /// What is now.
    case gauge
    /// Counts of durations, by how long they were.
    case histogram
  }

  /// A number, exactly as it is written.
  public enum Value: Hashable, Sendable {
    /// A count, or bytes.
    case count(UInt64)
    /// A duration, which is written in seconds.
    case microseconds(UInt64)
  }

  /// A label and its value.
  public struct Label: Hashable, Sendable {
    let name: String
    let value: String

    /// A label.
    /// - Parameters:
    ///   - name: letters, digits and underscores, not a digit first.
    ///   - value: any text.
    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }
  }

  /// The page.
  public private(set) var text = ""
  /// What every line has.
  private let common: [Label]

  /// An empty page.
  /// - Parameter common: labels of every line, which tell one process from another.
  public init(common: [Label] = []) { self.common = common }

  /// Adds a metric that has one number for each set of labels; nothing where there are none.
  /// - Parameters:
  ///   - name: of letters, digits and underscores; a counter's ends with `_total`, a duration's with `_seconds`.
  ///   - help: a sentence.
  public mutating func add(_ name: String, _ kind: Kind, _ help: String, _ samples: [(labels: [Label], value: Value)]) {
    if samples.isEmpty { return }
    head(name, kind, help)
    for sample in samples { line(name, sample.labels, sample.value) }
  }

  /// Adds a metric that has one number.
  public mutating func add(_ name: String, _ kind: Kind, _ help: String, _ value: Value) {
    add(name, kind, help, [([], value)])
  }

  /// Adds a histogram of durations for each set of labels; nothing where there are none.
  public mutating func add(
    _ name: String, _ help: String, _ histograms: [(labels: [Label], histogram: DurationHistogram)]
  ) {
    if histograms.isEmpty { return }
    head(name, .histogram, help)
    for (labels, histogram) in histograms {
      var below: UInt64 = 0
      for (bound, count) in zip(DurationHistogram.bounds, histogram.counts) {
        below += count
        line("\(name)_bucket", labels + [Label("le", Self.written(.microseconds(bound)))], .count(below))
      }
      line("\(name)_bucket", labels + [Label("le", "+Inf")], .count(histogram.count))
      line("\(name)_sum", labels, .microseconds(histogram.sum))
      line("\(name)_count", labels, .count(histogram.count))
    }
  }

  private mutating func head(_ name: String, _ kind: Kind, _ help: String) {
    text += "# HELP \(name) \(Self.escaped(help, quotes: false))\n# TYPE \(name) \(kind.rawValue)\n"
  }

  private mutating func line(_ name: String, _ labels: [Label], _ value: Value) {
    let all = (common + labels).map { "\($0.name)=\"\(Self.escaped($0.value, quotes: true))\"" }
    text += name + (all.isEmpty ? "" : "{\(all.joined(separator: ","))}") + " \(Self.written(value))\n"
  }

  private static func written(_ value: Value) -> String {
    switch value {
    case .count(let count): return "\(count)"
    case .microseconds(let count):
      var digits = "\(count % 1_000_000)"
      digits = String(repeating: "0", count: 6 - digits.count) + digits
      while digits.last == "0" { digits.removeLast() }
      return "\(count / 1_000_000)" + (digits.isEmpty ? "" : ".\(digits)")
    }
  }

  private static func escaped(_ text: String, quotes: Bool) -> String {
    var escaped = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\\": escaped += "\\\\".unicodeScalars
      case "\n": escaped += "\\n".unicodeScalars
      case "\"" where quotes: escaped += "\\\"".unicodeScalars
      default: escaped.append(scalar)
      }
    }
    return String(escaped)
  }
}
