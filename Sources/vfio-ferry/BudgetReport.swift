// SPDX-License-Identifier: Apache-2.0
internal import Migration

/// What `budget` says.
struct BudgetReport {
  /// A downtime that is to be outlasted.
  struct Demand {
    let downtimeNanoseconds: UInt64
    let marginPercent: UInt64
    /// The downtime and what is added.
    var nanoseconds: UInt64 { downtimeNanoseconds / 100 * (100 + marginPercent) }
  }

  let budget: RetryBudget
  let receiver: ReceiverBudget?
  let demand: Demand?

  /// What fails first where a device is silent, or has nothing to receive into, for ever.
  private enum First: String {
    case retries
    case receiver = "receiver_not_ready"

    var words: String {
      switch self {
      case .retries: "the retries (IBV_WC_RETRY_EXC_ERR)"
      case .receiver: "the retries for want of a receive (IBV_WC_RNR_RETRY_EXC_ERR)"
      }
    }
  }

  private var first: First? {
    switch (budget.toleratedNanoseconds, receiver.flatMap(\.toleratedNanoseconds)) {
    case (nil, nil): nil
    case (_, nil): .retries
    case (nil, _): .receiver
    case (let silence?, let wait?): silence <= wait ? .retries : .receiver
    }
  }

  /// What outlasts the demand: with the retries given, and with as many as there can be.
  private func settings(_ demand: Demand) -> [RetryBudget] {
    let counts = budget.retries == RetransmissionTimeouts.mostRetries ? [budget.retries] : [budget.retries, 7]
    return counts.compactMap {
      RetryBudget.outlasting(nanoseconds: demand.nanoseconds, scheme: budget.scheme, retries: $0)
    }
  }

  private func outlasts(_ tolerated: UInt64?, _ demand: Demand) -> Bool {
    tolerated.map { $0 >= demand.nanoseconds } ?? true
  }

  private static func time(_ nanoseconds: UInt64?) -> String {
    nanoseconds.map { Figures.time($0 / 1000) } ?? "for ever"
  }

  // MARK: For a person

  var lines: [String] {
    let adaptive = budget.scheme == .exponential
    var rows = [
      ["time-out \(budget.timeout)", Self.time(budget.timeoutNanoseconds), adaptive ? "adaptive" : "fixed"],
      ["silence surely tolerated", Self.time(budget.toleratedNanoseconds), tolerance],
      [
        "broken, timers exact", budget.nominalNanoseconds.map { Figures.time($0 / 1000) } ?? "never",
        adaptive ? "time-outs that double from \(budget.timeout) on" : "\(budget.retries + 1) time-outs",
      ],
      [
        "broken at the latest", budget.longestNanoseconds.map { Figures.time($0 / 1000) } ?? "never",
        "a time-out may last four times as long",
      ],
    ]
    if let receiver {
      rows.append(
        [
          "without a receive", Self.time(receiver.toleratedNanoseconds),
          receiver.retries == ReceiverBudget.forever
            ? "no end to the retries" : "\(receiver.retries) times \(Figures.time(receiver.timerNanoseconds / 1000))",
        ])
    }
    var lines = TextTable.lines(rows)
    lines.append("breaks first: \(first?.words ?? "nothing")")
    if budget.timeout == 0 { lines.append("time-out 0: what is lost in the silence is never sent again") }
    if let demand { lines += self.lines(demand) }
    return lines
  }

  private var tolerance: String {
    guard budget.timeout > 0 else { return "no time-out" }
    guard budget.retries > 0 else { return "nothing is ever sent again" }
    return budget.scheme == .fixed
      ? "\(budget.retries) time-outs, then the last retransmission"
      : "NVIDIA's: none longer than the one set, \(budget.retries) times that in all"
  }

  private func lines(_ demand: Demand) -> [String] {
    let verdict = outlasts(budget.toleratedNanoseconds, demand) ? "outlasted" : "NOT OUTLASTED"
    var lines = [
      "downtime \(Self.time(demand.downtimeNanoseconds)) and \(demand.marginPercent) %: "
        + "\(Self.time(demand.nanoseconds)): \(verdict)"
    ]
    let settings = settings(demand)
    for found in settings {
      lines.append(
        "set: timeout \(found.timeout), retry_cnt \(found.retries): tolerates \(Self.time(found.toleratedNanoseconds))")
    }
    if settings.isEmpty { lines.append("no time-out lasts that long") }
    if let receiver, !outlasts(receiver.toleratedNanoseconds, demand) {
      lines.append("without a receive: NOT OUTLASTED; set: rnr_retry 7" + (timer(receiver, demand) ?? ""))
    }
    return lines
  }

  private func timer(_ receiver: ReceiverBudget, _ demand: Demand) -> String? {
    ReceiverBudget.outlasting(nanoseconds: demand.nanoseconds, retries: receiver.retries).map {
      ", or on the guest's side min_rnr_timer \($0.timer): tolerates \(Self.time($0.toleratedNanoseconds))"
    }
  }

  // MARK: For scripts

  var json: JSON {
    .object([
      "scheme": .string(name(budget.scheme)), "timeout": .integer(Int64(budget.timeout)),
      "timeout_ns": JSON(budget.timeoutNanoseconds), "retries": .integer(Int64(budget.retries)),
      "tolerated_ns": JSON(budget.toleratedNanoseconds), "nominal_ns": JSON(budget.nominalNanoseconds),
      "longest_ns": JSON(budget.longestNanoseconds), "receiver": receiver.map(json) ?? .null,
      "breaks_first": JSON(first?.rawValue), "downtime": demand.map(json) ?? .null,
    ])
  }

  private func name(_ scheme: RetransmissionScheme) -> String { scheme == .fixed ? "fixed" : "adaptive" }

  private func json(_ receiver: ReceiverBudget) -> JSON {
    .object([
      "timer": .integer(Int64(receiver.timer)), "timer_ns": .unsigned(receiver.timerNanoseconds),
      "retries": .integer(Int64(receiver.retries)), "tolerated_ns": JSON(receiver.toleratedNanoseconds),
    ])
  }

  private func json(_ demand: Demand) -> JSON {
    .object([
      "downtime_ns": .unsigned(demand.downtimeNanoseconds), "margin_percent": .unsigned(demand.marginPercent),
      "needed_ns": .unsigned(demand.nanoseconds), "outlasts": .bool(outlasts(budget.toleratedNanoseconds, demand)),
      "settings": .array(
        settings(demand).map {
          .object([
            "timeout": .integer(Int64($0.timeout)), "retries": .integer(Int64($0.retries)),
            "tolerated_ns": JSON($0.toleratedNanoseconds),
          ])
        }),
      "receiver_outlasts": JSON(receiver.map { outlasts($0.toleratedNanoseconds, demand) }),
      "receiver_settings": receiver.flatMap { receiver in
        outlasts(receiver.toleratedNanoseconds, demand)
          ? nil : ReceiverBudget.outlasting(nanoseconds: demand.nanoseconds, retries: receiver.retries)
      }.map(json) ?? .null,
    ])
  }
}
