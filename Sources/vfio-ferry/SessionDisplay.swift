// SPDX-License-Identifier: Apache-2.0
internal import Engine
internal import Migration
internal import Synchronization

/// What a person at a terminal sees of a session: a line that is drawn over and, on request, a line for each event.
final class SessionDisplay: Sendable {
  private let console: Console
  private let names: [String]
  private let verbose: Bool
  private let phase = Mutex("")
  private let isDrawn = Mutex(false)

  init(console: Console, names: [String], verbose: Bool) {
    self.console = console
    self.names = names
    self.verbose = verbose
  }

  /// To be called for every note of a session.
  func note(_ note: SessionNote, _ now: MonotonicTime) {
    switch note {
    case .phase(let name):
      phase.withLock { $0 = name }
      if verbose { say("\(name)") }
    case .arc(let arc):
      guard verbose else { return }
      let time = Figures.time(arc.times.microseconds)
      say(
        "\(names[arc.device]): \(arc.from?.name ?? "unknown") -> \(arc.to) in \(time)"
          + (arc.error.map { ": \($0)" } ?? ""))
    case .stepEnded(let report):
      guard verbose else { return }
      let time = Figures.time(report.ended.microseconds(since: report.began))
      let isWhole = report.arcs.allSatisfy { $0.error == nil }
      say(
        "\(report.step): \(isWhole ? "done" : "broken off") after \(time), the devices \(Figures.time(report.skew)) apart"
      )
    case .unlike: break  // It was said when they were compared, before the devices were opened.
    case .reset(let device):
      say("\(names[device]) was reset: what was in it is lost")
    case .decided(let decision):
      if verbose || decision.verdict.isOutOfTheOrdinary { say("\(decision)") }
    case .notLimited(let device, let error):
      say("what comes in to \(names[device]) could not be limited as wanted: \(error)")
    case .stillLimited(let device, let error):
      say("what comes in to \(names[device]) is still limited: \(error); the next start tries to lift that")
    case .restarted(let device, let times):
      say("\(names[device]) was reset by its guest; its state is sent anew (\(times))")
    case .hung(let device, let request, let waited):
      say(
        "\(names[device]) has not answered for \(Figures.time(waited)) (\(request)); the kernel can't be interrupted, "
          + "so nothing goes on until it answers; a second interrupt gives it up")
    case .ready:
      if verbose { say("enough was read ahead: the stop waits for its order") }
    case .slow(let call, let waited):
      say(call.words(names, Figures.time(waited)))
    }
  }

  /// To be called now and then.
  func progress(_ devices: [DeviceProgress], _ now: MonotonicTime) {
    guard console.showsProgress else { return }
    let parts = zip(names, devices).map { name, device in
      let amount = Figures.bytes(device.bytes) + (device.expectedBytes.map { " of \(Figures.bytes($0))" } ?? "")
      return "\(name) \(device.state?.name ?? "unknown") \(amount)"
    }
    draw("\(phase.withLock { $0 }): " + parts.joined(separator: ", "))
  }

  /// Ends the drawn line.
  func end() {
    let wasDrawn = isDrawn.withLock { isDrawn in
      defer { isDrawn = false }
      return isDrawn
    }
    if wasDrawn { console.err("\r\u{1b}[K") }
  }

  private func draw(_ text: String) {
    isDrawn.withLock { $0 = true }
    // A longer line would wrap, and only its last row would be drawn over.
    console.err("\r\u{1b}[K" + text.prefix(79))
  }

  private func say(_ text: String) {
    end()
    console.note(text)
  }
}

extension SessionOutcome {
  /// The failure that a command ends with; nil where the session succeeded.
  func failure(names: [String], doing: String) -> CommandFailure? {
    guard let fault else { return nil }
    var message = "\(doing) failed: \(fault.words(names: names))"
    for fault in cleanupFaults { message += "; then, on the way back, \(fault.words(names: names))" }
    let places = devices.map { device in
      let place = device.isHung ? "hangs" : device.state.map { "is in \($0)" } ?? "does not say where it is"
      return "\(device.name) \(place)\(device.wasReset ? " and was reset, so it is empty" : "")"
    }
    message += "; " + places.joined(separator: ", ")
    if case .mismatch = fault { return .refused(message) }
    return .failed(message)
  }
}

extension SlowCall {
  /// A line for a person.
  func words<Name>(_ names: [Name], _ waited: String) -> String {
    switch self {
    case .readingPages: "reading the trackers of dirty pages has taken \(waited) so far"
    case .limiting(let device): "changing the limit on what comes in to \(names[device]) has taken \(waited) so far"
    }
  }
}
