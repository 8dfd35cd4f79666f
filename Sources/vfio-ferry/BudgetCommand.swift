// SPDX-License-Identifier: Apache-2.0
internal import ArgumentParser
internal import Migration

struct BudgetCommand: FerryCommand {
  static let configuration = CommandConfiguration(
    commandName: "budget", abstract: "Say how long an RDMA peer puts up with silence, and what to set for a downtime.",
    discussion: """
      The numbers are those of the peers' queue pairs, as ibv_modify_qp takes them. Nothing is looked at or changed.

      --adaptive is for NICs that choose their time-outs themselves. Silence is counted from the first packet that has no \
      answer, so what a device was late with before it stopped is a part of it: the margin is there for that.
      """)

  @OptionGroup var format: FormatOptions

  @Option(help: ArgumentHelp("Local ACK Timeout, 0 to 31: 4.096 us * 2^N; 0 waits for ever.", valueName: "N"))
  var timeout: Int

  @Option(help: ArgumentHelp("retry_cnt, 0 to 7.", valueName: "N"))
  var retries: Int

  @Option(help: ArgumentHelp("min_rnr_timer of the guest's queue pair, 0 to 31.", valueName: "N"))
  var rnrTimer: Int?

  @Option(help: ArgumentHelp("rnr_retry of the peer's, 0 to 7; 7 is for ever.", valueName: "N"))
  var rnrRetries: Int?

  @Flag(help: "The NIC chooses its time-outs itself (adaptive retransmission).")
  var adaptive = false

  @Option(help: ArgumentHelp("Compare with a downtime of so many milliseconds.", valueName: "MS"))
  var downtime: UInt64?

  @Option(help: ArgumentHelp("What is added to the downtime.", valueName: "PERCENT"))
  var margin = RetryBudget.usualMargin

  func validate() throws {
    guard RetryBudget.timeouts.contains(timeout) else { throw ValidationError("--timeout takes 0 to 31") }
    guard RetryBudget.retryCounts.contains(retries) else { throw ValidationError("--retries takes 0 to 7") }
    if let rnrTimer, !ReceiverBudget.timers.contains(rnrTimer) { throw ValidationError("--rnr-timer takes 0 to 31") }
    if let rnrRetries, !ReceiverBudget.retryCounts.contains(rnrRetries) {
      throw ValidationError("--rnr-retries takes 0 to 7")
    }
    guard (rnrTimer == nil) == (rnrRetries == nil) else {
      throw ValidationError("--rnr-timer and --rnr-retries go together")
    }
    if let downtime, !(1...86_400_000).contains(downtime) {
      throw ValidationError("--downtime takes 1 to 86,400,000 ms")
    }
    guard margin <= 1000 else { throw ValidationError("--margin takes 0 to 1000 percent") }
  }

  func execute(_ console: Console) throws {
    let scheme = adaptive ? RetransmissionScheme.exponential : .fixed
    guard let budget = RetryBudget(scheme: scheme, timeout: timeout, retries: retries) else {
      preconditionFailure("the options were validated")
    }
    let receiver = rnrTimer.flatMap { timer in rnrRetries.flatMap { ReceiverBudget(timer: timer, retries: $0) } }
    let report = BudgetReport(
      budget: budget, receiver: receiver,
      demand: downtime.map { BudgetReport.Demand(downtimeNanoseconds: $0 * 1_000_000, marginPercent: margin) })
    if format.wantsJSON { return console.json(report.json, format) }
    for line in report.lines { console.line(line) }
  }
}
