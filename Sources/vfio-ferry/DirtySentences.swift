// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What rates of dirty memory mean for a migration, in words.
struct DirtySentences {
  let figures: DirtyFigures
  /// Bytes a second that the link between the hosts carries, where that is known.
  let link: UInt64?

  /// How a link would fare.
  enum Verdict: String {
    /// Memory becomes dirty as fast as it can be sent, or faster: the rounds of pre-copy don't become shorter.
    case outrun
    /// It does so at times.
    case outrunAtPeak = "outrun_at_peak"
    /// Every round of pre-copy is shorter than the one before.
    case carried
  }

  /// Nil where no link was named.
  var verdict: Verdict? {
    link.map { link in
      if figures.meanBytesPerSecond >= link { return .outrun }
      return figures.peakBytesPerSecond >= link ? .outrunAtPeak : .carried
    }
  }

  /// How fast, in one line.
  var rates: String {
    let now = figures.last?.bytesPerSecond ?? 0
    return "now \(Self.rate(now))   mean \(Self.rate(figures.meanBytesPerSecond))   "
      + "peak \(Self.rate(figures.peakBytesPerSecond))"
  }

  /// How much was dirty at all.
  var workingSet: String {
    let bytes = UInt64(figures.workingSetPages) * figures.buckets.layout.pageSize
    let product = bytes.multipliedFullWidth(by: 1_000_000)
    let sending = link.flatMap { link in
      product.high < link ? "; sending it takes \(Figures.time(link.dividingFullWidth(product).quotient))" : nil
    }
    return "\(Figures.bytes(bytes)) of \(Figures.bytes(figures.watchedBytes)) written to so far, in "
      + "\(Figures.time(figures.microseconds))\(sending ?? "")"
  }

  /// What it comes to, in one line.
  var meaning: String {
    let mean = figures.meanBytesPerSecond
    let peak = figures.peakBytesPerSecond
    guard peak > 0 else { return "no device has written anything: for them any link will do" }
    guard let link, let verdict else {
      return "a link of \(Figures.linkRate(mean)) or less is outrun by this (at the peak \(Figures.linkRate(peak)))"
    }
    let name = "a link of \(Figures.linkRate(link))"
    // In hundredths; the link is at least 1.
    func share(_ rate: UInt64) -> String {
      let product = rate.multipliedFullWidth(by: 100)
      return product.high < link ? "\(link.dividingFullWidth(product).quotient) %" : "more than all"
    }
    switch verdict {
    case .outrun: return "\(name) is OUTRUN (\(share(mean)) of it): pre-copy can't catch up"
    case .outrunAtPeak: return "\(name) is outrun at the peak (\(share(peak))), not in the mean (\(share(mean)))"
    case .carried: return "\(name) carries it: \(share(mean)) of it in the mean, \(share(peak)) at the peak"
    }
  }

  static func rate(_ bytesPerSecond: UInt64) -> String { "\(Figures.bytes(bytesPerSecond))/s" }

  /// A hot range in one line.
  static func hot(_ range: DirtyFigures.HotRange) -> String {
    "\(Figures.range(range.addresses))  \(range.pagesPerSecond) pages/s, \(range.percent) % of all"
  }
}
